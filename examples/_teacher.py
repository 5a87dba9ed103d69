"""A teacher for distillation: any network of timm, on the pictures that the student sees."""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import timm
import torch
from timm.models import is_model, list_models
from torch import Tensor, nn
from torch.nn import functional as F

from snnkit._suggest import nearest

ELSE = "--teacher-weights FILE takes them from a file."


def _first(problem: Exception) -> str:
    """The first line of a message as a sentence."""
    return (str(problem).splitlines() or [type(problem).__name__])[0].rstrip(".") + "."


class Teacher(nn.Module):
    """Logits of a frozen network; pictures are brought to its mean, standard deviation and, if it needs that, size.

    Args:
        name: timm's name, or one of ours.
        weights: a file; empty: timm's own pretrained weights, which it downloads.
        classes: the student's.
        mean, std: what the student's pictures were normalised with.
    """

    def __init__(self, name: str, weights: str, classes: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if not is_model(name.split(".")[0]):
            raise ValueError(f"timm has no teacher {name!r}.{nearest(name, list_models())}")
        if weights and not Path(weights).is_file():
            where = Path(weights).absolute().parent
            raise FileNotFoundError(f"--teacher-weights {weights}: there is no such file (looked in {where}).")
        try:
            self.net = timm.create_model(name, num_classes=classes, pretrained=not weights, checkpoint_path=weights)
        except (EOFError, KeyError, RuntimeError, UnpicklingError) as problem:
            if not weights:
                raise ValueError(f"--teacher {name}: {_first(problem)} {ELSE}") from problem
            why = " ".join(str(problem).split())[:200]
            raise ValueError(f"--teacher-weights {weights} is no {name} with {classes} classes: {why} ...") from problem
        except OSError as problem:
            if weights:
                raise
            raise OSError(f"--teacher {name}: timm cannot get its weights. {_first(problem)} {ELSE}") from problem
        self.net.eval().requires_grad_(False)
        cfg = self.net.pretrained_cfg
        self.size = cfg["input_size"][-2:] if cfg.get("fixed_input_size") else None
        ours, theirs = (torch.tensor(m)[:, None, None] for m in (mean, cfg["mean"]))
        our_std, their_std = (torch.tensor(m)[:, None, None] for m in (std, cfg["std"]))
        self.register_buffer("factor", our_std / their_std, persistent=False)
        self.register_buffer("shift", (ours - theirs) / their_std, persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, classes]`` of normalised pictures ``[B, C, H, W]``."""
        x = x * self.factor + self.shift
        if self.size and self.size != x.shape[-2:]:
            x = F.interpolate(x, self.size, mode="bicubic", antialias=True)
        return self.net(x)
