"""The probes for leaks, put to a configured forecaster."""

from dataclasses import replace

import jax
from hydra.utils import instantiate
from omegaconf import DictConfig

from framework.errors import UserError
from framework.evaluate.leakage.probes import leaks
from framework.runs.data_loading import examples_of
from framework.runs.execute import use_compilation_cache
from framework.runs.job import forecaster_of


def probe(config: DictConfig) -> None:
    """Say that there is no leak. Raises UserError naming every one that is found."""
    use_compilation_cache()
    forecaster = forecaster_of(config, config.model)
    splitter = instantiate(config.split, _convert_="all")
    examples = examples_of(config)
    cohort = examples.cohort
    study = replace(examples, origins=instantiate(config.origins, _convert_="all"), about=splitter.asks(cohort))
    found = leaks(forecaster, study, splitter.one(cohort), jax.random.key(config.seed), splitter.known)
    if found:
        raise UserError(f"{len(found)} leak{'s' * (len(found) > 1)}: {'; '.join(map(str, found))}")
    print("no leak: neither test subjects nor the future reach the forecasts")
