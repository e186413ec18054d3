"""A sweep's configs are those that Hydra composes, in a twelfth of the time."""

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.plugins import Plugins
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from hydra_plugins.prognax_launcher._composing import CachingConfigLoader
from omegaconf import OmegaConf


@pytest.fixture(scope="module")
def loaders():
    Plugins.instance()
    honest = ConfigLoaderImpl(create_config_search_path("pkg://conf"))
    return honest, CachingConfigLoader(honest), honest.load_configuration("forecast", ["data=oasis2"], RunMode.MULTIRUN)


@pytest.mark.parametrize(
    ("jobs", "anew"),
    [
        ([["seed=0", "model.width=8"], ["seed=1", "model.width=8"], ["seed=1", "model.width=4"]], 1),
        ([["model=gru", "seed=0"], ["model=lstm", "seed=0"]], 2),
        ([["training.ema=null", "+x=3"], ["training.ema=0.9", "+x=3"], ["training.ema=0.9", "+x=4"]], 2),
        ([["data.targets=[MMSE]"], ["data.targets=[CDR]"]], 2),
    ],
)
def test_it_composes_what_hydra_composes(loaders, jobs, anew, monkeypatch):
    honest, quick, master = loaders
    expected = [honest.load_sweep_config(master, list(job)) for job in jobs]
    calls, load = [], honest.load_sweep_config
    monkeypatch.setattr(honest, "load_sweep_config", lambda *args: calls.append(args) or load(*args))
    made = [quick.load_sweep_config(master, job) for job in jobs]
    plain = [[OmegaConf.to_container(one, resolve=False) for one in some] for some in (made, expected)]
    assert plain[0] == plain[1]
    assert len(calls) == anew


def test_one_job_leaves_no_trace_in_the_next(loaders):
    _, quick, master = loaders
    quick.load_sweep_config(master, ["seed=1"]).training.batch = 99
    assert quick.load_sweep_config(master, ["seed=2"]).training.batch != 99


def test_a_key_that_is_not_there_is_told_as_ever(loaders):
    _, quick, master = loaders
    with pytest.raises(ConfigCompositionException, match="Could not override 'sed'"):
        quick.load_sweep_config(master, ["sed=1"])
