"""A path with signs that Hydra reads as its own is answered with what can be pasted, and that is read as it was meant.

https://github.com/hydra-ecosystem/hydra/issues/1577, https://github.com/hydra-ecosystem/hydra/issues/2705,
https://github.com/hydra-ecosystem/hydra/issues/836
"""

import shlex

import pytest

from framework.config.quoting import quote_override
from tests.experiments.conftest import call

NAMES = ("my scäns/v.csv", "a,b.csv", "epoch=9.csv", "x#1.csv", "x(1).csv", "[a]{b}.csv", "it's.csv", 'a "b".csv')


def ingest(*words: str):
    return call(
        "ingest",
        "data=table",
        "data.store=c",
        "if_exists=overwrite",
        "+data.reader.variables.score={roles: [input, target]}",
        *words,
    )


@pytest.mark.parametrize("name", NAMES)
def test_what_hydra_cannot_read_is_told_with_its_quotes(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("subject,time,score\na,0,1\na,1,2\n")
    told = ingest(f"data.path={name}")
    if told.code:  # of some signs Hydra makes nothing
        assert len(told.err) == 1
        assert told.err[0].startswith(
            "error: config: a path has characters with a meaning to Hydra; quote it for Hydra and"
        )
        [word] = shlex.split(told.err[0].partition("for the shell: ")[2])
        told = ingest(word)
    assert told.code == 0, told.err
    assert "1 subjects used" in told.out + " ".join(told.err)


def test_the_quotes_are_those_of_the_shell_and_of_hydra(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ingest("data.path=my scäns/v.csv").err[0].endswith(""": 'data.path="my scäns/v.csv"'""")


def test_a_plain_path_needs_no_quotes():
    assert quote_override("data.path", "/a/b-c_d.1/visits.csv") == "data.path=/a/b-c_d.1/visits.csv"
    assert quote_override("run", "2024") == 'run="2024"'
