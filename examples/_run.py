"""The run of a training script: its folder, its checkpoints, its log, and how it is stopped.

A run folder holds ``settings.json``, ``command.json`` (the lines that began and resumed it), ``provenance.json`` (where
the data come from), ``metrics.csv`` (a line an epoch), TensorBoard events, the checkpoints ``last`` (all that a resumed
run needs) and ``best`` (the model of the chosen epoch), and at the end ``result.json`` and ``report.png``.
"""

import math
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import torch
from _checkpoint import empty_folder, load_tensors, random_states, rename_folder, set_random_states, whole, write_file
from _command import command, record_start
from _log import Log
from _settings import read_json, refuse, write_json, write_settings
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import nn
from tqdm import tqdm

import snnkit
from snnkit.nn.check_parameters import check_parameters


@dataclass
class Position:
    """Where a training stands: ``step`` batches of ``epoch`` (0-based) are done; the rest are sums over them."""

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    right: float = 0.0
    seen: float = 0.0
    seconds: float = 0.0


def refuse_folder(folder: str | Path, resumed: Path | None) -> None:
    """End the program if a new run cannot have this folder; worth a call before the data are read."""
    if resumed is not None:
        return
    folder = Path(folder or "runs")
    if (folder / "settings.json").exists():
        if whole(folder / "last"):
            refuse(f"{folder} already holds a run. Go on with --resume {folder}, or give another --folder.")
        refuse(f"{folder} already holds a run, which has no checkpoint yet. Delete it, or give another --folder.")
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        refuse(f"--folder {folder}: {above} is {'not writable' if above.is_dir() else 'a file'}. Give another one.")


