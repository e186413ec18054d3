"""The forecasters of a study by name."""

from importlib.resources import files
from types import SimpleNamespace

import pytest
from hydra import initialize_config_module
from hydra.core.hydra_config import HydraConfig

from framework.config.model_configs import ModelConfigs

HEADS = sorted(file.stem for file in files("conf").joinpath("model", "head").iterdir() if file.name.endswith(".yaml"))


@pytest.fixture
def configs(monkeypatch):
    told = SimpleNamespace(overrides=SimpleNamespace(task=["training.steps=7"]))
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: told))
    with initialize_config_module("conf", version_base="1.3"):
        yield ModelConfigs()


@pytest.mark.parametrize("head", HEADS)
def test_a_head_by_its_name_is_the_deep_model_with_it(configs, head):
    model = configs.compose_model(head)
    assert model._target_ == "framework.forecast.deep.forecaster.Deep"
    assert model.training.steps == 7
    assert head.replace("_", "") in str(model.head).lower().replace("_", "")


def test_composed_once(configs):
    assert configs.compose_model("gru_d") is configs.compose_model("gru_d")
