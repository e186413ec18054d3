"""What a command prints and how it exits, whatever the function within it does."""

import errno
import html
import json
import logging
import pickle
import shlex
import sys

import pytest

from framework.cli.command import command
from framework.config.error_lines import explain
from framework.config.quoting import quote_override
from framework.errors import InternalError, UserError
from framework.report import sweep_page
from framework.sweeps.job_log import read_jobs
from framework.sweeps.worker import describe_failure, rebuild_error


@pytest.fixture
def run(monkeypatch, capsys):
    def call(function, *arguments: str):
        monkeypatch.setattr(sys, "argv", ["forecast", *arguments])
        with pytest.raises(SystemExit) as stopped:
            command("forecast")(function)()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err.splitlines()

    return call


def test_the_function_gets_the_composed_config(run):
    seen = []
    assert run(seen.append, "seed=3", "model=lstm") == (0, "", [])
    assert (seen[0].seed, seen[0].model.head.cell._target_) == (3, "framework.nn.heads.lstm.LSTM")


def test_interpolations_are_resolved_before_it_is_called(run):
    seen = []
    run(seen.append, "training.steps=7")
    assert seen[0].model.training.steps == 7


def fails_with(error):
    def function(config):
        raise error

    return function


def test_what_the_user_can_mend_is_one_line_and_exit_1(run):
    assert run(fails_with(UserError("a\n  b; c"))) == (1, "", ["error: a b; c"])


def test_a_user_error_is_told_though_others_wrap_it(run):
    def function(config):
        try:
            raise UserError("the cause")
        except UserError as error:
            raise RuntimeError("wrapped") from error

    assert run(function) == (1, "", ["error: the cause"])


def test_a_path_that_cannot_be_used_is_one_line(run):
    def function(config):
        open("/nowhere/at/all")  # noqa: SIM115

    code, _, err = run(function)
    assert (code, len(err)) == (1, 1)
    assert "/nowhere/at/all" in err[0]


def test_what_is_our_fault_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["forecast"])
    with pytest.raises(ZeroDivisionError):
        command("forecast")(fails_with(ZeroDivisionError("ours")))()


def test_an_interruption_says_how_to_go_on(run):
    code, _, err = run(fails_with(KeyboardInterrupt()))
    assert code == 130
    assert err == ["interrupted; the same command goes on from the last checkpoint"]


def write_messages(config):
    for level in (logging.DEBUG, logging.INFO, logging.WARNING):
        logging.getLogger("framework.runs").log(level, "%s, 100%%", logging.getLevelName(level).lower())


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (["--quiet"], ["warning: warning, 100%"]),
        ([], ["info, 100%", "warning: warning, 100%"]),
        (["--verbose"], ["debug, 100%", "info, 100%", "warning: warning, 100%"]),
    ],
)
def test_an_option_chooses_the_messages_and_does_not_reach_hydra(run, options, lines):
    assert run(write_messages, *options, "seed=1") == (0, "", lines)
    assert run(write_messages, "seed=1", *options) == (0, "", lines)


def test_quiet_and_verbose_exclude_each_other(run):
    line = "error: got --quiet and --verbose, expected one of them; fix: leave one out"
    assert run(pytest.fail, "--quiet", "--verbose") == (1, "", [line])


def test_in_a_sweep_one_mistake_leaves_the_other_jobs_alone(run):
    seen = []

    def function(config):
        if config.seed == 1:
            raise UserError("seed 1 is bad")
        seen.append(config.seed)

    assert run(function, "-m", "seed=0,1,2")[::2] == (1, ["error: job 1 (seed=1) failed: seed 1 is bad"])
    assert seen == [0, 2]


def test_a_fault_met_while_a_user_error_is_handled_is_not_taken_for_it(run):
    def function(config):
        try:
            raise UserError("theirs")
        except UserError:
            return 1 / 0

    with pytest.raises(ZeroDivisionError):
        run(function)


