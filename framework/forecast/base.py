"""The interface of forecasters: fitted on some subjects, applied to others."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Array, Key

from framework.configurable import configurable
from framework.data.queries.examples import Examples
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.calibration.horizon import HeldOut
from framework.forecast.fit_request import FitRequest, Log, silent
from framework.train.cost.throughput import Cost
from framework.train.optimizer import TracedHyperparameters
from framework.types import Forecast, Layout, Query, Visits


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
    def fit_many(self, request: FitRequest) -> list[Fitted]:
        """Fit the members of the request, as one program where possible."""

    def fit(
        self,
        examples: Examples,
        split: Split,
        key: Key[Array, ""],
        folder: Path | None = None,
        log: Log = silent,
    ) -> Fitted:
        """Fit one member."""
        return self.fit_many(FitRequest(examples, [split], key[None], folder=folder, log=log))[0]

    @property
    def calibrates(self) -> bool:
        """Whether its quantiles are calibrated on subjects set aside already."""
        return False

    @property
    def forecasts_held_out(self) -> bool:
        """Whether `fit_held_out` gives what calibration needs; else it is fitted again without some subjects."""
        return False

    def fit_held_out(self, request: FitRequest) -> list[tuple[Fitted, Mapping[str, HeldOut]] | UserError]:
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

    def try_many(self, request: FitRequest) -> list[Fitted | UserError]:
        """`fit_many` for members that have nothing to do with each other: the failure of one is its own answer."""
        return [*self.fit_many(request)]

    @abstractmethod
    def load(self, path: Path, layout: Layout) -> Fitted:
        """Load what `Fitted.save` wrote. Raises UserError where it is absent or was fitted by another recipe."""
