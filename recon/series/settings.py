"""How an element is reconstructed: the one value that every stage and every record of a run hands on."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

from recon.errors import JobError

Method = Literal["tgv", "tv", "none", "sirt", "fbp"]
DataTermName = Literal["poisson", "least-squares"]
Projector = Literal["auto", "native", "astra"]
CouplingName = Literal["none", "frobenius", "nuclear", "auto"]

METHODS: tuple[str, ...] = get_args(Method)
PRIMAL_DUAL = ("tgv", "tv", "none")  # methods of the primal-dual solver, which certifies its result
DATA_TERMS: tuple[str, ...] = get_args(DataTermName)
PROJECTORS: tuple[str, ...] = get_args(Projector)
COUPLINGS: tuple[str, ...] = get_args(CouplingName)
TOLERANCE = 1e-2
MAX_ITERATIONS = 5000  # of the primal-dual solver, a safety net
SIRT_ITERATIONS = 30


@dataclass(frozen=True)
class Settings:
    """What determines a reconstruction beside the data.

    Attributes:
        method: ``"tgv"``, ``"tv"`` or ``"none"`` (no regulariser), all three primal-dual; ``"sirt"``, ``"fbp"``.
        data_term: ``"poisson"`` for counts, ``"least-squares"`` else.
        strength: a1 of the regulariser; None where it is found from the data.
        tolerance: certified relative gap at which the primal-dual solver stops.
        max_iterations: of the primal-dual solver or of SIRT; None for the method's own number.
        projector: ``"auto"``, ``"native"`` or ``"astra"``.
        thickness: extent along the beam in voxels, or ``"auto"``.
        half_precision: keep the duals of the regulariser in 16 bits.
        memory: bytes that a reconstruction may take where it computes; None for all that are free. With less than it
            needs, a primal-dual method works on slabs, see `recon.solvers.streaming`.
        coupling: ``"none"``: each element on its own; ``"frobenius"`` or ``"nuclear"``: all together, by that norm of
            their gradients, see `recon.solvers.coupled`; ``"auto"``: together where held-out counts gain by it.
        couple_image: the image that was recorded with the maps is one more channel.

    Examples:
        >>> Settings("sirt").iterations, Settings("sirt").certified
        (30, False)
    """

    method: str = "tgv"
    data_term: str = "poisson"
    strength: float | None = None
    tolerance: float = TOLERANCE
    max_iterations: int | None = None
    projector: str = "auto"
    thickness: int | str = "auto"
    half_precision: bool = False
    memory: int | None = None
    coupling: str = "none"
    couple_image: bool = False

    def check(self) -> Settings:
        """These settings, or a JobError that names the value out of range and the remedy."""
        for name, value, known in (
            ("reconstruct method", self.method, METHODS),
            ("data_term", self.data_term, DATA_TERMS),
            ("projector", self.projector, PROJECTORS),
            ("coupling", self.coupling, COUPLINGS),
        ):
            if value not in known:
                raise JobError(f"{name} {value!r} is unknown; use one of {', '.join(known)}")
        if not isinstance(self.tolerance, Real) or not 0 < self.tolerance < 1:
            raise JobError(f"tolerance is {self.tolerance!r}; a relative gap is a number between 0 and 1, such as 1e-2")
        most = self.max_iterations
        if most is not None and (not isinstance(most, Integral) or most < 1):
            raise JobError(f"max_iterations is {most!r}; it must be a whole number, at least 1")
        if self.memory is not None and (not isinstance(self.memory, Real) or self.memory < 1):
            raise JobError(f"memory is {self.memory!r}; it must be a number of bytes, at least 1")
        if why := self.why_not_coupled():
            raise JobError(why)
        return self

    def why_not_coupled(self) -> str:
        """Why these settings cannot couple channels, in one line; empty where they can, or do not ask for it."""
        if self.coupling == "none":
            return "couple_image is for coupling = 'frobenius', 'nuclear' or 'auto'" if self.couple_image else ""
        said = f"coupling = {self.coupling!r}"
        if self.method not in ("tgv", "tv"):
            return f"{said} is for methods tgv and tv, which have gradients to couple, not {self.method}"
        if self.half_precision:
            return f"half_precision does not go with {said}; leave one of them out"
        if self.memory is not None:
            return f"memory does not go with {said}, which works on whole volumes; leave one of them out"
        return ""

    @property
    def certified(self) -> bool:
        """Whether the method ends with a certificate."""
        return self.method in PRIMAL_DUAL

    @property
    def iterations(self) -> int:
        """The most iterations that the method may take."""
        return self.max_iterations or (SIRT_ITERATIONS if self.method == "sirt" else MAX_ITERATIONS)