def test_in_a_sweep_a_fault_of_ours_is_called_so_and_keeps_its_traceback_once(run, tmp_path):
    def function(config):
        if config.seed == 1:
            raise UserError("seed 1 is bad")
        return 1 / 0

    code, _, err = run(function, "-m", "seed=0,1,2", f"hydra.sweep.dir={tmp_path}")
    assert code == 1
    assert err[:3] == [
        "error: job 0 (seed=0) failed: internal error: ZeroDivisionError: division by zero",
        "error: job 1 (seed=1) failed: seed 1 is bad",
        "error: job 2 (seed=2) failed: internal error: ZeroDivisionError: division by zero",
    ]
    assert sum("Traceback (most recent call last)" in line for line in err) == 1
    assert any("return 1 / 0" in line for line in err)
    assert [bool(job["trace"]) for job in read_jobs(tmp_path)] == [True, False, True]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UserError("theirs"), UserError),
        (OSError(errno.ENOSPC, "No space left on device", "x"), UserError),
        (ValueError("ours"), InternalError),
        (RuntimeError("ours"), InternalError),
    ],
)
def test_a_workers_error_comes_back_as_the_kind_it_was(error, kind):
    def raises():
        raise error

    with pytest.raises(type(error)) as caught:
        raises()
    back = rebuild_error(json.loads(json.dumps(describe_failure(caught.value))))
    assert type(back) is kind
    if isinstance(back, InternalError):
        assert "in raises" in back.trace
        assert str(back) == f"internal error: {type(error).__name__}: ours"
        assert pickle.loads(pickle.dumps(back)).trace == back.trace


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["training.optimizer.learnin_rate=1"], "error: no key 'training.optimizer.learnin_rate' in the config of this command; did you mean 'training.optimizer.learning_rate'?"),
        (["modle=gru"], "error: no key 'modle' in the config of this command; did you mean 'model'?"),
        (["data=table", "data.pth=x"], "error: no key 'data.pth' in the config of this command; did you mean 'data.path'?"),
        (["data=atrophy", "data.voxel=64"], "error: no key 'data.voxel' in the config of this command; did you mean 'data.voxels'?"),
        (["zzzzz=1"], "error: no key 'zzzzz' in the config of this command; see --help for the keys there are"),
        (["data=table", "data.reader.variables={score: {}}"], "error: 'data.reader.variables' has no such entries yet; add them one by one: +data.reader.variables.<name>=..."),
        (["data=table"], "error: the config has no value for 'data.path'; give it on the command line: data.path=..."),
    ],
)  # fmt: skip
def test_a_misspelt_key_is_told_with_what_was_meant(run, arguments, complaint):
    assert run(pytest.fail, *arguments) == (1, "", [complaint])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["model=gruu"], "Could not find 'model/gruu'; did you mean 'gru'? Available options in 'model': "),
        (["model/head=gru_e"], "Could not find 'model/head/gru_e'; did you mean 'gru_d'? Available options in"),
        (["+experiment=none"], "Could not find 'experiment/none'"),
        (["training.steps=[1"], "no viable alternative"),
        (["seed=${nothing}"], "nothing"),
        (["seed=${oc.env:NO_SUCH_VARIABLE}"], "NO_SUCH_VARIABLE"),
        (["~foo"], "foo"),
        (["data.targets.x=1"], "check the overrides"),
        (["+experimen=demo_oasis2"], "did you mean 'experiment'?"),
        (["training.steps=many"], "training.steps: got 'many'; expected int"),
        (["model._target_=numpy.load"], "'trust=[numpy]'"),
    ],
)
def test_whatever_hydra_makes_of_a_mistake_is_one_line(run, arguments, complaint):
    code, out, err = run(pytest.fail, *arguments)
    assert (code, out, len(err)) == (1, "", 1), err
    assert err[0].startswith("error: ")
    assert complaint in err[0]


@pytest.fixture
def own(tmp_path):
    """A folder of one's own configurations, as `--config-dir` names it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("defaults: [table, _self_]\nname: mine\npath: x.csv\n")
    return str(tmp_path)


@pytest.mark.parametrize("form", [["--config-dir", "{}"], ["--config-dir={}"], ["-cd", "{}"]])
def test_a_misspelt_key_beside_ones_own_configurations_is_told_as_well(run, own, form):
    words = [*(word.format(own) for word in form), "data=mine", "data.pth=y"]
    complaint = "error: no key 'data.pth' in the config of this command; did you mean 'data.path'?"
    assert run(pytest.fail, *words) == (1, "", [complaint])


def test_what_a_sweep_prints_and_keeps_can_be_pasted(run, own, tmp_path):
    def function(config):
        if config.seed:
            raise UserError("bad")
        return 1.0

    sweep, words = tmp_path / "a b", ["data=mine", 'data.targets=["a;b"]']
    code, out, err = run(function, "-m", "--config-dir", own, *words, "seed=0,1", f"hydra.sweep.dir={sweep}")
    assert code == 1
    assert err == [f"error: job 1 ({shlex.join([*words, 'seed=1'])}) failed: bad"]
    page = shlex.quote(quote_override("sweep", str(sweep)))
    assert out.rstrip().endswith(f"best 1: {shlex.join([*words, 'seed=0'])}; python -m experiments.report {page}")
    command = ["python", "-m", "experiments.forecast", "--config-dir", own]
    assert read_jobs(sweep)[0]["command"] == command
    drawn = html.unescape(sweep_page.build(sweep, read_jobs(sweep)).read_text())
    assert shlex.join([*command, *words, "seed=0"]) in drawn


def test_a_line_of_a_sweep_that_was_edited_is_refused(run, tmp_path):
    run(lambda config: float(config.seed), "-m", "seed=0,1", f"hydra.sweep.dir={tmp_path}")
    assert [row["value"] for row in read_jobs(tmp_path)] == [0.0, 1.0]
    file = tmp_path / "jobs.jsonl"
    written = file.read_text()
    for damaged in (written.replace("1.0", "0.5"), written[:-9], written.replace("{", "[", 1), "3\n"):
        file.write_text(damaged)
        with pytest.raises(UserError, match=r"line [12] of .* is not what was written"):
            read_jobs(tmp_path)


def test_nothing_but_user_errors_are_explained():
    assert explain(ValueError("ours"), "forecast") is None
    assert explain(UserError("theirs"), "forecast") == "theirs"
