"""The parts under contract, found by listing conf/, made small."""

from functools import cache
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig

import conf
from framework.forecast.base import Forecaster

CONF = Path(conf.__file__).parent
SMALL = [
    "model.width=8",
    "optimizer.batch=4",
    "optimizer.steps=6",
    "optimizer.round=3",
    "optimizer.warmup=2",
    "optimizer.patience=9",
]


FEW = {  # what makes an estimator small, as overrides of its grid and its settings
    "logistic": ["grid.penalty=[1.0,30.0]"],
    "ridge": ["grid.penalty=[1.0,30.0]"],
}


def names(group: str) -> list[str]:
    """The options of a config group, by listing its folder."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def models() -> list[str]:
    """The models of conf/model, each recipe once (one name may be short for another)."""
    seen: dict[str, str] = {}
    for name in names("model"):
        seen.setdefault(str(config(f"model={name}").model), name)
    return list(seen.values())


@cache
def config(*overrides: str) -> DictConfig:
    with initialize_config_module("conf", version_base="1.3"):
        return compose("forecast", ["data.store=none", *overrides])


def small(name: str) -> list[str]:
    """The overrides that make a model of conf/model small."""
    target = config(f"model={name}").model._target_
    if target == "framework.forecast.deep.Deep":
        return SMALL
    if target == "framework.forecast.tabular.Tabular":
        chosen = choices(f"model={name}")
        parts = [(part, chosen[f"model/{part}"]) for part in ("classifier", "regressor")]
        return ["model.folds=2", *(f"model.{part}.{few}" for part, option in parts for few in FEW[option])]
    return []


@cache
def choices(*overrides: str) -> dict[str, str]:
    """Which option of each group a config is made of."""
    with initialize_config_module("conf", version_base="1.3"):
        return dict(compose("forecast", [*overrides], return_hydra_config=True).hydra.runtime.choices)


def forecaster(name: str, *overrides: str) -> Forecaster:
    made = config(f"model={name}", *small(name), *overrides)
    return instantiate(made.model, _convert_="all")


def head(name: str):
    made = config("model=deep", f"model/head={name}")
    return instantiate(made.model.head, _convert_="all")


def encoder(name: str):
    made = config("model=deep", f"model/encoder={name}")
    return instantiate(made.model.encoder, _convert_="all")