def new_folder(name: str) -> str:
    """Make a folder that no other run has, also if it starts in the same second."""
    for number in count(1):
        folder = Path(name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return str(folder)
        except FileExistsError:
            continue
        except OSError as problem:
            refuse(f"--folder {folder} cannot be made: {problem.strerror}. Give another one.")
    raise AssertionError("count ends")


class Run:
    """One training: where it writes, when it writes a checkpoint, and when it stops.

    Args:
        settings: the script's settings; those used here are folder, checkpoint_seconds, checkpoint_steps.
        name: name of a new run's folder under ``runs/``; a time stamp is added.
        resumed: the folder of an earlier run to go on from, or None.
        accelerator: tells the processes apart.
    """

    def __init__(self, settings: Any, name: str, resumed: Path | None, accelerator: Accelerator) -> None:
        self.settings, self.accelerator, self.main = settings, accelerator, accelerator.is_main_process
        self.many = accelerator.num_processes > 1
        self.resumed = resumed is not None
        made = [resumed or settings.folder]
        if self.main and not made[0]:
            made = [new_folder(f"runs/{name}-{datetime.now():%Y%m%d-%H%M%S}")]
        broadcast_object_list(made)
        self.folder = Path(made[0])
        refuse_folder(self.folder, resumed)
        accelerator.wait_for_everyone()  # all have looked before one writes
        if self.main and not resumed:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as problem:
                refuse(f"--folder {self.folder} cannot be made: {problem.strerror}. Give another one.")
            write_settings(settings, self.folder / "settings.json")
            record_start(self.folder, accelerator.num_processes, resumed=False)
        self.log: Log | None = None
        self.written = time.monotonic()
        self.best: dict[str, Any] | None = None  # epoch, accuracy and loss of the best epoch so far
        self.asked = False  # to stop, by Ctrl-C or by a cluster's SIGTERM
        self.stopping = False  # asked for, and all processes know
        self.handlers = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(number, signal.SIG_DFL)  # the second one is obeyed at once
        if self.main:
            print("\nstopping after this step, with a checkpoint (again: at once) ...", file=sys.stderr, flush=True)

    def due(self, step: int) -> bool:
        """Whether to write a checkpoint after this step: after N steps or seconds, or to stop."""
        every = self.settings.checkpoint_steps
        due = every > 0 and step % every == 0
        if self.many and step % 8:  # processes must agree, and a vote is a message: not after each step
            return due
        self.stopping = self._any(self.asked)
        return due or self.stopping or self._any(time.monotonic() - self.written >= self.settings.checkpoint_seconds)

    def _any(self, wish: bool) -> bool:
        """Whether a process wishes so; the same answer in all of them."""
        if not self.many:
            return wish
        return bool(self.accelerator.reduce(torch.tensor(float(wish), device=self.accelerator.device)).item())

    def save(self, at: Position, model: nn.Module, *states: Any) -> None:
        """Write ``last``: model, optimisers and schedules (``states``: all that has a ``state_dict``), generators.

        If the run was asked to stop, this is where it does.
        """
        aside = self.folder / "last.writing"
        if self.main:
            empty_folder(aside)
        self.accelerator.wait_for_everyone()
        torch.save(random_states(), aside / f"random_{self.accelerator.process_index}.pt")
        if self.main:
            snnkit.save_checkpoint(self.accelerator.unwrap_model(model), aside / "model.safetensors")
            torch.save([thing.state_dict() for thing in states], aside / "training.pt")
            state = {"position": asdict(at), "processes": self.accelerator.num_processes, "torch": torch.__version__}
            state["device"] = self.accelerator.device.type
            write_json(state, aside / "state.json")
        self.accelerator.wait_for_everyone()
        if self.main:
            rename_folder(aside, self.folder / "last")
        self.written = time.monotonic()
        if self.stopping:
            self._stop(at)

    def stops(self, epoch: int) -> bool:
        """Whether to stop after this epoch: by request, or by ``--stop-after``."""
        wish = self.asked or self.settings.stop_after == epoch + 1
        self.stopping = self._any(wish) and epoch + 1 < self.settings.epochs
        return self.stopping

    def check(self, model: nn.Module, loss: float) -> None:
        """End a run whose loss or learnt parameters became impossible: it would go on and learn nothing."""
        try:
            if not math.isfinite(loss):
                raise ValueError(f"The loss became {loss}; a lower --lr may help.")
            check_parameters(model)  # of neurons: tau > 0, no NaN
        except ValueError as problem:
            refuse(f"{problem} Log and last checkpoint: {self.folder}")

    def _stop(self, at: Position) -> None:
        self.close()
        if self.main:
            where = f"in epoch {at.epoch + 1}, after {at.step} steps of it" if at.step else f"after epoch {at.epoch}"
            self.say(f"stopped {where}. This goes on from there:")
            self.say(self._resume_line(self.accelerator.num_processes))
        raise SystemExit(130 if self.asked else 0)  # as a shell counts Ctrl-C; a planned stop is a success

    def _resume_line(self, processes: int) -> str:
        return command(["--resume", str(self.folder)], processes)

    def restore(self, model: nn.Module, *states: Any) -> Position:
        """Read ``last`` into the arguments that ``save`` had and open the log; in a new run: the start."""
        last, at = whole(self.folder / "last"), Position()
        if last is None and self.resumed:
            refuse(
                f"{self.folder} holds no checkpoint: {self.folder / 'last'} was never written, or is gone. "
                "Start a new run in another --folder, or delete this one."
            )
        if last is not None:
            state = read_json(last / "state.json")
            lacking = {"processes", "torch", "position"} - state.keys()
            if lacking:
                refuse(f"{last / 'state.json'} is damaged: no {', '.join(sorted(lacking))}. Start a new run.")
            if state["processes"] != self.accelerator.num_processes:
                then, now = state["processes"], self.accelerator.num_processes
                refuse(
                    f"{self.folder} was trained by {then} processes, now there are {now}: not the same run. "
                    f"{self._resume_line(then)} goes on with it."
                )
            if state["torch"] != torch.__version__:
                self.say(
                    f"note: begun with torch {state['torch']}, now it is {torch.__version__}: last bits may differ."
                )
            then, now = state.get("device"), self.accelerator.device.type
            if then not in (None, now):
                self.say(f"note: so far on {then}, now on {now}, whose dropout masks and last bits are others.")
            try:
                snnkit.load_checkpoint(self.accelerator.unwrap_model(model), last / "model.safetensors")
            except (OSError, RuntimeError, ValueError) as problem:
                refuse(problem)
            for thing, saved in zip(states, load_tensors(last / "training.pt"), strict=True):
                thing.load_state_dict(saved)
            set_random_states(load_tensors(last / f"random_{self.accelerator.process_index}.pt"))
            at = Position(**state["position"])
        # The folder tells, not the state in ``last``: a run killed between writing the two still knows its best epoch.
        best = whole(self.folder / "best")
        self.best = read_json(best / "record.json") if best else None
        if self.main:
            self.log = Log(self.folder, at.epoch)
            if self.resumed:  # not before: a refused one leaves the folder as it was
                record_start(self.folder, self.accelerator.num_processes, resumed=True)
        return at

    def save_best(self, model: nn.Module, record: dict[str, Any]) -> None:
        """Write ``best``: the model, and why it was chosen."""
        self.best = record
        if self.main:
            aside = empty_folder(self.folder / "best.writing")
            snnkit.save_checkpoint(self.accelerator.unwrap_model(model), aside / "model.safetensors")
            write_json(record, aside / "record.json")
            rename_folder(aside, self.folder / "best")
        self.accelerator.wait_for_everyone()

    def is_best(self, accuracy: float, loss: float) -> bool:
        """Whether the epoch has the highest accuracy so far, or the same with a lower loss."""
        return self.best is None or (accuracy, -loss) > (self.best["accuracy"], -self.best["loss"])

    def best_model(self) -> Path:
        """The model file of the best epoch so far."""
        file = (whole(self.folder / "best") or self.folder / "best") / "model.safetensors"
        if not file.exists():
            refuse(f"{file} is gone, the model of the chosen epoch. Put it back, or train anew in another --folder.")
        return file

    def say(self, text: str) -> None:
        """Print, once for all processes, without disturbing the progress bar."""
        if self.main:
            tqdm.write(text)
            sys.stdout.flush()

    def progress(self, loader: Any, epoch: int, start: int) -> Any:
        """The loader with a progress bar; without one where nobody looks."""
        quiet = not (self.main and sys.stdout.isatty())
        text = f"epoch {epoch + 1}/{self.settings.epochs}"
        return tqdm(loader, text, start + len(loader), initial=start, leave=False, disable=quiet)

    def end_epoch(self, epoch: int, values: dict[str, float]) -> None:
        """Log the values of an epoch and print the main ones."""
        if self.main:
            self.log.write(epoch, values)
        train, valid = (100 * values[f"{part}_accuracy"] for part in ("train", "validation"))
        self.say(
            f"epoch {epoch + 1:3d}/{self.settings.epochs}  loss {values['train_loss']:.3f}  train {train:.1f} %  "
            f"validation {valid:.1f} %  {values['seconds']:.2f} s"
        )

    def write_result(self, result: dict[str, Any]) -> None:
        """Write ``result.json``."""
        write_file(self.folder / "result.json", lambda aside: write_json(result, aside))

    def close(self) -> None:
        """Flush TensorBoard and give Ctrl-C back."""
        if self.log is not None:
            self.log.close()
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
