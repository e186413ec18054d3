"""Every YAML of conf/ composes into a config that passes the check, with the command that its first comment names."""

import re
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

from framework.config.model_configs import REFERENCES, ModelConfigs
from framework.config.validate import validate_config
from framework.errors import UserError
from tests.contracts.recipes import CONF, names

COMMANDS = (
    "compare",
    "doctor",
    "forecast",
    "ingest",
    "predict",
    "pretrain",
    "probe",
    "report",
    "tadpole_score",
    "verify",
)
GROUPS = sorted(str(f.relative_to(CONF)) for f in CONF.rglob("*") if f.is_dir() and list(f.glob("*.yaml")))
NEEDS = {
    "data=table": ["data.path=x"],
    "data=bids": ["data.path=x"],
    "data=nifti": ["data.path=x"],
    "data=cifar10": ["data.path=x"],
    "data=tadpole": ["data.path=x"],
    "data=tadpole_leaderboard": ["data.path=x", "data.leaderboard=x"],
    "split=file": ["split.path=x"],
    "split=temporal": ["split.date=2010-01-01"],
    "origins=date": ["origins.date=2010-01-01"],
}
REQUIRED = {"predict": ["run=x", "data.path=x"], "tadpole_score": ["submission=x", "ground_truth=x"]}
PARTS = {"model/classifier": "tabular", "model/regressor": "tabular"}  # of a model that no command takes unasked


def composed(command: str, *overrides: str):
    with initialize_config_module("conf", version_base="1.3"):
        config = compose(command, [*overrides, *REQUIRED.get(command, [])])
    OmegaConf.resolve(config)
    validate_config(config)
    return config


@cache
def read_by(command: str) -> set[str]:
    """The groups that a command's config has."""
    with initialize_config_module("conf", version_base="1.3"):
        return set(compose(command, return_hydra_config=True).hydra.runtime.choices)


def test_the_commands_are_those_of_experiments():
    experiments = {file.stem for file in (CONF.parent / "experiments").glob("*.py")} - {"__init__", "__main__"}
    yamls = {file.stem for file in CONF.glob("*.yaml")} - {"base"}
    assert experiments == yamls == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_composes(command):
    config = composed(command)
    assert config.get("experiment", command) == command


@pytest.mark.parametrize(
    ("group", "option"),
    [(group, option) for group in GROUPS if group not in ("experiment",) for option in names(group)],
    ids=lambda part: part,
)
def test_every_option_of_every_group_composes(group, option):
    choice = f"{group}={option}"
    used = [command for command in COMMANDS if ("model" if group in PARTS else group) in read_by(command)]
    assert used, f"no command has the group {group}"
    for command in used:
        composed(
            command,
            *[f"model={model}" for part, model in PARTS.items() if part == group],
            choice,
            *NEEDS.get(choice, []),
        )


@pytest.mark.parametrize("option", names("model"))
def test_every_model_can_be_made(option):
    config = composed("forecast", f"model={option}")
    made = instantiate(config.model, _convert_="all")
    assert hasattr(made, "fit_many")
    assert made.parts(), "it tells what it fits on whom, for the certificate of a run"


@pytest.mark.parametrize("option", names("data"))
def test_every_reader_can_be_made(option, monkeypatch):
    """Making it reads nothing yet: a wrong map is told before a file is opened."""
    config = composed("ingest", f"data={option}", *NEEDS.get(f"data={option}", []))
    assert hasattr(instantiate(config.data.reader, _convert_="all"), "read")


def first_command(path: Path) -> list[str]:
    """The words of the first command in the comments at the head of a YAML."""
    head = "".join(line[1:].strip() + "\n" for line in path.read_text().splitlines() if line.startswith("#"))
    return [word for word in re.search(r"python -m experiments\.(.+)", head)[1].split() if word != "-m"]


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_opens_with_its_command_which_composes(name):
    command, *overrides = first_command(CONF / "experiment" / f"{name}.yaml")
    assert f"+experiment={name}" in overrides
    config = composed(command, *overrides)
    assert config.experiment == command


@pytest.mark.parametrize("name", names("experiment"))
def test_every_experiment_composes_the_models_beside_its_own(name, monkeypatch):
    """The floors, and what a comparison compares, under what the experiment says of the rest."""
    command, *overrides = first_command(CONF / "experiment" / f"{name}.yaml")
    config = composed(command, *overrides)
    models, settings = config.get("models", []), config.get("model_overrides") or {}
    hydra = OmegaConf.create({"overrides": {"task": overrides}})
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: hydra))
    with initialize_config_module("conf", version_base="1.3"):
        for model in {*REFERENCES, *models}:
            made = ModelConfigs().compose_model(model, settings.get(model, ()))
            assert hasattr(instantiate(made, _convert_="all"), "fit_many")


def test_a_typo_in_any_yaml_would_be_caught():
    with pytest.raises(UserError, match="did you mean 'folds'"):
        composed("forecast", "+split.fold_s=3")
