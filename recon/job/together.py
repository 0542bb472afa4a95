"""A job over several ranks: rank 0 runs it, the others help it to reconstruct."""

from __future__ import annotations

import secrets
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from recon.job.progress import Watcher
from recon.parallel import Ranks, use_own_gpu
from recon.reconstruction.keeper import Keeper, Shared
from recon.reconstruction.reconstruct import Strength, reconstruct_with
from recon.reconstruction.spread import SharedFolder
from recon.series.settings import Settings
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume


@dataclass(frozen=True, eq=False)
class Call:
    """What is reconstructed."""

    series: TiltSeries
    settings: Settings
    strength: Strength
    elements: Sequence[str] | None
    device: str

    def run(
        self, ranks: Ranks, folder: Path | None = None, keeper: Keeper | None = None, watch: Watcher | None = None
    ) -> dict[str, Volume]:
        """Reconstruct; as rank 0 of several with the others, whose maps and volumes lie in a folder."""
        watch = watch or Watcher()
        if ranks.size == 1:
            return self._reconstruct(keeper, watch, ranks)
        assert folder is not None
        shared = SharedFolder(ranks, folder, secrets.token_hex(4))
        try:
            ranks.order((replace(self, series=shared.put_maps(self.series)), folder, shared.mark))
            return self._reconstruct(Shared(ranks, keeper, shared), watch, ranks)
        finally:
            shared.discard_maps()

    def help(self, ranks: Ranks, folder: SharedFolder) -> None:
        """Do the part of a rank that is not 0."""
        mine = replace(self, series=folder.get_maps(self.series))
        mine._reconstruct(Shared(ranks, None, folder), Watcher(), ranks)

    def _reconstruct(self, keeper: Keeper | None, watch: Watcher, ranks: Ranks) -> dict[str, Volume]:
        if ranks.size > 1 and self.device == "cuda":
            use_own_gpu()
        return reconstruct_with(
            self.series,
            self.settings,
            self.strength,
            elements=self.elements,
            device=self.device,
            progress=watch.step,
            log=watch.log,
            checkpoints=keeper,
            ranks=ranks,
        )


def serve(ranks: Ranks) -> None:
    """What ranks other than 0 do: calls, until there are no more. Signals are rank 0's."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        while (order := ranks.next_order()) is not None:
            call, path, mark = order
            call.help(ranks, SharedFolder(ranks, path, mark))
    except (Exception, MemoryError) as exc:
        print(
            f"error: rank {ranks.rank}: {' '.join(str(exc).split()) or type(exc).__name__}", file=sys.stderr, flush=True
        )
        ranks.abort(2)


__all__ = ["Call", "serve"]
