"""One volume over several ranks: slabs along the tilt axis, their halos, and sums over all of them.

Every slice of a single-axis series is projected by itself, so a rank holds a slab of slices and the same rows of the
maps. The regulariser looks at the slices beside: a slab has a halo of two on each side, renewed after each iteration
during projections (`Halos`). Where an alignment mixes rows, they are fetched from whoever has them (`Ranks.fetch`).

Where there is one rank, everything here leaves arrays and numbers as they are.
"""

from recon.parallel.beside import at_once, side_by_side, stop_if_unwanted
from recon.parallel.halos import Halos
from recon.parallel.launch import launched, local_ranks, use_own_gpu
from recon.parallel.messages import Finish
from recon.parallel.ranks import ALONE, HALO, Range, Ranks, check_ranks
from recon.parallel.slab import Slab, rows_of, slab_of

__all__ = [
    "ALONE",
    "HALO",
    "Finish",
    "Halos",
    "Range",
    "Ranks",
    "Slab",
    "at_once",
    "check_ranks",
    "launched",
    "local_ranks",
    "rows_of",
    "side_by_side",
    "slab_of",
    "stop_if_unwanted",
    "use_own_gpu",
]
