"""Explanations of keys, read from comments of YAML."""

from pathlib import Path

import pytest

from framework.cli.help import help_text
from framework.config.explanations import Explanation, describe_file, explain_keys, summarize_file

CONF = Path(__file__).parents[2] / "conf"
COMMANDS = sorted(file.stem for file in CONF.glob("*.yaml") if file.stem != "base")
FILES = sorted(str(file.relative_to(CONF)) for file in CONF.rglob("*.yaml"))
STUDIES = [name for name in FILES if name.startswith("experiment/")]

TEXT = """\
# @package _global_
# python -m experiments.forecast +experiment=x
# A study: of hearts. It has a second sentence.
#   a command
_target_: a.b
seed: 0   # of the folds
path: "a # b"
# above the key,
# in two lines
list: [1,
  2]   # of numbers
same: ${data.path}
reader:
  size: 3   # voxels
  inner: {x: 1}
columns:   # of the table
  age: {x: 1}
  sex: {x: 2}
mixed:   # a mapping
  _partial_: true
  deep:
    key: 1   # inside
"""


def test_each_key_has_its_own_comment():
    assert explain_keys(TEXT) == {
        "seed": Explanation("0", "of the folds"),
        "path": Explanation('"a # b"', ""),
        "list": Explanation("[1, 2]", "of numbers"),
        "same": Explanation("${data.path}", "the value of data.path"),
        "reader.size": Explanation("3", "voxels"),
        "reader.inner.x": Explanation("1", ""),
        "columns": Explanation("{age: ..., sex: ...}", "of the table"),
        "mixed.deep.key": Explanation("1", "inside"),
    }


def test_lines_above_a_key_explain_it_unless_they_begin_the_file():
    assert explain_keys("# of the file\na: 1\n# of b,\n# alone\nb: 2\n") == {
        "a": Explanation("1", ""),
        "b": Explanation("2", "of b, alone"),
    }


def test_a_file_is_described_by_the_comment_at_its_beginning():
    assert describe_file(TEXT).splitlines()[1:] == ["A study: of hearts. It has a second sentence.", "  a command"]
    assert summarize_file(TEXT) == "A study: of hearts"
    assert summarize_file("# Read a cohort:\n#   python -m\nx: 1\n") == "Read a cohort"
    assert summarize_file("x: 1  # y\n") == ""


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_a_summary_and_all_its_keys_an_explanation(name):
    text = (CONF / name).read_text()
    assert summarize_file(text), name
    unexplained = [key for key, entry in explain_keys(text).items() if not entry.text]
    assert not unexplained or name in STUDIES, "a study sets keys that other files explain"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_line_of_help_has_an_explanation(command):
    studies = [
        f"+experiment={Path(name).stem}" for name in STUDIES if f"experiments.{command} " in (CONF / name).read_text()
    ]
    for chosen in ([], *([study] for study in studies)):
        _, _, tables = help_text(command, chosen).partition("Options:")
        lines = [line.strip() for line in tables.splitlines() if line.startswith("  ")]
        assert [line for line in lines if "  " not in line] == []
