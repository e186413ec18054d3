"""The arrays that pass between the layers, and the letters of their axes.

b subject, t visit, q query, f visit variable, s static variable, g future covariate, d token, h hidden,
c class or channel, l quantile level, n scan, x y z voxel. Times are years since the subject's first visit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias, TypeVar, dataclass_transform

import jax
from jaxtyping import Array, Bool, Float, Int
from numpy import ndarray

Arr: TypeAlias = Array | ndarray
T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def pytree(cls: type[T]) -> type[T]:
    """A frozen dataclass registered as a pytree whose fields are all children.

    Unflattening goes around `__init__`, because JAX puts things into pytrees that are no arrays.
    """
    made: Any = dataclass(frozen=True)(cls)
    names = tuple(field.name for field in fields(made))

    def flatten(value):
        return tuple((jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in names), None

    def unflatten(_, children):
        value = object.__new__(made)
        for name, child in zip(names, children, strict=True):
            object.__setattr__(value, name, child)
        return value

    jax.tree_util.register_pytree_with_keys(made, flatten, unflatten)
    return made


@pytree
class Scans:
    """One modality, packed: only scans that exist, no padding is ever encoded."""

    voxels: Float[Arr, "n x y z c"]
    row: Int[Arr, " n"]
    visit: Int[Arr, " n"]
    valid: Bool[Arr, " n"]


@pytree
class Visits:
    """Visits of each subject; one row is one subject. What lies under a mask is never read."""

    times: Float[Arr, "b t"]
    valid: Bool[Arr, "b t"]
    scans: Mapping[str, Scans]
    values: Float[Arr, "b t f"]
    observed: Bool[Arr, "b t f"]
    static: Float[Arr, "b s"]
    static_observed: Bool[Arr, "b s"]


@pytree
class Query:
    """Queries: forecasts at `time` that see visits up to and including number `origin` alone.

    `known` holds the future covariates at that time, `future_observed` which of them there are: values under the
    mask are never read. Each row asks about one subject: row by row, or each the one whose place is in `row`.
    """

    time: Float[Arr, "b q"]
    origin: Int[Arr, "b q"]
    known: Float[Arr, "b q g"]
    future_observed: Bool[Arr, "b q g"]
    valid: Bool[Arr, "b q"]
    row: Int[Arr, " b"] | None = None


@pytree
class Truth:
    """The observed outcome of each query: a value in original units or a level's index."""

    value: Float[Arr, "b q"]
    observed: Bool[Arr, "b q"]


@pytree
class Classes:
    """A probability for each level, summing to one."""

    probs: Float[Arr, "b q c"]


@pytree
class Values:
    """Quantiles at `LEVELS` in original units, ascending along l.

    The point forecast is the median unless `point` gives it: the last visit carried forward is where a value was, not
    the median of where it goes.
    """

    quantiles: Float[Arr, "b q l"]
    point: Float[Arr, "b q"] | None = None


@pytree
class Sequence:
    """One token a visit: features and which of them were observed."""

    x: Float[Arr, "b t d"]
    observed: Bool[Arr, "b t d"]
    times: Float[Arr, "b t"]
    valid: Bool[Arr, "b t"]


@pytree
class SurvivalForecast:
    """The probability that the event has not come by the query's time."""

    survival: Float[Arr, "b q"]


@pytree
class Interval:
    """When an event came, in years after each query's origin: in (lo, hi]; hi = inf where it had not come by lo."""

    lo: Float[Arr, "b q"]
    hi: Float[Arr, "b q"]
    observed: Bool[Arr, "b q"]


Answer: TypeAlias = Classes | Values | SurvivalForecast
Forecast = Mapping[str, Answer]  # target -> its forecast
Targets = Mapping[str, Truth | Interval]

RESOLUTION = 0.0575  # years, three weeks: monthly visits lie apart
Bounds: TypeAlias = tuple[float | None, float | None]  # the lowest and the highest value there can be

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # the median, the 50% and the 90% interval
MEDIAN = LEVELS.index(0.5)


@dataclass(frozen=True)
class Column:
    """A clinical variable by its place in `values` or `static`; `classes` is 0 for a number.

    `per_year` is how fast a future covariate advances by itself (age: 1), None where the plan is recorded.
    Models read the logarithm of a variable with `scale` "log".
    """

    name: str
    index: int
    classes: int = 0
    per_year: float | None = None
    ordered: bool = False
    scale: str = "linear"


@dataclass(frozen=True)
class Number:
    """A number to forecast, in `units` and within its `bounds` (None where it has none on that side).

    `index` is its place among the visits' variables; `seen` says that its own history is an input. Its logarithm is
    modelled where `scale` is "log".
    """

    name: str
    index: int
    units: str
    seen: bool = True
    bounds: Bounds = (None, None)
    scale: str = "linear"


@dataclass(frozen=True)
class Categorical:
    """A variable of two or more `levels` to forecast; `index` and `seen` are those of `Number`."""

    name: str
    index: int
    levels: tuple[str, ...]
    ordered: bool = False
    positive_from: str | None = None
    seen: bool = True

    @property
    def positive(self) -> int | None:
        """The first level that counts as the event; None where classes are not to be split in two."""
        if self.positive_from is not None:
            return self.levels.index(self.positive_from)
        return 1 if len(self.levels) == 2 else None


@dataclass(frozen=True)
class Event:
    """The time to an event, which is no variable: survival is judged at these `horizons`, years after the origin."""

    name: str
    horizons: tuple[float, ...]


Measured: TypeAlias = Number | Categorical  # targets that are variables of the visits
Target: TypeAlias = Measured | Event


@dataclass(frozen=True)
class Layout:
    """Which columns mean what: everything about a cohort that shapes a program.

    Visits less than `resolution` years apart are repeated measurements of one state: no rate of change is taken between
    them.
    """

    inputs: tuple[Column, ...]
    static: tuple[Column, ...]
    known: tuple[Column, ...]
    targets: tuple[Target, ...]
    modalities: tuple[str, ...]
    grids: tuple[tuple[int, int, int, int], ...]
    resolution: float = RESOLUTION

    @property
    def numbers(self) -> tuple[Number, ...]:
        """The targets that are numbers."""
        return tuple(target for target in self.targets if isinstance(target, Number))

    @property
    def categoricals(self) -> tuple[Categorical, ...]:
        """The targets that have levels."""
        return tuple(target for target in self.targets if isinstance(target, Categorical))

    @property
    def measured(self) -> tuple[Measured, ...]:
        """The targets that are variables of the visits."""
        return tuple(target for target in self.targets if not isinstance(target, Event))

    @property
    def events(self) -> tuple[Event, ...]:
        """The targets that are times to an event."""
        return tuple(target for target in self.targets if isinstance(target, Event))
