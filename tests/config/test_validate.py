"""A config is checked whole before anything is done with it."""

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from omegaconf import OmegaConf

from framework.config.targets import trusted_packages
from framework.config.validate import matches_hint, validate_config
from framework.errors import UserError

KFOLD = {"_target_": "framework.data.splits.split.KFold", "folds": 5, "validation": 0.1, "fold": 0, "seed": 0}


GRU = {"_target_": "framework.nn.heads.gru.GRU", "_partial_": True, "features": 3}
HEAD = {"_target_": "framework.nn.heads.rnn.Recurrence", "_partial_": True, "cell": GRU}
VOTING = {"_target_": "framework.forecast.ensembles.ensemble.Voting", "combine": "mean"}
FLOOR = {"_target_": "framework.forecast.references.LastVisit", "trend": False}
MINE = """
from framework.configurable import configurable
from framework.data.splits.split import KFold, Splitter
from framework.forecast.base import Forecaster
from framework.forecast.references import LastVisit


class Halves(KFold):
    pass


class Own(Splitter):
    pass


class Plain:
    pass


@configurable("split")
def folds(folds: int) -> Splitter: ...


@configurable("split")
def unclear(folds: int): ...


def unmarked(folds: int) -> Splitter: ...
"""


def config(**parts):
    return OmegaConf.create({"experiment": "forecast", "runs": "runs", "trust": [], "seed": 0, **parts})


def refused(allowed=(), /, **parts) -> str:
    with pytest.raises(UserError) as told:
        validate_config(config(**parts), allowed)
    assert "\n" not in str(told.value)
    return str(told.value)


def deep(**parts) -> Mapping[str, Any]:
    """A network of which only some parts are said."""
    names = ("encoder", "augment", "fusion", "head", "training", "pretrained")
    rest = {"width": 3, "frozen": False, "ordinal": False, "time_unit_years": 1.0, "token_dropout": 1.0, "hidden": []}
    return {"model": {"_target_": "framework.forecast.deep.forecaster.Deep"} | dict.fromkeys(names) | rest | parts}


def test_what_is_right_passes():
    validate_config(config(split=KFOLD))
    validate_config(config(split=KFOLD | {"validation": 0}))  # a whole number is a number
    validate_config(config(model=VOTING | {"members": {"a": FLOOR, "b": FLOOR}}))
    validate_config(
        config(intervals={"_target_": "framework.forecast.calibration.intervals.WithIntervals", "_partial_": True})
    )


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"foldz": 3}, r"split.foldz: framework.data.splits.split.KFold takes no 'foldz'; did you mean 'fold'\?"),
        ({"other": 3}, r"takes no 'other'; it takes \['folds', 'validation', 'fold', 'seed', 'stratify'\]"),
        ({"folds": "5"}, "split.folds: got '5'; expected int"),
        ({"folds": 5.0}, "split.folds: got 5.0; expected int"),
        ({"folds": True}, "split.folds: got True; expected int"),
        ({"folds": None}, "split.folds: got None; expected int"),
        ({"folds": [5]}, "split.folds: got .5.; expected int"),
        ({"validation": "some"}, "split.validation: got 'some'; expected float"),
        ({"seed": -1}, "split.seed: got -1; expected 0 or more"),
        ({"_target_": "framework.data.splits.split.KFolds"}, "'framework.data.splits.split.KFolds' was not found"),
        ({"_target_": "framework.data.splits.KFold"}, "'framework.data.splits.KFold' was not found"),
    ],
)
def test_an_argument_that_is_not_taken_or_not_of_its_type(changes, complaint):
    assert re.search(complaint, refused(split=KFOLD | changes))


def test_an_argument_that_is_lacking_unless_it_comes_later():
    less = {key: value for key, value in KFOLD.items() if key != "folds"}
    assert "needs 'folds'; give split.folds=..." in refused(split=less)
    validate_config(
        config(intervals={"_target_": "framework.forecast.calibration.intervals.WithIntervals", "_partial_": True})
    )


