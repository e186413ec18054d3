"""Hyperband: brackets of trials that are drawn together, and promotion to longer jobs.

After Li et al. (2018, JMLR 18(185), Algorithm 1) brackets trade many trials that begin short against few that
begin long; within a bracket the best 1/factor of each rung go on. A trial's job at the next rung is a separate run
that does not continue the shorter one: its schedule differs, any launcher can run it, and its folder is found again.
That costs at most factor / (factor - 1) times the steps.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from framework.errors import UserError


@dataclass(frozen=True)
class Rung:
    """Jobs of one length: `level` of the fidelity (None where all are equal); `keep` trials are promoted, 0 at last.

    `jobs` is the number of jobs of the bracket's rungs before it.
    """

    level: int | None = None
    keep: int = 0
    jobs: int = 0


@dataclass(frozen=True)
class Bracket:
    """`size` trials from number `first` on, and their rungs; the first job is number `job`."""

    first: int
    size: int
    job: int
    rungs: tuple[Rung, ...] = (Rung(),)


@dataclass(frozen=True)
class Fidelity:
    """A key whose number makes a job short (`least`) or long (`most`).

    `brackets` null: all of Hyperband's; 1: successive halving alone, from the shortest jobs. Raise UserError for
    numbers that do not allow a promotion.
    """

    key: str
    least: int
    most: int
    factor: int
    brackets: int | None

    @staticmethod
    def of(settings: Mapping[str, Any]) -> "Fidelity":
        names = Fidelity.__dataclass_fields__
        if unknown := sorted(set(settings) - set(names)):
            raise UserError(f"hydra.sweeper.fidelity: no {unknown[0]!r}; it takes {', '.join(names)}")
        if absent := [name for name in ("key", "least", "most") if settings.get(name) is None]:
            raise UserError(
                f"hydra.sweeper.fidelity needs {absent[0]!r}; for example key=training.steps least=50 most=450"
            )
        for name in ("least", "most", "factor"):
            if not isinstance(settings[name], int):
                raise UserError(f"hydra.sweeper.fidelity.{name} is {settings[name]!r}; expected an integer")
        return Fidelity(**settings)

    def __post_init__(self):
        if self.factor < 2:
            raise UserError(f"hydra.sweeper.fidelity.factor is {self.factor}; expected 2 or more")
        if not 0 < self.least <= self.most // self.factor:
            raise UserError(
                f"hydra.sweeper.fidelity goes from {self.least} to {self.most}; "
                f"expected most to be at least factor={self.factor} times least, and least above 0"
            )
        if self.brackets is not None and self.brackets < 1:
            raise UserError(f"hydra.sweeper.fidelity.brackets is {self.brackets}; expected 1 or more, or null for all")

    @property
    def shapes(self) -> list[tuple[int, tuple[Rung, ...]]]:
        """Trials and rungs of each bracket, the one with the shortest jobs first."""
        top = 0
        while self.least * self.factor ** (top + 1) <= self.most:
            top += 1
        shapes = []
        for s in range(top, -1, -1)[: self.brackets]:
            size = -(-(top + 1) * self.factor**s // (s + 1))
            counts = [size // self.factor**i for i in range(s + 1)] + [0]
            shapes.append(
                (
                    size,
                    tuple(
                        Rung(round(self.most / self.factor ** (s - i)), counts[i + 1], sum(counts[:i]))
                        for i in range(s + 1)
                    ),
                )
            )
        return shapes


def batches(trials: int, size: int) -> Iterator[Bracket]:
    """Yield brackets of `size` trials, each trial one job."""
    for first in range(0, trials, size):
        yield Bracket(first, min(size, trials - first), first)


def hyperband(trials: int, fidelity: Fidelity) -> Iterator[Bracket]:
    """Yield complete brackets, in turn, until there are at least so many trials."""
    first = job = 0
    for turn in count():
        if first >= trials:
            return
        size, rungs = fidelity.shapes[turn % len(fidelity.shapes)]
        yield Bracket(first, size, job, rungs)
        first += size
        job += rungs[-1].jobs + max(1, size // fidelity.factor ** (len(rungs) - 1))
