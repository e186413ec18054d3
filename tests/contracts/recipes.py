"""The parts under contract, found by listing conf/, made small."""

from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path

from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig

import conf
from framework.forecast.base import Forecaster
from framework.nn.model import NetworkSpec

CONF = Path(conf.__file__).parent
SMALL = [
    "training.batch=4",
    "training.steps=6",
    "training.eval_every=3",
    "training.optimizer.warmup=2",
    "training.patience=9",
]


FEW = {  # what makes an estimator small, as overrides of its grid and its settings
    "logistic": ["grid.penalty=[1.0,30.0]"],
    "ridge": ["grid.penalty=[1.0,30.0]"],
    "forest": ["estimator.trees=3", "grid.min_samples_leaf=[2]"],
    "extra_trees": ["estimator.trees=3", "grid.min_samples_leaf=[2]"],
    "boosting": ["estimator.rounds=3", "grid.max_leaves=[2]"],
    "quantile": ["grid.penalty=[1.0,30.0]", "estimator.steps=200"],
    "svm": ["grid.C=[1.0]", "grid.gamma=[0.01,0.1]"],
}


def names(group: str) -> list[str]:
    """The options of a config group, by listing its folder."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def models() -> list[str]:
    """The models of conf/model, each recipe once: one name may be short for another, or choose another head.

    Heads are held by their own contract to the laws on which forecasters rely.
    """
    seen: dict[str, str] = {}
    for name in names("model"):
        made = config(f"model={name}").model
        seen.setdefault(str({part: made[part] for part in made if part != "head"}), name)
    return list(seen.values())


@cache
def config(*overrides: str) -> DictConfig:
    with initialize_config_module("conf", version_base="1.3"):
        return compose("forecast", ["data.store=none", *overrides])


def small(name: str) -> list[str]:
    """The overrides that make a model of conf/model small."""
    made, chosen = config(f"model={name}").model, choices(f"model={name}")
    training = ["training=scans"] if chosen.get("model/encoder") == "cnn3d" else []
    return [*training, *_few(made, chosen, "model")]


def _few(made: DictConfig, chosen: Mapping[str, str], at: str) -> Iterator[str]:
    """Few candidates, folds, bags and steps, here and in members."""
    if "training" in made:
        yield f"{at}.width=8"
        yield from SMALL
    if "folds" in made:
        yield f"{at}.folds=2"
    if "nodes" in made:
        yield f"{at}.nodes=5"
        yield f"{at}.steps=4"
    if "num_members" in made:
        yield f"{at}.num_members=2"
    for place, (name, options) in enumerate(made.get("grid", {}).items()):
        yield f"{at}.grid.{name}={list(options)[: 1 if place else 2]}"
    for part in ("classifier", "regressor"):
        if part in made:
            option = chosen.get(f"model/{part}@{at}.{part}") or chosen[f"model/{part}"]
            yield from (f"++{at}.{part}.{few}" for few in FEW[option])
    for name, member in made.get("members", {}).items():
        yield from _few(member, chosen, f"{at}.members.{name}")
    if "member" in made:
        yield from _few(made.member, chosen, f"{at}.member")


@cache
def choices(*overrides: str) -> dict[str, str]:
    """Which option of each group a config is made of."""
    with initialize_config_module("conf", version_base="1.3"):
        return dict(compose("forecast", [*overrides], return_hydra_config=True).hydra.runtime.choices)


def forecaster(name: str, *overrides: str) -> Forecaster:
    made = config(f"model={name}", *small(name), *overrides)
    return instantiate(made.model, _convert_="all")


def head(name: str, few: int | None = None):
    """A head as it is shipped, or with `few` features."""
    made = instantiate(config("model=deep", f"model/head={name}").model.head, _convert_="all")
    return made if few is None else narrowed(made, few)


def network(encoder, head, width: int = 4, **others) -> NetworkSpec:
    """A network with the settings of conf/model/deep.yaml but for these."""
    usual = {"fusion": None, "ordinal": False, "time_unit_years": 1.0, "token_dropout": 1.0}
    return NetworkSpec(encoder=encoder, head=head, width=width, **usual | others)


def narrowed(made: partial, few: int) -> partial:
    """A partial, and those in it, with so many features and hidden units."""
    inner = {name: narrowed(part, few) for name, part in made.keywords.items() if isinstance(part, partial)}
    return partial(made, **inner, **{name: few for name in ("features", "width") if name in made.keywords})


def encoder(name: str):
    made = config("model=deep", f"model/encoder={name}")
    return instantiate(made.model.encoder, _convert_="all")
