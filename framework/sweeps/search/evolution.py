"""CMA-ES whose state is its history: it is replayed over the trials so far, and no state is saved.

Optuna's own keeps the optimiser as a pickle in the study's database, which would make a database that came from
elsewhere a program.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from cmaes import CMA
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from framework.errors import UserError


class CmaEsSampler(BaseSampler):
    """CMA-ES (Hansen 2016, arXiv:1604.00772) over the numbers of a space, each scaled to [0, 1].

    `categorical_sampler` draws choices, `sigma` is the initial step size. A failed trial counts as the worst of its
    generation.
    """

    def __init__(
        self,
        dimensions: Mapping[str, BaseDistribution],
        seed: int,
        population: int,
        sigma: float,
        categorical_sampler: BaseSampler,
    ):
        self._numbers = {
            key: distribution
            for key, distribution in dimensions.items()
            if not isinstance(distribution, CategoricalDistribution)
        }
        if not self._numbers:
            raise UserError("hydra.sweeper.sampler=cmaes searches numbers, got choices alone; use sampler=tpe")
        self._seed, self._population, self._sigma = seed, population, sigma
        self._categorical_sampler = categorical_sampler

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._numbers

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        return self._categorical_sampler.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict:
        number, numbers = trial.number, self._numbers
        search = CMA(
            np.full(len(numbers), 0.5),
            self._sigma,
            bounds=np.tile([0.0, 1.0], (len(numbers), 1)),
            seed=self._seed,
            population_size=self._population,
        )
        values = {
            completed.number: completed.values[0]
            for completed in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            if completed.values
        }
        for first in range(0, number - number % self._population, self._population):
            generation = range(first, first + self._population)
            worst = max((values[i] for i in generation if i in values), default=0.0)
            search.tell([(search.ask(), values.get(i, worst)) for i in generation])
        point = [search.ask() for _ in range(number % self._population + 1)][-1]
        return {key: _scale(distribution, u) for (key, distribution), u in zip(numbers.items(), point, strict=True)}


def _scale(distribution: BaseDistribution, u: float) -> float | int:
    """Return the value at the fraction `u` of a range."""
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    is_integer = isinstance(distribution, IntDistribution)
    margin = 0.5 if is_integer else 0.0  # so that all integers, the outermost included, have equal shares
    low, high = distribution.low - margin, distribution.high + margin
    if distribution.log:
        value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    else:
        value = low + u * (high - low)
    if distribution.step:
        value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    value = min(max(value, distribution.low), distribution.high)
    return int(value) if is_integer else float(value)
