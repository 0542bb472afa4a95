"""What the elements of one call of `recon.reconstruct` share, and the strength that each is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recon.files import from_json, to_json
from recon.parallel import Ranks
from recon.reconstruction.keeper import Keeper
from recon.reconstruction.problem import Problem
from recon.reconstruction.strength import by_rule, choose
from recon.series.volume import StrengthChoice

Log = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """What the elements of one call share."""

    device: str
    log: Log
    keeper: Keeper
    ranks: Ranks


def chosen(problem: Problem, run: Run) -> StrengthChoice:
    """The strength chosen before the run was stopped, or one chosen now; the rule's if the user wants an end."""
    kept = run.keeper.fetch("strength", problem.element)
    if kept is not None:
        return from_json(StrengthChoice, kept[0], "the checkpoint's strength", "start anew with --overwrite")
    choice = choose(problem, stop=lambda: run.keeper.stop_wanted, log=run.log)
    if choice is None:
        run.keeper.stop_asked("search", problem.element, {}, {})  # leaves, if that was the wish
        return by_rule(problem)
    values = to_json(choice)
    assert isinstance(values, dict)
    run.keeper.stash("strength", problem.element, values, {}, always=True)
    return choice
