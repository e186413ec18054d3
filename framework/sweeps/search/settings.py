"""What a search is told: how settings are drawn, how many, by what they are judged."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from framework.errors import UserError, suggest

SAMPLERS = ("tpe", "cmaes", "random", "grid")
COSTS = ("seconds", "compile_seconds", "step_flops", "step_bytes", "peak_memory")  # objectives from a run's cost.json
LOSS = "loss"
FIDELITY = {"key": None, "least": None, "most": None, "factor": 3, "brackets": None}


@dataclass
class Settings:
    """The keys of `hydra.sweeper`.

    `batch` trials are drawn at once and handed to the launcher together; with `cmaes` they are a generation. The first
    `startup` of `tpe` are random, `sigma` is the first spread of `cmaes`. `params` is searched beside what the command
    line says, which wins. Every trial runs over all of `repeat`, overrides such as `seed=0,1,2`, and the mean counts.
    All of `objectives` are to be small: `loss` is what the command returns, the others are numbers of the run's
    `cost.json`. `fidelity.key` makes jobs short or long, from `least` to `most`; few go on to the next longer jobs (see
    `Fidelity`). `storage` is a file of SQLite; null keeps it in the sweep's folder.

    Raises UserError for what cannot be.
    """

    sampler: str = "tpe"
    seed: int = 0
    trials: int = 32
    batch: int = 8
    startup: int = 10
    sigma: float = 0.3
    params: dict[str, Any] = field(default_factory=dict)
    repeat: list[str] = field(default_factory=list)
    objectives: list[str] = field(default_factory=lambda: [LOSS])
    fidelity: dict[str, Any] = field(default_factory=lambda: dict(FIDELITY))
    storage: str | None = None

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise _unknown("sampler", self.sampler, SAMPLERS)
        for name in ("trials", "batch", "startup"):
            if getattr(self, name) < 1:
                raise UserError(f"hydra.sweeper.{name} is {getattr(self, name)}; expected 1 or more")
        if not 0 < self.sigma <= 1:
            raise UserError(
                f"hydra.sweeper.sigma is {self.sigma}; expected a share of each range, above 0 and at most 1"
            )
        if not self.objectives:
            raise UserError("hydra.sweeper.objectives is empty; expected at least loss")
        for name in self.objectives:
            if name not in (LOSS, *COSTS):
                raise _unknown("objective", name, (LOSS, *COSTS))
        if self.halves and len(self.objectives) > 1:
            raise UserError(f"hydra.sweeper.fidelity ranks by one objective, got {self.objectives}; leave one of them")
        if self.sampler == "cmaes":
            self._evolves()

    def _evolves(self) -> None:
        if len(self.objectives) > 1:
            raise UserError(f"hydra.sweeper.sampler=cmaes has one objective, got {self.objectives}; leave one of them")
        if self.halves:
            raise UserError("hydra.sweeper.sampler=cmaes compares jobs of one length; leave hydra.sweeper.fidelity out")
        if self.batch < 4:
            raise UserError(f"hydra.sweeper.batch is {self.batch}, a generation of cmaes; expected 4 or more")

    @property
    def halves(self) -> bool:
        """Whether trials begin with short jobs."""
        return self.fidelity != FIDELITY


def _unknown(what: str, name: str, there: Sequence[str]) -> UserError:
    suggestion = suggest(name, there, f"there are {', '.join(there)}")
    return UserError(f"hydra.sweeper: no {what} {name!r}; {suggestion}")