def test_it_looks_into_lists_and_mappings_at_any_depth():
    assert "model.members.b.foldz" in refused(model=VOTING | {"members": {"a": FLOOR, "b": FLOOR | {"foldz": 1}}})
    wrong = {"_target_": "framework.image.augment.space.Flip", "part": 0.5}
    augment = {"_target_": "framework.image.augment.compose.Compose", "transforms": [wrong]}
    assert "model.augment.transforms[0].part: " in refused(**deep(augment=augment))


@pytest.mark.parametrize(
    "target",
    [
        "numpy.load",
        "os.system",
        "builtins.eval",
        "subprocess.run",
        "frameworks.data.split.KFold",
        "framework.runs.folder.os.system",  # by way of a trusted module
        "framework.runs.folder.subprocess",
        "framework.config.validate.import_module",
        "framework.runs.job.instantiate",
        "framework.types.LEVELS",
        "framework",
        "KFold",
        "",
        ".",
        "..",
        3,
        None,
        ["framework.data.splits.split.KFold"],
    ],
)
def test_no_target_but_our_own_is_loaded(target):
    assert refused(model={"_target_": target}).startswith("model: ")


@pytest.mark.parametrize(
    "target",
    [
        "framework.native.register",  # compiles and loads a file
        "framework.config.targets.find_target",
        "framework.runs.predict.predict",
        "framework.runs.folder.RunFolder",
        "framework.files.write_atomic",
        "framework.report.tables.write",
        "framework.sweeps.pool.ProcessPool",
        "framework.forecast.ensembles.crossfit.CrossFit.fit_many",
        "framework.errors.UserError",
        "optax.adamw",
    ],
)
@pytest.mark.parametrize("partial", [False, True])
def test_no_other_class_or_function_of_ours_is_a_target(target, partial):
    assert refused(model={"_target_": target, "_partial_": partial}).startswith("model: ")


@pytest.mark.parametrize(
    "target",
    [
        "framework.image.augment.Flip",
        "framework.forecast.ensembles.crossfit.Deep",
        "framework.forecast.ensembles.crossfit.Forecaster",
        "framework.runs.job.Forecaster",
    ],
)
def test_a_target_is_named_where_it_is_defined(target):
    assert "is only imported there; name the module that defines it" in refused(model={"_target_": target})


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ({"model": GRU}, "model: framework.nn.heads.gru.GRU is of the group 'cell'; expected a Forecaster"),
        ({"model": KFOLD}, "expected a Forecaster"),
        ({"split": FLOOR}, "expected a Splitter"),
        ({"model": FLOOR | {"_partial_": True}}, "must be complete; leave _partial_ out"),
        ({"intervals": FLOOR}, "is completed later; add _partial_: true"),
        ({"intervals": GRU}, "expected a Forecaster"),
        (deep(head=GRU), "model.head: framework.nn.heads.gru.GRU is of the group 'cell'; expected a Head"),
        (deep(head=HEAD | {"cell": HEAD}), "model.head.cell: "),
        (deep(head=HEAD | {"_partial_": False}), "model.head: "),
        ({"split": KFOLD | {"folds": KFOLD}}, "split.folds: no target is expected here"),
        ({"split": KFOLD | {"stratify": [KFOLD]}}, "split.stratify[0]: no target is expected here"),
        ({"seed": KFOLD}, "seed: got {"),
        ({"data": KFOLD}, "data: no target is expected here"),
        ({"data": {"grid": KFOLD}}, "data.grid: no target is expected here"),
        ({"data": {"events": KFOLD}}, "data.events: no target is expected here"),
        ({"data": {"reader": FLOOR}}, "data.reader: "),
        ({"fitted": FLOOR}, "fitted: no target is expected here"),
        ({"model_overrides": {"gru": [KFOLD]}}, "model_overrides: got"),
        ({"model": {"_target_": "framework.forecast.base.Forecaster"}}, "is an interface"),
        ({"model": FLOOR | {"_args_": [1]}}, "takes no '_args_'"),
        ({"model": FLOOR | {"_recursive_": False}}, "takes no '_recursive_'"),
        ({"model": FLOOR | {"_partial_": "yes"}}, "expected bool"),
    ],
    ids=str,
)
def test_what_is_made_is_of_the_kind_that_is_expected(parts, complaint):
    assert complaint in refused(**parts)


