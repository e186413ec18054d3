"""Samplers of a trial's settings, as a function of the seed, the trial's number and the trials before it.

Each trial has a new sampler, so that a resumed search draws the same settings.
"""

import hashlib
import warnings
from collections.abc import Mapping
from itertools import product
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from framework.errors import UserError
from framework.sweeps.search.evolution import CmaEsSampler
from framework.sweeps.search.settings import Settings

Dimensions = Mapping[str, BaseDistribution]


def build_sampler(settings: Settings, dimensions: Dimensions, number: int) -> BaseSampler:
    """Return the sampler of a trial. Raise UserError where it cannot draw from such dimensions."""
    seed = int.from_bytes(hashlib.sha256(f"{settings.seed} {number}".encode()).digest()[:4])
    if settings.sampler == "grid":
        return GridSampler(dimensions)
    if settings.sampler == "cmaes":
        return CmaEsSampler(dimensions, settings.seed, settings.batch, settings.sigma, RandomSampler(seed))
    if settings.sampler == "random":
        return RandomSampler(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=settings.startup, multivariate=True, constant_liar=True)


def grid_size(dimensions: Dimensions) -> int:
    """Return the number of points of a grid. Raise UserError for an interval, whose values cannot be listed."""
    return len(_grid_points(dimensions))


class GridSampler(BaseSampler):
    """Every combination once, the last key changing fastest."""

    def __init__(self, dimensions: Dimensions):
        self._dimensions, self._points = dict(dimensions), _grid_points(dimensions)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._dimensions

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict:
        return self._points[trial.number]

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        raise AssertionError(f"a grid lists {param_name}")


def _grid_points(dimensions: Dimensions) -> list[dict[str, Any]]:
    listed = [_grid_values(key, distribution) for key, distribution in dimensions.items()]
    return [dict(zip(dimensions, point, strict=True)) for point in product(*listed)]


def _grid_values(key: str, distribution: BaseDistribution) -> list:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution) and not distribution.log:
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step:
        steps = round((distribution.high - distribution.low) / distribution.step)
        return [distribution.low + i * distribution.step for i in range(steps + 1)]
    raise UserError(f"{key}: the values of an interval cannot be listed in a grid; give it a choice or a range")
