"""CMA-ES whose state is its history: it is run again over the trials there are, and nothing of it is kept.

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


class Evolution(BaseSampler):
    """CMA-ES (Hansen 2016, arXiv:1604.00772) over the numbers of a space, each brought to [0, 1]; choices are drawn
    by `others`. `sigma` is the first spread. A trial that failed counts as the worst of its generation.
    """

    def __init__(
        self,
        dimensions: Mapping[str, BaseDistribution],
        seed: int,
        population: int,
        sigma: float,
        others: BaseSampler,
    ):
        self._numbers = {key: one for key, one in dimensions.items() if not isinstance(one, CategoricalDistribution)}
        if not self._numbers:
            raise UserError("hydra.sweeper.sampler=cmaes moves numbers, here are choices alone; use sampler=tpe")
        self._seed, self._population, self._others, self._sigma = seed, population, others, sigma

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._numbers

    def sample_independent(self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        return self._others.sample_independent(study, trial, param_name, param_distribution)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict:
        number, numbers = trial.number, self._numbers
        search = CMA(
            np.full(len(numbers), 0.5),
            self._sigma,
            bounds=np.tile([0.0, 1.0], (len(numbers), 1)),
            seed=self._seed,
            population_size=self._population,
        )
        told = {
            one.number: one.values[0]
            for one in study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
            if one.values
        }
        for first in range(0, number - number % self._population, self._population):
            generation = range(first, first + self._population)
            worst = max((told[i] for i in generation if i in told), default=0.0)
            search.tell([(search.ask(), told.get(i, worst)) for i in generation])
        point = [search.ask() for _ in range(number % self._population + 1)][-1]
        return {key: _placed(one, u) for (key, one), u in zip(numbers.items(), point, strict=True)}


def _placed(distribution: BaseDistribution, u: float) -> float | int:
    """The value a share `u` of the way along."""
    assert isinstance(distribution, (IntDistribution, FloatDistribution))
    whole = isinstance(distribution, IntDistribution)
    low, high = (
        (distribution.low - 0.5, distribution.high + 0.5) if whole else (distribution.low, distribution.high)
    )  # whole numbers have equal shares, the outermost among them
    if distribution.log:
        value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
    else:
        value = low + u * (high - low)
    if distribution.step:
        value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    value = min(max(value, distribution.low), distribution.high)
    return int(value) if whole else float(value)
