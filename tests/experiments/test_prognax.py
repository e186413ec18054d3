"""The `prognax` command: its tasks, a misspelt one, and completion in bash."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import __main__ as prognax

ROOT = Path(__file__).parents[2]
COMPLETE = """
prognax() {{ {python} -m experiments "$@"; }}
source experiments/completion.bash
COMP_WORDS=({words}) COMP_CWORD={place}
_prognax
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(*words: str) -> list[str]:
    """What bash offers for the last word."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = COMPLETE.format(python=sys.executable, words=quoted, place=len(words) - 1)
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_every_task_is_a_module_of_the_experiments(monkeypatch, capsys):
    modules = {file.stem for file in (ROOT / "experiments").glob("*.py")} - {"__init__", "__main__"}
    assert {name.replace("-", "_") for name in prognax.TASKS} - {"completion"} == modules
    monkeypatch.setattr(sys, "argv", ["prognax"])
    prognax.main()
    said = capsys.readouterr().out
    assert all(f"\n  {name} " in said for name in prognax.TASKS)


def test_a_misspelt_task_is_answered_with_the_nearest(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["prognax", "compre"])
    with pytest.raises(SystemExit) as stopped:
        prognax.main()
    assert stopped.value.code == 1
    assert capsys.readouterr().err == "error: there is no task 'compre'; did you mean 'compare'?\n"


def test_a_task_gets_the_words_after_it(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["prognax", "report", f"run={tmp_path}/nowhere"])
    with pytest.raises(SystemExit) as stopped:
        prognax.main()
    assert stopped.value.code == 1
    assert "nowhere" in capsys.readouterr().err


def test_a_run_records_the_command_that_repeats_it(monkeypatch, capsys, tmp_path):
    (tmp_path / "t.csv").write_text(
        "subject,time,score\n" + "".join(f"s{i},{t},{i + t}\n" for i in range(9) for t in (0, 1))
    )
    words = [f"data.path={tmp_path}/t.csv", f"data.store={tmp_path}/c", f"runs={tmp_path}/runs", "data.targets=[score]"]
    words += [
        "data=table",
        "+data.reader.variables.score={roles: [input, target]}",
        "model=last_visit",
        "split.folds=3",
    ]
    monkeypatch.setattr(sys, "argv", ["prognax", "forecast", *words, "report=false", "resamples=100"])
    with pytest.raises(SystemExit) as stopped:
        prognax.main()
    assert stopped.value.code == 0, capsys.readouterr().err
    [manifest] = (tmp_path / "runs").rglob("manifest.json")
    assert json.loads(manifest.read_text())["command"].startswith("python -m experiments.forecast data.path=")


def test_bash_completes_tasks_and_the_choices_of_a_task():
    assert completed("prognax", "comp") == ["compare", "completion"]
    assert completed("prognax", "forecast", "data=oas") == ["data=oasis2"]


def test_bash_completes_options_and_keys_after_options():
    assert completed("prognax", "forecast", "--ver") == ["--verbose"]
    assert completed("prognax", "forecast", "--quiet", "model=ridge", "model.residu") == ["model.residual="]


@pytest.mark.parametrize("option", ["--config-dir {}", "--config-dir={}", "-cd {}"])
def test_bash_completes_the_choices_of_a_folder_of_ones_own(tmp_path, option):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("defaults: [table]\nmine: 1\n")
    words = option.format(tmp_path).split()
    assert completed("prognax", "forecast", *words, "data=mi") == ["data=mine"]
    assert completed("prognax", "forecast", *words, "data=mine", "data.mi") == ["data.mine="]


def test_bash_completes_the_folder_itself_as_a_path(tmp_path):
    (tmp_path / "configurations").mkdir()
    assert completed("prognax", "forecast", "--config-dir", f"{tmp_path}/conf") == [f"{tmp_path}/configurations"]
