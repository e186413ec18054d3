"""Files of a configuration folder set what belongs to a study, and are refused before Hydra acts on anything else."""

import os
import sys
from pathlib import Path

import pytest

from framework.cli.command import command
from framework.config.config_files import check_config_files
from framework.errors import UserError

CALLED = {"_target_": "tests.config.test_config_files.called"}
EXPERIMENT = "experiment/mine.yaml"


def called(*_, **__):
    raise AssertionError("a callback of a file was made")


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def whole(text: str) -> dict[str, str]:
    """An experiment's file that writes to the whole configuration."""
    return {EXPERIMENT: f"# @package _global_\n{text}\n"}


HOSTILE = {
    "trust": (whole("trust: [os]"), "sets trust"),
    "a callback": (whole("hydra: {callbacks: {x: {_target_: os.mkdir, path: x}}}"), "hydra.callbacks.x._target_"),
    "the environment": (whole("hydra: {job: {env_set: {CXX: /tmp/x}}}"), "hydra.job.env_set.CXX"),
    "a copied environment": (whole("hydra: {job: {env_copy: [HOME]}}"), "hydra.job.env_copy"),
    "a log": (whole("hydra: {job_logging: {handlers: {f: {filename: x}}}}"), "hydra.job_logging"),
    "a working folder": (whole("hydra: {run: {dir: /tmp/x}}"), "hydra.run.dir"),
    "a change of folder": (whole("hydra: {job: {chdir: true}}"), "hydra.job.chdir"),
    "an output folder": (whole("hydra: {output_subdir: ../x}"), "hydra.output_subdir"),
    "a sweep's folder": (whole("hydra: {sweep: {dir: /tmp/x}}"), "hydra.sweep.dir"),
    "a launcher": (whole("hydra: {launcher: {_target_: os.mkdir}}"), "hydra.launcher._target_"),
    "a shell line": (whole("hydra: {launcher: {setup: [touch x]}}"), "hydra.launcher.setup"),
    "a partition with a line": (whole('hydra: {launcher: {partition: "a\\nb"}}'), "hydra.launcher.partition"),
    "a database": (whole("hydra: {sweeper: {storage: /tmp/x}}"), "hydra.sweeper.storage"),
    "a swept trust": (whole("hydra: {sweeper: {params: {+trust: '[a],[b]'}}}"), "hydra.sweeper.params: trust"),
    "a swept folder": (whole("hydra: {sweeper: {params: {hydra.run.dir: x}}}"), "hydra.sweeper.params: hydra.run.dir"),
    "a search path": (whole("hydra: {searchpath: [file:///tmp]}"), "hydra.searchpath"),
    "a chosen log": (whole("defaults: [{override /hydra/job_logging: default}]"), "/hydra/job_logging"),
    "a chosen launcher": (whole("defaults: [{override /hydra/launcher: submitit_slurm}]"), "/hydra/launcher"),
    "a package of Hydra's": (whole("defaults: ['/data/oasis2@hydra.callbacks']"), "data/oasis2@hydra.callbacks"),
    "a file in a package of Hydra's": (
        whole("defaults: ['/data/evil@hydra.callbacks']") | {"data/evil.yaml": "x: 1\n"},
        "hydra.callbacks",
    ),
    "a header of Hydra's": ({EXPERIMENT: "# @package hydra.callbacks\nx: {_target_: os.mkdir}\n"}, "hydra.callbacks.x"),
    "runs elsewhere": (whole("runs: /tmp/x"), "sets runs"),
    "runs above": (whole("runs: ../x"), "sets runs"),
    "a cohort elsewhere": (whole("data: {store: /tmp/x}"), "sets data.store"),
    "a cohort at home": (whole("data: {store: ~/x}"), "sets data.store"),
    "a cohort by environment": (whole("data: {store: '${oc.env:HOME}/x'}"), "sets data.store"),
    "data by reference": (whole("data: ${fitted}"), "sets data as a whole"),
    "Hydra by reference": (whole("hydra: ${fitted}"), "sets hydra"),
    "a tracker elsewhere": (whole("tracking: {folder: /tmp/x}"), "sets tracking.folder"),
}


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]" for i in range(1, levels))]
    return "\n".join(lines)


@pytest.mark.parametrize("chosen", [(), ("+experiment=mine",)])
def test_aliases_that_unfold_without_end_are_refused(tmp_path, chosen):
    write(tmp_path, {EXPERIMENT: f"# @package _global_\n{bomb(40)}\n"})
    for place in (["--config-dir", str(tmp_path)], [f"hydra.searchpath=[file://{tmp_path}]"]):
        with pytest.raises(UserError, match="expands to more than 100000 values"):
            check_config_files([*place, *chosen], "forecast")


