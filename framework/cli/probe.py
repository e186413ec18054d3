"""Probes of a configured forecaster for leaks."""

from dataclasses import replace

import jax
from hydra.utils import instantiate
from omegaconf import DictConfig

from framework.errors import UserError
from framework.evaluate.leakage.probes import leaks
from framework.runs.data_loading import load_examples
from framework.runs.execute import use_compilation_cache
from framework.runs.job import build_forecaster


def probe(config: DictConfig) -> None:
    """Print that there is no leak. Raise UserError with every leak that is found."""
    use_compilation_cache()
    forecaster = build_forecaster(config, config.model)
    splitter = instantiate(config.split, _convert_="all")
    examples = load_examples(config)
    cohort = examples.cohort
    study = replace(examples, origins=instantiate(config.origins, _convert_="all"), about=splitter.asks(cohort))
    findings = leaks(forecaster, study, splitter.one(cohort), jax.random.key(config.seed), splitter.known)
    if findings:
        raise UserError(f"{len(findings)} leak{'s' * (len(findings) > 1)}: {'; '.join(map(str, findings))}")
    print("no leak: neither test subjects nor the future reach the forecasts")
