"""Keys and values of earlier versions are answered in one line with the names of today."""

import sys

import pytest

from framework.cli.command import command
from framework.config.old_keys import replaced, replaced_value


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command with these arguments: its exit code and the lines on stderr."""

    def call(config_name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"experiments.{config_name}", *arguments])
        with pytest.raises(SystemExit) as stopped:
            command(config_name)(pytest.fail)()
        return int(stopped.value.code or 0), capsys.readouterr().err.splitlines()

    return call


@pytest.fixture
def folder(tmp_path):
    """A folder of configurations with one experiment of this text."""

    def write(text):
        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
        return "--config-dir", str(tmp_path), "+experiment=mine"

    return write


def line(old: str, new: str) -> list[str]:
    kind = "value" if "=" in old else "key"
    named = old if kind == "value" else repr(old)
    return [f"error: the {kind} {named} of an earlier version was replaced: use {new}"]


COMMAND_LINES = [
    ("forecast", "ask=later", "ask", "task"),
    ("forecast", "+ask=later", "ask", "task"),
    ("compare", "ask=now", "ask", "task"),
    ("forecast", "task=now", "task=now", "task=current_visit"),
    ("forecast", "optimizer.learning_rate=0.1", "optimizer.learning_rate", "training.optimizer.learning_rate"),
    ("forecast", "optimizer.clip=2", "optimizer.clip", "training.optimizer.max_grad_norm"),
    ("forecast", "optimizer.batch=2", "optimizer.batch", "training.batch"),
    ("forecast", "optimizer.economy.at_once=2", "optimizer.economy.at_once", "training.memory.remat_chunk"),
    ("forecast", "optimizer/schedule=cosine", "optimizer/schedule", "training.optimizer.schedule"),
    ("forecast", "optimizer=adamw", "optimizer", "training"),
    ("pretrain", "optimizer.round=2", "optimizer.round", "training.eval_every"),
    ("forecast", "training.round=2", "training.round", "training.eval_every"),
    ("forecast", "training.learning_rate=0.1", "training.learning_rate", "training.optimizer.learning_rate"),
    ("compare", "settings={gru: []}", "settings", "model_overrides"),
    ("compare", "+fewer.gru=1", "fewer", "repeats_per_model"),
    ("forecast", "accept=[training]", "accept", "allow_leaks"),
    ("forecast", "allow_leaks=[two ids]", "allow_leaks=two ids", "allow_leaks=two_ids"),
    ("ingest", "existing=append", "existing", "if_exists"),
    ("forecast", "model.unit=2", "model.unit", "model.time_unit_years"),
    ("forecast", "hosts.processes=2", "hosts.processes", "hosts.num_processes"),
    ("predict", "known.arm=drug", "known.arm", "future.arm"),
    ("tadpole_score", "truth=D4.csv", "truth", "ground_truth"),
    ("forecast", "split=leaderboard", "split=leaderboard", "split=tadpole_leaderboard"),
    ("forecast", "origins=leaderboard", "origins=leaderboard", "origins=tadpole_leaderboard"),
    ("predict", "submission=2018-01", "submission", "tadpole_submission"),
    (
        "forecast",
        "mesh._target_=framework.train.mesh.Data",
        "mesh._target_=framework.train.mesh.Data",
        "mesh._target_=framework.train.mesh.DataParallel",
    ),
    ("ingest", "action=verify", "action", "the command experiments.verify"),
]
FILES = [
    ("forecast", "ask: later", "ask", "task"),
    ("forecast", "optimizer: {steps: 3}", "optimizer", "training"),
    (
        "forecast",
        "defaults: [override /optimizer/schedule: cosine]",
        "optimizer/schedule",
        "training.optimizer.schedule",
    ),
    ("forecast", "defaults: [/optimizer: adamw]", "optimizer", "training"),
    ("forecast", "training: {clip: 3}", "training.clip", "training.optimizer.max_grad_norm"),
    ("forecast", "defaults: [override /model: ridge]\nmodel: {weigh: pair}", "model.weigh", "model.weight_by"),
    ("forecast", "defaults: [override /model: ridge]\nmodel: {weight_by: pair}", "model.weight_by=pair", "model.weight_by=query"),
    ("forecast", "defaults: [override /model: ridge]\nmodel: {classifier: {prepared: true}}", "model.classifier.prepared", "model.classifier.standardize"),
    ("forecast", "defaults: [override /model: ridge]\nmodel: {gigabytes: 2.0}", "model.gigabytes", "model.max_memory_gb"),
    ("forecast", "defaults: [override /model: slope]\nmodel: {drifts: true}", "model.drifts", "model.trend"),
    ("forecast", "defaults: [override /model: bagging]\nmodel: {count: 3}", "model.count", "model.num_members"),
    ("forecast", "defaults: [override /model: bagging]\nmodel: {share: 0.3}", "model.share", "model.fraction"),
    ("forecast", "defaults: [override /model: mixed_effects]\nmodel: {trends: true}", "model.trends", "model.random_slopes"),
    ("forecast", "defaults: [override /model: mixed_effects]\nmodel: {known: true}", "model.known", "model.future_covariates"),
    ("forecast", "defaults: [override /model/head: ssm]\nmodel: {head: {fastest: 1}}", "model.head.fastest", "model.head.min_time_constant"),
    ("forecast", "defaults: [override /model/augment: standard]\nmodel: {augment: {transforms: [{_target_: framework.image.augment.space.Flip, share: 1.0}]}}", "model.augment.transforms[0].share", "model.augment.transforms[0].probability"),
    ("ingest", "data: {reader: {variables: {age: {plus_time: true}}}}", "data.reader.variables.age.plus_time", "data.reader.variables.age.baseline_plus_elapsed"),
    ("ingest", "data: {reader: {static: {died: {as_time: true}}}}", "data.reader.static.died.as_time", "data.reader.static.died.is_event_time"),
    ("ingest", "data: {reader: {variables: {age: {roles: [known_ahead]}}}}", "data.reader.variables.age.roles=known_ahead", "data.reader.variables.age.roles=future"),
    ("forecast", "defaults: [override /split: leaderboard]", "split=leaderboard", "split=tadpole_leaderboard"),
    ("forecast", "data: {events: {conversion: {falls: true}}}", "data.events.conversion.falls", "data.events.conversion.direction"),
    ("forecast", "data: {events: {death: {_target_: framework.data.queries.events.RecordedEvent, time: died, within: 0.1}}}", "data.events.death.within", "data.events.death.resolution_years"),
    ("forecast", "task: ahead", "task=ahead", "task=unlabelled"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "argument", "old", "new"), COMMAND_LINES)
def test_an_override_is_answered(run, name, argument, old, new):
    assert run(name, argument) == (1, line(old, new))


@pytest.mark.parametrize(("name", "text", "old", "new"), FILES)
def test_a_file_is_answered(run, folder, name, text, old, new):
    assert run(name, *folder(text)) == (1, line(old, new))


def test_a_launcher_of_a_file_is_answered(run, folder):
    told = run("forecast", *folder("hydra: {launcher: {gigabytes: 2.0}}"))
    assert told[0] == 1
    assert told[1][0].endswith(
        line("hydra.launcher.gigabytes", "hydra.launcher.max_memory_gb")[0].removeprefix("error: ")
    )


def test_names_of_today_have_no_answer():
    assert replaced("task") is None
    assert replaced("data.reader.variables.ask") is None
    assert replaced("model.random_slopes") is None
    assert replaced_value("task", "future_visits") is None
    assert replaced_value("seed", 3) is None
