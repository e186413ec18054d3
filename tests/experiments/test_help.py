"""Help and completion answer without loading what computes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.recipes import names

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    file.stem for file in (ROOT / "experiments").glob("*.py") if file.stem not in ("__init__", "__main__")
)
HEAVY = {"jax", "flax", "numpy", "pandas", "zarr", "matplotlib"}


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def loading(name: str, *arguments: str, **environment: str) -> tuple[str, list[str]]:
    """What a command prints, and its exit code with what heavy modules it loaded."""
    script = (
        "import runpy, sys\n"
        f"sys.argv = {[name, *arguments]}\n"
        "code = 0\n"
        "try:\n"
        f"    runpy.run_module('experiments.{name}', run_name='__main__')\n"
        "except SystemExit as stopped:\n"
        "    code = stopped.code or 0\n"
        f"print(code, *sorted({HEAVY} & set(sys.modules)), file=sys.stderr)\n"
    )
    told = python("-c", script, **environment)
    return told.stdout, told.stderr.split()


@pytest.mark.parametrize("name", COMMANDS)
def test_help_tells_the_choices_and_loads_nothing_heavy(name):
    told, loaded = loading(name, "--help")
    assert loaded == ["0"]
    lines = told.splitlines()
    assert lines[0] == f"usage: prognax {name.replace('_', '-')} [option ...] [group=name ...] [key=value ...]"
    if re.search("^data=", told, re.MULTILINE):
        start = next(number for number, line in enumerate(lines) if line.startswith("data="))
        assert [line.split()[0] for line in lines[start + 1 : start + 1 + len(names("data"))]] == names("data")
    [runs] = [line for line in lines if line.startswith("  runs=")]
    assert runs.endswith("<runs>/<experiment>/<hash of config, data and code>")


def test_the_list_of_tasks_loads_nothing_heavy():
    told, loaded = loading("__main__", "--help")
    assert (told.splitlines()[0], loaded) == ("usage: prognax <task> [key=value ...]", ["0"])


def test_help_shows_the_keys_of_the_groups_that_are_chosen_and_folders_of_ones_own(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "# The one of this hospital.\ndefaults: [ssm_like]\nlayers: 7  # of it\n"
    )
    (tmp_path / "model" / "ssm_like.yaml").write_text("width: 3\n# in total\ndepth: 2\n")
    told, loaded = loading("forecast", "--config-dir", str(tmp_path), "model=mine", "seed=3", "--help")
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert loaded == ["0"]
    assert "model=mine:" in lines
    assert "mine The one of this hospital" in lines
    assert lines[lines.index("model.width=3") :][:3] == [
        "model.width=3",
        "model.depth=2 in total",
        "model.layers=7 of it",
    ]


def test_a_group_that_is_misspelt_is_one_line():
    told = python("-m", "experiments", "forecast", "model=gruu", "--help")
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr.startswith("error: config: Could not find 'model/gruu'; did you mean 'gru'?")


def test_completion_loads_nothing_heavy():
    told, loaded = loading("forecast", "-sc", "query=bash", COMP_LINE="python experiments/forecast.py data=oas")
    assert (told.split(), loaded) == (["data=oasis2"], ["0"])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("model=", [f"model={name}" for name in names("model")]),
        ("model=l", ["model=last_visit", "model=logistic", "model=lstm"]),
        ("model/head=", [f"model/head={name}" for name in names("model/head")]),
        ("model=lstm training.optimizer.learning", ["training.optimizer.learning_rate="]),
        ("see", ["seed="]),
    ],
)
def test_a_word_half_typed_is_completed(line, expected):
    """Hydra's own completion; bash asks it with the whole line in COMP_LINE."""
    told = python("experiments/forecast.py", "-sc", "query=bash", COMP_LINE=f"python experiments/forecast.py {line}")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.split() == expected


def test_bash_itself_completes():
    """What a user gets from `eval "$(python experiments/forecast.py -sc install=bash)"` and the tab key."""
    line = "python experiments/forecast.py model/head="
    script = (
        'eval "$(python experiments/forecast.py -sc install=bash)"\n'
        f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD=2\n"
        "hydra_bash_completion\n"
        'echo "${COMPREPLY[@]}"\n'
        "complete -p python\n"
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    told = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    offered, registered = told.stdout.splitlines()
    assert offered.split() == [f"model/head={name}" for name in names("model/head")]
    assert "hydra_bash_completion" in registered
