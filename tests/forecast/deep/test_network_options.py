"""A network option is declared once: a field of `NetworkSpec`, and its key in conf/model/deep.yaml."""

import inspect
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

import conf
import framework
from framework.config.validate import validate_config
from framework.errors import UserError
from framework.forecast.deep.forecaster import Deep
from framework.forecast.ensembles.crossfit import of_network
from framework.nn.model import NetworkSpec
from tests.contracts.recipes import config

CONF, FRAMEWORK = Path(conf.__file__).parent, Path(framework.__file__).parent
OLD_KEYS = FRAMEWORK / "config" / "old_keys.py"  # answers names that a key once had


@pytest.mark.parametrize("option", ["token_dropout", "time_unit_years"])
def test_a_network_option_touches_two_files(option):
    files = [*FRAMEWORK.rglob("*.py"), *(CONF / "model").rglob("*.yaml")]
    naming = {file.relative_to(FRAMEWORK.parent) for file in files if file != OLD_KEYS and option in file.read_text()}
    assert naming == {Path("framework/nn/model.py"), Path("conf/model/deep.yaml")}


def test_every_network_option_is_a_key_and_a_setting_of_both_forecasters():
    options = {field.name for field in fields(NetworkSpec)}
    assert options <= {field.name for field in fields(Deep)}
    assert [*inspect.signature(of_network).parameters] == [
        "grid", "folds", "max_memory_gb", *inspect.signature(Deep).parameters
    ]  # fmt: skip
    text = yaml.safe_load((CONF / "model" / "deep.yaml").read_text())
    groups = {name for entry in text["defaults"] if isinstance(entry, dict) for name in entry}
    assert options <= {*text, *groups}


@pytest.mark.parametrize("model", ["gru", "crossfit"])
def test_a_network_option_of_another_type_is_refused(model):
    with pytest.raises(UserError, match=r"model\.token_dropout: got 'often'; expected float"):
        validate_config(config(f"model={model}", "model.token_dropout=often"))
    with pytest.raises(UserError, match=r"model\.token_dropuot: .* takes no 'token_dropuot'; .*token_dropout"):
        validate_config(config(f"model={model}", "+model.token_dropuot=1.0"))
