"""A job over several ranks: rank 0 runs it, the others help it to reconstruct."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from recon.job.progress import Watcher
from recon.parallel import ALONE, Ranks, use_own_gpu
from recon.reconstruction.keeper import Keeper, Shared
from recon.reconstruction.reconstruct import Strength, reconstruct_with
from recon.series.settings import Settings
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume


@dataclass(frozen=True, eq=False)
class Call:
    """What is reconstructed; rank 0 tells it to the others."""

    series: TiltSeries
    settings: Settings
    strength: Strength
    elements: Sequence[str] | None
    device: str

    def run(
        self, ranks: Ranks = ALONE, keeper: Keeper | None = None, watch: Watcher | None = None
    ) -> dict[str, Volume]:
        """Reconstruct, with the others if there are any."""
        if ranks.size > 1 and ranks.rank == 0:
            ranks.order(self)
        if ranks.size > 1 and self.device == "cuda":
            use_own_gpu()
        return reconstruct_with(
            self.series,
            self.settings,
            self.strength,
            elements=self.elements,
            device=self.device,
            progress=False if watch is None else watch.step,
            log=(lambda line: None) if watch is None else watch.log,
            checkpoints=Shared(ranks, keeper) if ranks.size > 1 else keeper,
            ranks=ranks,
        )


def serve(ranks: Ranks) -> None:
    """What ranks other than 0 do: calls, until there are no more. Signals are rank 0's."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        while (call := ranks.next_order()) is not None:
            call.run(ranks)
    except (Exception, MemoryError) as exc:
        print(
            f"error: rank {ranks.rank}: {' '.join(str(exc).split()) or type(exc).__name__}", file=sys.stderr, flush=True
        )
        ranks.abort(2)


__all__ = ["Call", "serve"]