@pytest.mark.parametrize(
    "parts",
    [
        {"model": VOTING | {"members": {"../a": FLOOR, "b": FLOOR}}},
        {"fitted": {"../../a": FLOOR}},
        {"data": {"events": {"../a": {"_target_": "framework.data.queries.events.ThresholdReached"}}}},
        {"data": {"name": "../../a"}},
        {"experiment": "../a"},
        {"data": {"name": "a" * 300}},
    ],
    ids=str,
)
def test_what_becomes_a_folder_is_called_so(parts):
    assert "give it another name" in refused(**parts)


def test_an_untrusted_target_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "'trust=[evil]'" in refused(model={"_target_": "evil.Evil"})
    assert "'trust=[mine,evil]'" in refused(("mine",), model={"_target_": "evil.Evil"})


def test_a_name_that_a_trusted_package_lacks_is_found_out_without_importing_it(tmp_path, monkeypatch):
    (tmp_path / "quiet").mkdir()
    (tmp_path / "quiet" / "__init__.py").write_text("raise SystemExit('imported')\n")
    (tmp_path / "quiet" / "inner.py").write_text("from os import system\ndef plain(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("quiet.Absent", "quiet.other.Absent", "quiet.inner.Absent", "quiet.inner.system", "quiet.inner.plain"):
        assert refused(("quiet",), model={"_target_": name}).startswith("model: ")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("mine", None)


def test_what_is_trusted_by_name_is_allowed(mine):
    validate_config(config(split=KFOLD | {"_target_": "mine.Halves"}), ["mine"])
    validate_config(config(split={"_target_": "mine.folds", "folds": 3}), ["mine"])
    wrong = refused(("mine",), split={"_target_": "mine.folds", "folds": "3"})
    assert wrong == "split.folds: got '3'; expected int"


@pytest.mark.parametrize("name", ["Plain", "unmarked", "unclear", "Own", "KFold", "LastVisit", "Forecaster"])
def test_a_trusted_package_gives_no_more_than_classes_of_interfaces_and_marked_factories(mine, name):
    assert refused(("mine",), split={"_target_": f"mine.{name}"}).startswith("split: ")


def test_a_file_cannot_say_whom_to_trust(mine):
    with pytest.raises(UserError, match=r"'trust=\[mine\]'") as told:
        validate_config(config(split={"_target_": "mine.folds", "folds": 3}, **{"trust": ["mine"]}))
    assert "only your own command line can" in str(told.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ()),
        (["seed=1"], ()),
        (["trust=[a]"], ("a",)),
        (["+trust=[a,b]", "seed=1"], ("a", "b")),
        (["trust=[a]", "trust=[b]"], ("b",)),
        (["trust=[a]", "~trust"], ()),
        (["-m", "trust=[a]", "--config-dir", "trust=[b]"], ("a",)),
    ],
)
def test_trust_is_read_from_the_command_line(arguments, expected):
    assert trusted_packages(arguments) == expected


@pytest.mark.parametrize(
    "word", ["trust=a", "trust=[a],[b]", "trust=['a.b']", "trust=[1]", "trust={a: 1}", "trust=null"]
)
def test_trust_is_a_list_of_packages(word):
    with pytest.raises(UserError, match=r"'trust=\[mypackage\]'"):
        trusted_packages([word])


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
        ({"future": {"treated": ["yes"]}}, "future: got {'treated': ['yes']}"),
        ({"model_overrides": {"gru": "training.steps=3"}}, "model_overrides: got"),
        ({"runs": None}, "runs: got None; expected str"),
        ({"trust": "numpy"}, "trust: got 'numpy'"),
        ({"data": {"targets": "MMSE"}}, "data.targets: got 'MMSE'; expected Sequence[str]"),
        ({"data": {"store": 3}}, "data.store: got 3; expected str"),
        ({"data": {"path": "???"}}, "no value for 'data.path'; give it on the command line: data.path=..."),
        (deep(head=HEAD | {"cell": GRU | {"features": 0}}), "expected 1 or more"),
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
    assert matches_hint(value, hint) is expected
