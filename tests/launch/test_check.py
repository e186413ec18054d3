"""A config is checked whole before anything is done with it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from omegaconf import OmegaConf

from framework.errors import UserError
from framework.launch.check import check, fits

KFOLD = {"_target_": "framework.data.split.KFold", "folds": 5, "validation": 0.1, "fold": 0, "seed": 0}


def config(**parts):
    return OmegaConf.create({"experiment": "forecast", "runs": "runs", "trust": [], "seed": 0, **parts})


def refused(**parts) -> str:
    with pytest.raises(UserError) as told:
        check(config(**parts))
    assert "\n" not in str(told.value)
    return str(told.value)


def test_what_is_right_passes():
    check(config(split=KFOLD))
    check(config(split=KFOLD | {"validation": 0}))  # a whole number is a number
    check(config(model={"_target_": "framework.nn.heads.gru.GRU", "_partial_": True, "features": 3}))
    check(config(model={"_target_": "optax.adamw", "learning_rate": 0.1}))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"foldz": 3}, r"split.foldz: framework.data.split.KFold takes no 'foldz'; did you mean 'fold'\?"),
        ({"other": 3}, r"takes no 'other'; it takes \['folds', 'validation', 'fold', 'seed', 'stratify'\]"),
        ({"folds": "5"}, "split.folds: got '5'; expected int"),
        ({"folds": 5.0}, "split.folds: got 5.0; expected int"),
        ({"folds": True}, "split.folds: got True; expected int"),
        ({"folds": None}, "split.folds: got None; expected int"),
        ({"folds": [5]}, "split.folds: got .5.; expected int"),
        ({"validation": "some"}, "split.validation: got 'some'; expected float"),
        ({"seed": -1}, "split.seed: got -1; expected 0 or more"),
        ({"_target_": "framework.data.split.KFolds"}, "no 'framework.data.split.KFolds' to be found"),
        ({"_target_": "framework.data.splits.KFold"}, "no 'framework.data.splits.KFold' to be found"),
    ],
)
def test_an_argument_that_is_not_taken_or_not_of_its_type(changes, complaint):
    assert re.search(complaint, refused(split=KFOLD | changes))


def test_an_argument_that_is_lacking_unless_it_comes_later():
    less = {key: value for key, value in KFOLD.items() if key != "folds"}
    assert "needs 'folds'; give split.folds=..." in refused(split=less)
    check(config(split=less | {"_partial_": True}))


def test_it_looks_into_lists_and_mappings_at_any_depth():
    assert "model.parts[1].inner.foldz" in refused(model={"parts": [KFOLD, {"inner": KFOLD | {"foldz": 1}}]})


@pytest.mark.parametrize(
    "target",
    [
        "numpy.load",
        "os.system",
        "builtins.eval",
        "subprocess.run",
        "frameworks.data.split.KFold",
        "framework.launch.folder.os.system",  # by way of a trusted module
        "framework.launch.folder.subprocess",
        "framework.launch.check.import_module",
        "framework.launch.job.instantiate",
        "framework.types.LEVELS",
        "framework",
        "KFold",
        "",
        ".",
        "..",
        3,
        None,
        ["framework.data.split.KFold"],
    ],
)
def test_no_target_but_our_own_is_loaded(target):
    assert refused(model={"_target_": target}).startswith("model: ")


def test_an_untrusted_target_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "trust=[its package]" in refused(model={"_target_": "evil.Evil"})


def test_what_is_trusted_by_name_is_allowed(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("def head(features: int): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    check(config(model={"_target_": "mine.head", "features": 3}, trust=["mine"]))
    assert "expected int" in refused(model={"_target_": "mine.head", "features": "3"}, trust=["mine"])


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ({"sede": 3}, "no command reads 'sede'; did you mean 'seed'?"),
        ({"experimen": "demo"}, "did you mean 'experiment'?"),
        ({"nonsense": 3}, "leave it out"),
        ({"seed": "x"}, "seed: got 'x'; expected int"),
        ({"seed": -1}, "seed: got -1; expected 0 or more"),
        ({"resamples": 10}, "resamples: got 10; expected 100 or more"),
        ({"models": "gru"}, "models: got 'gru'; expected Sequence[str]"),
        ({"ahead": [1, "two"]}, "expected Sequence[float]"),
        ({"known": {"treated": ["yes"]}}, "known: got {'treated': ['yes']}"),
        ({"settings": {"gru": "optimizer.steps=3"}}, "settings: got"),
        ({"runs": None}, "runs: got None; expected str"),
        ({"trust": "numpy"}, "trust: got 'numpy'"),
        ({"data": {"targets": "MMSE"}}, "data.targets: got 'MMSE'; expected Sequence[str]"),
        ({"data": {"store": 3}}, "data.store: got 3; expected str"),
        ({"data": {"path": "???"}}, "no value for 'data.path'; give it on the command line: data.path=..."),
        ({"model": {"_target_": "framework.nn.heads.gru.GRU", "features": 0}}, "expected 1 or more"),
    ],
)
def test_settings_at_the_root(parts, complaint):
    assert complaint in refused(**parts)


@pytest.mark.parametrize(
    ("value", "hint", "expected"),
    [
        (3, int, True),
        (True, int, False),
        (3, float, True),
        (False, float, False),
        (3.5, int, False),
        ("3", str, True),
        (None, int | None, True),
        (None, int, False),
        ([1, 2], Sequence[int], True),
        ([1, "2"], Sequence[int], False),
        ("ab", Sequence[str], False),
        ({"a": 1}, Mapping, True),
        ({"a": 1}, Mapping[str, int] | None, True),
        ([1], Mapping, False),
        ({"a": "1"}, Mapping[str, int], False),
        ({"_target_": "x"}, int, True),  # what it makes is not known yet
        (object(), Any, True),
    ],
)
def test_fits(value, hint, expected):
    assert fits(value, hint) is expected