def test_aliases_within_reason_are_read(tmp_path):
    write(tmp_path, {EXPERIMENT: f"# @package _global_\n{bomb(5)}\n"})
    check_config_files(["--config-dir", str(tmp_path), "+experiment=mine"], "forecast")


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a {b: *a}\n"])
def test_a_value_that_holds_itself_is_refused(tmp_path, text):
    write(tmp_path, {EXPERIMENT: text})
    with pytest.raises(UserError, match="expands to more"):
        check_config_files(["--config-dir", str(tmp_path)], "forecast")


def test_a_configuration_that_is_a_pipe_is_refused_unopened(tmp_path):
    os.mkfifo(tmp_path / "mine.yaml")
    with pytest.raises(UserError, match="expected a regular file"):
        check_config_files(["--config-dir", str(tmp_path)], "forecast")


@pytest.mark.parametrize("case", HOSTILE, ids=str)
def test_what_no_file_may_set_is_refused_in_one_line(tmp_path, case):
    files, complaint = HOSTILE[case]
    write(tmp_path, files)
    with pytest.raises(UserError) as told:
        check_config_files(["--config-dir", str(tmp_path), "+experiment=mine"], "forecast")
    assert complaint in str(told.value)
    assert str(tmp_path) in str(told.value)


def test_a_file_that_only_a_later_job_of_a_sweep_chooses_is_read_as_well(tmp_path):
    write(tmp_path, {"model/evil.yaml": "# @package _global_\nhydra: {job: {env_set: {CXX: x}}}\n"})
    words = ["-m", "--config-dir", str(tmp_path)]
    for choice in ("model=gru,evil", "model=choice(gru,evil)", "model=glob(evi*)"):
        with pytest.raises(UserError, match="env_set"):
            check_config_files([*words, choice], "forecast")
    write(tmp_path, whole("hydra: {sweeper: {params: {model: 'gru,evil'}}}"))
    with pytest.raises(UserError, match="env_set"):
        check_config_files([*words, "+experiment=mine"], "forecast")


def test_files_that_are_not_chosen_may_say_anything(tmp_path):
    write(tmp_path, HOSTILE["a callback"][0])
    check_config_files(["--config-dir", str(tmp_path)], "forecast")


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {sweeper: {params: {seed: '0,1', model/head: 'gru,lstm'}}}",
        "hydra: {launcher: {max_memory_gb: 2.0}}\ndefaults: [{override /hydra/launcher: vmap}]",
        "hydra: {sweeper: {trials: 3, sampler: random}}\ndefaults: [{override /hydra/sweeper: optuna}]",
        "runs: here\ndata: {store: 'cohorts/${data.name}', path: /elsewhere/visits.csv}",
        "training: {steps: 3}\nseed: 4",
    ],
)
def test_what_belongs_to_a_study_is_left_alone(tmp_path, text):
    write(tmp_path, whole(text))
    check_config_files(["-m", "--config-dir", str(tmp_path), "+experiment=mine"], "forecast")


def test_the_command_line_may_set_what_files_may_not(tmp_path):
    write(tmp_path, whole("seed: 4"))
    words = ["hydra.run.dir=x", "+hydra.job.env_set.A=1", "runs=/tmp/x", "hydra/job_logging=default"]
    check_config_files(["--config-dir", str(tmp_path), "+experiment=mine", *words], "forecast")


@pytest.mark.parametrize("option", ["--config-path", "--config-name", "--experimental-rerun"])
def test_there_is_one_way_to_bring_files(option):
    with pytest.raises(UserError, match="--config-dir"):
        check_config_files([option, "x"], "forecast")


def test_nothing_of_a_file_is_acted_on_before_it_is_read(tmp_path, monkeypatch, capsys):
    """Hydra would make the callback, set the variable and change the folder before the command is asked."""
    write(
        tmp_path,
        whole(f"hydra: {{callbacks: {{x: {{_target_: {CALLED['_target_']}}}}}, job: {{env_set: {{PROGNAX_X: '1'}}}}}}"),
    )
    monkeypatch.setattr(sys, "argv", ["forecast", "--config-dir", str(tmp_path), "+experiment=mine"])
    with pytest.raises(SystemExit) as stopped:
        command("forecast")(pytest.fail)()
    assert stopped.value.code == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "hydra.callbacks" in line
