"""Reconstruction with a regulariser, data term or projector of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from recon import backend
from recon.errors import InputError, JobError
from recon.model.assembly import make_data_term, make_operator, reachable
from recon.model.grid import grid
from recon.model.noise import automatic_strength
from recon.operators.own import LinearOperator, OwnOperator
from recon.reconstruction.strength import A0_PER_A1
from recon.series.settings import Settings
from recon.series.tilt_series import TiltSeries
from recon.series.volume import Volume
from recon.solvers.own import OwnPrimalDual, Regulariser, check_data_term, check_regulariser
from recon.solvers.pdhg import PrimalDual
from recon.solvers.sirt import sirt

if TYPE_CHECKING:
    from recon.backend import Array
    from recon.solvers import Record
    from recon.solvers.data_terms import DataTerm

MakeDataTerm = Callable[["Array", "Array", "Array"], "DataTerm"]
UNUSABLE = "with a regulariser, data term or projector of your own"


@dataclass(frozen=True)
class OwnParts:
    """What of a reconstruction is the user's own, and what is ours.

    Attributes:
        method: a `Regulariser`, or ``"tgv"``, ``"tv"`` or ``"none"``.
        data_term: makes a data term of counts, scale and offset, or ``"poisson"`` or ``"least-squares"``.
        projector: a `LinearOperator`, or ``"auto"``, ``"native"`` or ``"astra"``.
    """

    method: str | Regulariser
    data_term: str | MakeDataTerm
    projector: str | LinearOperator

    @property
    def any(self) -> bool:
        """Whether anything is the user's own."""
        return not all(isinstance(part, str) for part in (self.method, self.data_term, self.projector))

    def settings(self, ours: Settings) -> Settings:
        """Settings that name what is the user's own by its type.

        Raises:
            JobError: something has not what it needs, or ours has a value out of range.
        """
        for part, what, names in (
            (self.method, "the regulariser", ("__call__", "adjoint", "value", "project")),
            (self.data_term, "data_term", ("__call__",)),
            (self.projector, "the projector", ("__call__", "adjoint")),
        ):
            for name in names if not isinstance(part, str) else ():
                if not callable(getattr(part, name, None)):
                    raise JobError(f"{what} is a {type(part).__name__} without {name}; it needs {', '.join(names)}")
        replace(
            ours,
            method=self.method if isinstance(self.method, str) else "none",
            data_term=self.data_term if isinstance(self.data_term, str) else "poisson",
            projector=self.projector if isinstance(self.projector, str) else "auto",
        ).check()
        if self.method in ("sirt", "fbp"):
            raise JobError(f"method {self.method!r} does not go {UNUSABLE}; use 'tgv', 'tv' or 'none'")
        return replace(
            ours, method=_name(self.method), data_term=_name(self.data_term), projector=_name(self.projector)
        )


def _name(part: object) -> str:
    return part if isinstance(part, str) else str(getattr(part, "__name__", type(part).__name__))


def reconstruct_own(
    series: TiltSeries,
    own: OwnParts,
    ours: Settings,
    strengths: dict[str, float | None],
    *,
    elements: Sequence[str],
    device: str,
    report: Callable[[str], Callable[[Record], None] | None],
) -> dict[str, Volume]:
    """`recon.reconstruct` for `OwnParts`: from a few iterations of SIRT on, without coarser grids.

    Raises:
        JobError: what is the user's own is not what it must be; the line names what failed and the numbers.
        InputError: Poisson statistics asked of scaled maps.
    """
    settings = own.settings(ours)
    if series.scaled and own.data_term == "poisson":
        raise InputError("the maps are scaled, so they are not Poisson counts; use data_term = 'least-squares'")
    where = grid(series, settings.thickness)
    volumes: dict[str, Volume] = {}
    for element in elements:
        named = own.data_term if isinstance(own.data_term, str) else "poisson"
        data = make_data_term(series, element, named, device)
        maps = (len(series.tilts_deg), *series.frame)
        if isinstance(own.projector, str):
            operator = make_operator(series, where.shape, data.counts, own.projector, element=element)
        else:
            operator = OwnOperator(own.projector, where.shape, maps, data.counts)
        data = reachable(data, operator)
        if not isinstance(own.data_term, str):
            data = own.data_term(data.counts, data.scale, data.offset)
            check_data_term(data)
        start = sirt(operator, data, iterations=10).value
        solver: PrimalDual
        if isinstance(own.method, str):
            found = strengths[element]
            a1 = automatic_strength(series, element) if found is None else found
            solver = PrimalDual(operator, data, regulariser=own.method, a1=a1, a0=A0_PER_A1 * a1, start=start)
            settings = replace(settings, strength=a1 if own.method != "none" else None)
        else:
            check_regulariser(own.method, where.shape, backend.namespace(data.counts))
            solver = OwnPrimalDual(operator, data, own.method, start)
        solution = solver.run(settings.tolerance, settings.iterations, callback=report(element))
        assert solution.value is not None
        full = backend.to_host(solution.value)
        solution = replace(solution, value=full if any(where.margin) else None, settings=settings)
        volumes[element] = Volume(where.cut(full), series.pixel_size_nm, element, solution)
    return volumes


__all__ = ["MakeDataTerm", "OwnParts", "reconstruct_own"]
