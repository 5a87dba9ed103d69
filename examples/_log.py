"""The log of a run: a CSV and TensorBoard with a line an epoch."""

import csv
from pathlib import Path
from typing import Any

from _checkpoint import write_file


class Log:
    """``metrics.csv`` and TensorBoard events in a run's folder. Epochs are counted from 1 there.

    Args:
        folder: the run's folder.
        epochs: epochs that are done; lines of later ones, which a resumed run does again, are dropped.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        self.folder, self.path = folder, folder / "metrics.csv"
        self.board: Any = None
        rows = self._rows()
        kept = [row for row in rows if int(row["epoch"]) <= epochs]
        if len(kept) < len(rows):
            write_file(self.path, lambda aside: _write_rows(aside, kept, list(rows[0])))

    def write(self, epoch: int, values: dict[str, float]) -> None:
        """Append the values of a 0-based epoch."""
        row = {"epoch": epoch + 1} | values
        if self.path.exists():
            with self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, list(row)).writerow(row)
        else:
            write_file(self.path, lambda aside: _write_rows(aside, [row], list(row)))
        if self.board is None:
            from torch.utils.tensorboard import SummaryWriter  # slow to import: not before an epoch is done

            self.board = SummaryWriter(str(self.folder), purge_step=epoch + 1)
        for key, value in values.items():
            self.board.add_scalar(key, value, epoch + 1)

    def history(self) -> dict[str, list[float]]:
        """The columns of ``metrics.csv``."""
        rows = self._rows()
        return {key: [float(row[key]) for row in rows] for key in (rows[0] if rows else {})}

    def close(self) -> None:
        """Flush TensorBoard."""
        if self.board is not None:
            self.board.close()

    def _rows(self) -> list[dict[str, str]]:
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))


def _write_rows(path: Path, rows: list[dict[str, Any]], columns: list[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
