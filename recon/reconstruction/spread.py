"""Arrays that all ranks see as one file: each writes its own slices of a volume, and reads its own rows of the maps.

Rank 0 maps the finished volume into its memory, so that the system reads from the file what is looked at, and lets it
go again. The files lie beside the checkpoints and go with them, whatever ends the run.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recon.errors import OutputError, ReconError
from recon.io.folder import discard, explain
from recon.parallel import Range, Ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from recon.series.tilt_series import TiltSeries

MAPS = ("counts", "weights", "element_weights", "background_maps")  # of a series, what ranks read of it


@dataclass(frozen=True)
class SharedFolder:
    """A folder that all ranks see.

    Attributes:
        ranks: that share it.
        path: where it is.
        mark: of this run's files in it, on all ranks the same.
    """

    ranks: Ranks
    path: Path
    mark: str

    def volume(self, name: str, part: NDArray[np.float32], rows: Range, n: int) -> NDArray[np.float32]:
        """A volume of n rows y of which each rank has some; on rank 0 mapped, on the others without voxels.

        Args:
            name: of the volume.
            part: ``(z, y, x)``, this rank's rows.
            rows: which these are, first and end.
            n: rows of all ranks.

        Raises:
            OutputError: the folder is not seen by all, or cannot be written, or its disk is full.
        """
        nz, _, nx = part.shape
        path, row = self._file(name), nx * 4

        def room() -> None:
            self.path.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                _reserve(file.fileno(), nz * n * row)

        def own() -> None:
            with path.open("r+b", buffering=0) as file:
                for z, plane in enumerate(part):
                    file.seek((z * n + rows[0]) * row)
                    file.write(np.ascontiguousarray(plane, np.float32).data)
                os.fsync(file.fileno())

        self._together(room if self.ranks.rank == 0 else None, path)
        self._together(own if part.size else None, path)
        if self.ranks.rank:
            return np.zeros((0, 0, 0), np.float32)
        found = np.asarray(np.memmap(path, np.float32, "c", shape=(nz, n, nx)))
        if os.name == "posix":
            discard(path)  # the system keeps it until it is no longer mapped
        return found

    def put_maps(self, series: TiltSeries) -> TiltSeries:
        """The series without its maps, which go into files; by rank 0."""
        without: dict[str, Any] = {"image": None}
        for name, a in self._maps(series).items():
            with explain(self.path):
                self.path.mkdir(parents=True, exist_ok=True)
                with self._file(f"series.{name}").open("wb") as file:
                    np.save(file, a)
                    file.flush()
                    os.fsync(file.fileno())
            without[name] = np.empty(0, np.float32)
        return replace(series, **without)

    def get_maps(self, series: TiltSeries) -> TiltSeries:
        """The series with its maps mapped from these files."""
        found: dict[str, Any] = {}
        try:
            for name in self._maps(series):
                found[name] = np.asarray(np.load(self._file(f"series.{name}"), mmap_mode="c"))
        except FileNotFoundError as exc:
            raise OutputError(
                f"{self.path} is not the same folder for all ranks; choose an --out on a disk that all nodes share"
            ) from exc
        return replace(series, **found)

    def discard_maps(self) -> None:
        for name in MAPS:
            discard(self._file(f"series.{name}"))

    @staticmethod
    def _maps(series: TiltSeries) -> dict[str, Any]:
        return {name: a for name in MAPS if (a := getattr(series, name)) is not None}

    def _file(self, name: str) -> Path:
        return self.path / f".{name}.partial-{self.mark}"  # a name that the next run clears away

    def _together(self, work: Callable[[], None] | None, path: Path) -> None:
        """All ranks go on when each has done its part; what went wrong is raised on rank 0, which ends them all."""
        wrong = ""
        try:
            with explain(path):
                if work is not None:
                    work()
        except ReconError as exc:
            wrong = str(exc)
        said = self.ranks.everyone(wrong)
        if self.ranks.rank == 0 and any(said):
            discard(path)
            raise OutputError(next(filter(None, said)))


def _reserve(file: int, size: int) -> None:
    """Room on the disk; that there is none is told now, not by a signal when it is written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


__all__ = ["SharedFolder"]
