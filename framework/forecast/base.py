"""The interface of forecasters: fitted on some subjects, applied to others."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Array, Key

from framework.configurable import configurable
from framework.data.queries.examples import Examples
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.calibration.horizon import HeldOut
from framework.train.cost.throughput import Cost
from framework.train.optimizer import TracedHyperparameters
from framework.types import Forecast, Layout, Query, Visits

Log = Callable[[dict], None]  # hears of each round of a member, and how many of its fits are `done`


class Fits:
    """Fits of one forecaster, of which the log hears how many of `all` are done."""

    def __init__(self, log: Log, all: int):
        self._log, self._all, self._done = log, all, 0

    def done(self, member: int, fits: int) -> None:
        """So many more are, of this member; where there are fewer subjects than folds, the last ones come early."""
        self._done = min(self._done + fits, self._all)
        self._log({"member": member, "done": self._done, "of": self._all})


class Fitted(ABC):
    """A forecaster that has seen its training subjects. `layout` says what it reads; `cost` what fitting took.

    `chosen` tells what was selected while fitting, by name: candidates, features.
    """

    layout: Layout
    cost: Cost | None = None
    follow_up: float = float("inf")  # years: the longest horizon seen in training, inf where it is not kept

    @property
    def chosen(self) -> Mapping[str, Any]:
        return {}

    @property
    def notes(self) -> Sequence[str]:
        """Warnings for readers of its forecasts: fits that did not converge, variances that collapsed."""
        return ()

    @abstractmethod
    def predict(self, history: Visits, query: Query) -> Forecast:
        """Answer each query from the visits up to its origin, in original units."""

    @abstractmethod
    def save(self, path: Path) -> None: ...


@dataclass(frozen=True)
class Part:
    """Something that a forecaster fits: on subjects of which roles, or in which run of pretraining."""

    name: str
    roles: tuple[str, ...] = ()
    run: str | None = None


@dataclass(frozen=True)
class Turns:
    """Members had better be fitted one after another, by so many `workers`; `why` completes "... because"."""

    why: str
    workers: int


@configurable("model")
class Forecaster(ABC):
    """A recipe for a `Fitted`."""

    def parts(self) -> Sequence[Part]:
        """The parts it fits and their subjects, for the certificate of a run; empty where they are not recorded."""
        return ()

    @abstractmethod
    def fit_many(
        self,
        examples: Examples,
        splits: Sequence[Split],
        keys: Key[Array, " m"],
        dynamics: TracedHyperparameters | None = None,
        folder: Path | None = None,
        log: Log = lambda row: None,
    ) -> list[Fitted]:
        """Fit one member for each split and key (m,), as one program where it can be.

        `dynamics` gives each member its own settings (arrays of leading axis m), else they are the recipe's.
        Training state is kept under `folder`, so that the same call goes on where it was stopped.
        """

    def fit(
        self,
        examples: Examples,
        split: Split,
        key: Key[Array, ""],
        folder: Path | None = None,
        log: Log = lambda row: None,
    ) -> Fitted:
        """The one-member case of `fit_many`."""
        return self.fit_many(examples, [split], key[None], folder=folder, log=log)[0]

    @property
    def calibrates(self) -> bool:
        """Whether its quantiles are calibrated on subjects set aside already."""
        return False

    @property
    def forecasts_held_out(self) -> bool:
        """Whether `fit_held_out` gives what calibration needs; else it is fitted again without some subjects."""
        return False

    def fit_held_out(
        self,
        examples: Examples,
        splits: Sequence[Split],
        keys: Key[Array, " m"],
        dynamics: TracedHyperparameters | None = None,
        folder: Path | None = None,
        log: Log = lambda row: None,
    ) -> list[tuple[Fitted, Mapping[str, HeldOut]] | UserError]:
        """`try_many`, and what each member forecasts of training subjects by whom it was neither fitted nor stopped."""
        raise TypeError(f"{type(self).__name__} has no way of its own to forecast subjects held out")

    def dynamic(self, layout: Layout) -> TracedHyperparameters | None:
        """The settings of this recipe as `fit_many` takes them; None where members cannot differ in any."""
        return None

    def member_bytes(self, examples: Examples, splits: Sequence[Split]) -> int:
        """Memory that a further member of `fit_many` adds to its program; 0 where it is negligible."""
        return 0

    def turns(self, examples: Examples, splits: Sequence[Split]) -> Turns | None:
        """Whether members that have nothing to do with each other had better take turns than go side by side."""
        return None

    def try_many(
        self,
        examples: Examples,
        splits: Sequence[Split],
        keys: Key[Array, " m"],
        dynamics: TracedHyperparameters | None = None,
        folder: Path | None = None,
        log: Log = lambda row: None,
    ) -> list[Fitted | UserError]:
        """`fit_many` for members that have nothing to do with each other: the failure of one is its own answer."""
        return [*self.fit_many(examples, splits, keys, dynamics, folder, log)]

    @abstractmethod
    def load(self, path: Path, layout: Layout) -> Fitted:
        """Load what `Fitted.save` wrote. Raises UserError where it is absent or was fitted by another recipe."""
