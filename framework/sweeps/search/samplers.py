"""How the next trial's settings are drawn: a function of the seed, the trial's number and the trials before it.

A sampler is made anew for each trial, so that a search that was killed draws what it would have drawn.
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
from framework.sweeps.search.evolution import Evolution
from framework.sweeps.search.settings import Settings

Dimensions = Mapping[str, BaseDistribution]


def sampler(settings: Settings, dimensions: Dimensions, number: int) -> BaseSampler:
    """That of a trial. Raises UserError where it cannot draw from such dimensions."""
    seed = int.from_bytes(hashlib.sha256(f"{settings.seed} {number}".encode()).digest()[:4])
    if settings.sampler == "grid":
        return Grid(dimensions)
    if settings.sampler == "cmaes":
        return Evolution(dimensions, settings.seed, settings.batch, settings.sigma, RandomSampler(seed))
    if settings.sampler == "random":
        return RandomSampler(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, n_startup_trials=settings.startup, multivariate=True, constant_liar=True)


def size(dimensions: Dimensions) -> int:
    """How many points a grid over them has. Raises UserError for an interval, which has no end of them."""
    return len(_points(dimensions))


class Grid(BaseSampler):
    """Every combination once, the last key turning fastest."""

    def __init__(self, dimensions: Dimensions):
        self._dimensions, self._points = dict(dimensions), _points(dimensions)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._dimensions

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict:
        return self._points[trial.number]

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        raise AssertionError(f"a grid lists {param_name}")


def _points(dimensions: Dimensions) -> list[dict[str, Any]]:
    listed = [_values(key, one) for key, one in dimensions.items()]
    return [dict(zip(dimensions, point, strict=True)) for point in product(*listed)]


def _values(key: str, distribution: BaseDistribution) -> list:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if isinstance(distribution, IntDistribution) and not distribution.log:
        return list(range(distribution.low, distribution.high + 1, distribution.step))
    if isinstance(distribution, FloatDistribution) and distribution.step:
        many = round((distribution.high - distribution.low) / distribution.step)
        return [distribution.low + i * distribution.step for i in range(many + 1)]
    raise UserError(f"{key}: a grid lists its values, an interval has no end of them; give it a choice or a range")
