"""Settings of a search: the sampler, the number of trials, the objectives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from framework.errors import UserError, suggest

SAMPLERS = ("tpe", "cmaes", "random", "grid")
COSTS = ("seconds", "compile_seconds", "step_flops", "step_bytes", "peak_memory")  # objectives in a run's cost.json
LOSS = "loss"
FIDELITY = {"key": None, "least": None, "most": None, "factor": 3, "brackets": None}


@dataclass
class Settings:
    """The keys of `hydra.sweeper`.

    `batch` trials are drawn at once and given to the launcher together; with `cmaes` they are a generation. The first
    `startup` trials of `tpe` are random, `sigma` is the initial step size of `cmaes`. `params` is searched in addition
    to the keys of the command line, which take precedence. Every trial runs all of `repeat`, overrides such as
    `seed=0,1,2`, and its value is the mean. All of `objectives` are minimized: `loss` is the value of the command, the
    others are in the run's `cost.json`. `fidelity.key` sets the length of jobs, from `least` to `most`; few trials are
    promoted to longer jobs (see `Fidelity`). `storage` is a file of SQLite; null: in the sweep's folder.

    Raise UserError for invalid settings.
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
                f"hydra.sweeper.sigma is {self.sigma}; expected a fraction of each range, above 0 and at most 1"
            )
        if not self.objectives:
            raise UserError("hydra.sweeper.objectives is empty; expected at least loss")
        for name in self.objectives:
            if name not in (LOSS, *COSTS):
                raise _unknown("objective", name, (LOSS, *COSTS))
        if self.uses_fidelity and len(self.objectives) > 1:
            raise UserError(f"hydra.sweeper.fidelity ranks by one objective, got {self.objectives}; keep one of them")
        if self.sampler == "cmaes":
            self._check_cmaes()

    def _check_cmaes(self) -> None:
        if len(self.objectives) > 1:
            raise UserError(f"hydra.sweeper.sampler=cmaes has one objective, got {self.objectives}; keep one of them")
        if self.uses_fidelity:
            raise UserError("hydra.sweeper.sampler=cmaes compares jobs of one length; leave hydra.sweeper.fidelity out")
        if self.batch < 4:
            raise UserError(f"hydra.sweeper.batch is {self.batch}, a generation of cmaes; expected 4 or more")

    @property
    def uses_fidelity(self) -> bool:
        """Whether trials begin with short jobs."""
        return self.fidelity != FIDELITY


def _unknown(kind: str, name: str, options: Sequence[str]) -> UserError:
    suggestion = suggest(name, options, f"available are {', '.join(options)}")
    return UserError(f"hydra.sweeper: no {kind} {name!r}; {suggestion}")
