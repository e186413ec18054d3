"""The settings that change no result leave a run's identity, every other one changes it."""

import copy
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

from framework.runs.folder import RunFolder, digest_sources
from framework.runs.identity import COHORT_KEYS, IRRELEVANT_KEYS, identity
from framework.train.loop import Training
from framework.train.reconstruction import Pretraining


def composed(name: str, *overrides: str) -> DictConfig:
    with initialize_config_module("conf", version_base="1.3"):
        return compose(name, [*overrides])


def resolved(config: DictConfig, fitted: bool) -> dict:
    what = OmegaConf.to_container(config, resolve=True)
    assert isinstance(what, dict)
    return what | ({"fitted": {"gru": what["model"]}} if fitted else {})


def leaves(node: object, place: str = "") -> list[str]:
    """The dotted keys of all single values."""
    if isinstance(node, dict) and node:
        return [leaf for key, value in node.items() for leaf in leaves(value, f"{place}.{key}".lstrip("."))]
    return [place]


def other(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return [*value, "more"] if isinstance(value, list) else {"more": 1} if isinstance(value, dict) else f"{value}x"


def changed(config: DictConfig, key: str) -> DictConfig:
    """The same with another value there, and with what is interpolated from it."""
    one = copy.deepcopy(config)
    raw: Any = OmegaConf.to_container(config)
    for part in key.split("."):
        raw = raw[part]
    OmegaConf.update(one, key, other(raw), merge=False, force_add=True)
    return one


STUDIES = {
    "forecast": (("data=oasis2", "model=crossfit"), True),
    "pretrain": (("data=atrophy",), False),
}


@pytest.mark.parametrize("name", STUDIES)
def test_exactly_the_declared_settings_leave_the_hash(name):
    overrides, fitted = STUDIES[name]
    config = composed(name, *overrides)
    declared = (*IRRELEVANT_KEYS, *COHORT_KEYS)
    before = RunFolder.of(resolved(config, fitted), "f").path.name
    seen: dict[bool, list[str]] = {True: [], False: []}
    for key in leaves(OmegaConf.to_container(config)):
        free = any(fnmatchcase(key, one) or fnmatchcase(key, f"{one}.*") for one in declared)
        after = RunFolder.of(resolved(changed(config, key), fitted), "f").path.name
        assert (after == before) == free, f"{key} {'changes no result' if free else 'changes results'}"
        seen[free].append(key)
    assert {"training.cache_bytes", "training.checkpoint_seconds", "training.checkpoint_steps"} <= {*seen[True]}
    assert {"seed", "training.optimizer.learning_rate", "split.fold", "data.targets", "training.batch"} <= {
        *seen[False]
    }


def test_every_declared_setting_is_one_that_some_configuration_has():
    told = {
        key
        for name, (overrides, _) in STUDIES.items()
        for key in leaves(OmegaConf.to_container(composed(name, *overrides)))
    }
    told |= {
        "hydra",
        *leaves(OmegaConf.to_container(composed("forecast", "data=nifti", "data.path=x"))),
        "data.leaderboard",
    }
    for one in (*IRRELEVANT_KEYS, *COHORT_KEYS):
        assert any(fnmatchcase(key, one) or fnmatchcase(key, f"{one}.*") for key in told), one


def test_no_memory_or_checkpoint_setting_of_a_training_is_forgotten():
    names = {*Training.__dataclass_fields__, *Pretraining.__dataclass_fields__}
    free = {name for name in names if name.startswith("checkpoint_") or name == "cache_bytes"}
    assert free == {key.removeprefix("*.") for key in IRRELEVANT_KEYS if key.startswith("*.")} - {"max_memory_gb"}


def test_a_training_that_nothing_fitted_refers_to_is_no_part_of_the_run():
    base = {"experiment": "compare", "models": ["slope"], "fitted": {"slope": {"trend": True}}, "runs": "r"}
    assert identity(base | {"training": {"steps": 1}}) == identity(base | {"training": {"steps": 2}})
    assert identity({"model": {"training": {"steps": 1}}}) != identity({"model": {"training": {"steps": 2}}})


def test_which_model_is_under_study_counts():
    floors = {"last_visit": {"trend": False}, "slope": {"trend": True}}
    one, other = (
        {"runs": "r", "fitted": {name: floors[name] for name in names}} for names in (floors, [*floors][::-1])
    )
    assert identity(one) != identity(other)


def test_folds_read_from_a_file_count_by_what_it_says(tmp_path):
    def of(place, text):
        place.write_text(text)
        return identity({"split": {"_target_": "FromFile", "path": str(place)}})

    first = of(tmp_path / "a.csv", "subject,fold\na,1\n")
    assert of(tmp_path / "b.csv", "subject,fold\na,1\n") == first
    assert of(tmp_path / "a.csv", "subject,fold\na,2\n") != first


def test_pretrained_encoders_count_by_their_weights(tmp_path):
    def of(place, number):
        (place / "encoders" / "t1").mkdir(parents=True, exist_ok=True)
        np.savez(place / "encoders" / "t1" / "arrays.npz", np.array(number))
        (place / "seen.json").write_text("{}")
        (place / "manifest.json").write_text(f'{{"made": "{place}"}}')
        return identity({"fitted": {"gru": {"pretrained": str(place)}}})

    first = of(tmp_path / "a", 1.0)
    assert of(tmp_path / "b", 1.0) == first
    assert of(tmp_path / "a", 2.0) != first


def test_the_digest_of_the_sources_sees_the_native_kernels(tmp_path):
    (tmp_path / "kernel.cc").write_text("int one = 1;")
    before = digest_sources(tmp_path)
    (tmp_path / "kernel.cc").write_text("int one = 2;")
    assert digest_sources(tmp_path) != before
