"""Search space: Hydra's sweeps as Optuna's distributions, and drawn values as Hydra's overrides."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from framework.errors import UserError

EXAMPLE = "training.optimizer.learning_rate='tag(log, interval(1e-4, 1e-2))'"


@dataclass(frozen=True)
class Space:
    """Each searched key with its distribution, the overrides of all jobs, and those of each repeat of a trial."""

    dimensions: Mapping[str, BaseDistribution]
    fixed: tuple[str, ...]
    repeats: tuple[tuple[str, ...], ...] = ((),)

    @staticmethod
    def of(overrides: Sequence[Override], repeat: Sequence[Override] = ()) -> "Space":
        """Build the space of parsed overrides, the last one of each key. Raise UserError where nothing is searched.

        The keys are sorted, so that their order on the command line does not change the trials.
        """
        last = {override.get_key_element(): override for override in overrides}
        swept = {key: override for key, override in sorted(last.items()) if override.is_sweep_override()}
        dimensions = {key: _distribution(key, override) for key, override in swept.items()}
        if not dimensions:
            raise UserError(f"nothing to search; give at least one key a range or a choice, such as {EXAMPLE}")
        fixed = tuple(str(override.input_line) for key, override in last.items() if key not in swept)
        return Space(dimensions, fixed, tuple(product(*map(_list_values, repeat))))

    def sampled_overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return these values as overrides."""
        return [f"{key}={_format(values[key])}" for key in self.dimensions]

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """Return the overrides of a job with these values."""
        return [*self.fixed, *self.sampled_overrides(values)]

    def trial_overrides(self) -> Iterable[list[str]]:
        """Yield the overrides of jobs that use every option once, to check beforehand that they can be composed."""
        first = {key: _options(distribution)[0] for key, distribution in self.dimensions.items()}
        yield self.overrides(first)
        for key, distribution in self.dimensions.items():
            for option in _options(distribution)[1:]:
                yield self.overrides(first | {key: option})

    def describe(self) -> dict[str, str]:
        """Return the dimensions in words, by which a search is recognized."""
        return {key: _describe(distribution) for key, distribution in self.dimensions.items()}


def _distribution(key: str, override: Override) -> BaseDistribution:
    sweep = override._value
    if isinstance(sweep, IntervalSweep):
        return _interval(key, sweep)
    options = list(override.sweep_string_iterator())
    if not options:
        raise UserError(f"{key}: {override.get_value_string()} has no values to choose from; check its limits")
    if isinstance(sweep, RangeSweep) and len(options) > 1:
        numbers = [float(option) for option in options]
        step = numbers[1] - numbers[0]
        if all(number.is_integer() for number in numbers):
            return IntDistribution(int(min(numbers)), int(max(numbers)), step=int(abs(step)))
        return FloatDistribution(min(numbers), max(numbers), step=float(_format(abs(step))))
    return CategoricalDistribution(options)


def _list_values(override: Override) -> list[str]:
    """Return the overrides of a repeated key. Raise UserError where its values cannot be listed."""
    key = override.get_key_element()
    if override.is_discrete_sweep():
        return [f"{key}={value}" for value in override.sweep_string_iterator()]
    if override.is_sweep_override():
        raise UserError(f"hydra.sweeper.repeat: {override.input_line} cannot be listed; expected such as {key}=0,1,2")
    return [str(override.input_line)]


def _interval(key: str, sweep: IntervalSweep) -> BaseDistribution:
    low, high, log = sweep.start, sweep.end, "log" in sweep.tags
    assert low is not None
    assert high is not None
    if unknown := sorted(sweep.tags - {"log"}):
        raise UserError(f"{key}: no tag {unknown[0]!r}; an interval takes the tag log alone")
    if not low < high:
        raise UserError(f"{key}: interval({_format(low)}, {_format(high)}) is empty; expected the smaller number first")
    if log and low <= 0:
        raise UserError(f"{key}: an interval from {_format(low)} has no logarithm; begin it above 0")
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _options(distribution: BaseDistribution) -> Sequence[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    return [distribution.low]


def _describe(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return f"one of {', '.join(map(str, distribution.choices))}"
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    kind = "whole" if isinstance(distribution, IntDistribution) else "real"
    by = f" by {_format(distribution.step)}" if distribution.step else ""
    log = " on a log scale" if distribution.log else ""
    return f"{kind} from {_format(distribution.low)} to {_format(distribution.high)}{by}{log}"


def _format(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
