"""Forecasters that start from pretrained encoders: frozen ones, jointly trained ones, and those that may not."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from framework.data.splits.split import Split
from framework.digests import seal
from framework.errors import UserError
from framework.forecast.deep.forecaster import Deep, FittedDeep
from framework.forecast.deep.pretrained import SEEN, digests, save_weights
from framework.forecast.fit_request import FitRequest
from framework.forecast.predict import answers
from framework.image.augment.compose import Compose
from framework.nn.model import encoders
from tests.cohorts import examples
from tests.contracts.recipes import forecaster

pytestmark = pytest.mark.long

KEY, ORDER = jax.random.key(3), np.arange(12)
SPLIT = Split(ORDER < 7, (ORDER >= 7) & (ORDER < 9), ORDER >= 9)
SMALL = (
    "model/encoder=autoencoder",
    "model.encoder.channels=[4]",
    "model.encoder.out_features=5",
    "model.head.cell.features=4",
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Of one target, because a forecast holds the whole network for each."""
    return examples(tmp_path_factory.mktemp("cohort") / "c", targets=("score",))


def kept(path: Path, cohort, rows) -> Path:
    """A pretraining run, its encoders told by a seed, that has seen the scans of some subjects."""
    path.mkdir()
    layout = cohort.layout
    for name, encoder in encoders(recipe().encoder, layout, nnx.Rngs(7)).items():
        save_weights(path, name, nnx.state(encoder))
    told = {name: {"grid": grid} for name, grid in zip(layout.modalities, layout.grids, strict=True)}
    (path / "manifest.json").write_text(json.dumps({"finished": "now", "encoders": told}))
    seen = {cohort.subjects[row]: digests(cohort.cohort, row) for row in rows}
    (path / SEEN).write_text(json.dumps(seen))
    seal(path)
    return path


def recipe(*overrides: str) -> Deep:
    made = forecaster("gru", *SMALL, *overrides)
    assert isinstance(made, Deep)
    return made


@pytest.fixture(scope="module")
def run(cohort, tmp_path_factory) -> Path:
    return kept(tmp_path_factory.mktemp("runs") / "run", cohort, range(9))


@pytest.fixture(scope="module")
def frozen(cohort, run):
    return recipe(f"model.pretrained={run}", "model.frozen=true").fit(cohort, SPLIT, KEY)


def numbers(fitted, cohort) -> dict[str, np.ndarray]:
    return answers(fitted, cohort, range(12), cohort.eval_queries)


def told_apart(state) -> dict[str, jax.Array]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)}


def test_frozen_encoders_encode_each_scan_once(cohort, frozen):
    scans = sum(int(present[~SPLIT.test].sum()) for present in cohort.cohort.present.values())
    assert len(frozen.frozen) == scans
    numbers(frozen, cohort)
    everybody = sum(int(present.sum()) for present in cohort.cohort.present.values())
    assert len(frozen.frozen) == everybody
    numbers(frozen, cohort)
    assert len(frozen.frozen) == everybody


def test_frozen_forecasts_are_those_of_the_whole_network(cohort, frozen, run):
    """The same parameters in a network that encodes every scan anew."""
    whole = recipe(f"model.pretrained={run}")
    program = whole._program(cohort.layout)
    own, weights = told_apart(frozen.params), frozen.frozen.weights

    def parameter(path: tuple, like: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path)
        if name in own:
            return own[name]
        modality = path[1].key
        leaf = told_apart(weights[modality])[jax.tree_util.keystr(path[2:])]
        return leaf[None]

    members, _ = program.initial(KEY[None])
    params = jax.tree_util.tree_map_with_path(parameter, members.params)
    uncached = type(frozen)(cohort.layout, jax.jit(program.forecast), params, frozen.statistics, None)
    expected = numbers(uncached, cohort)
    for name, told in numbers(frozen, cohort).items():
        np.testing.assert_allclose(told, expected[name], rtol=1e-4, atol=1e-5)


def test_frozen_encoders_stay_as_they_were_and_others_go_on_from_there(cohort, frozen, run):
    start = encoders(recipe().encoder, cohort.layout, nnx.Rngs(7))
    for name, encoder in start.items():
        for one, other in zip(
            jax.tree.leaves(nnx.state(encoder)), jax.tree.leaves(frozen.frozen.weights[name]), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    made = recipe(f"model.pretrained={run}")
    rates = jax.tree.map(lambda x: jax.numpy.stack([x, x]), made.dynamic(cohort.layout))
    rates = dataclasses.replace(rates, learning_rate=jax.numpy.array([0.0, 0.001]))
    still, moved = made.fit_many(FitRequest(cohort, [SPLIT, SPLIT], jax.numpy.stack([KEY, KEY]), rates))
    assert isinstance(still, FittedDeep)
    assert isinstance(moved, FittedDeep)
    for name, encoder in start.items():
        for path, leaf in told_apart(nnx.state(encoder)).items():
            here = f"['encoders']['{name}']{path}"
            np.testing.assert_array_equal(told_apart(still.params)[here], leaf[None])
            assert (told_apart(moved.params)[here][0] != leaf).any()


def test_saved_and_loaded_without_the_pretraining_they_are_equal(cohort, frozen, tmp_path):
    frozen.save(tmp_path / "model")
    made = recipe(f"model.pretrained={tmp_path}/gone", "model.frozen=true")
    loaded = numbers(made.load(tmp_path / "model", cohort.layout), cohort)
    for name, expected in numbers(frozen, cohort).items():
        np.testing.assert_array_equal(loaded[name], expected)


def test_whoever_is_tested_must_not_have_been_seen(cohort, tmp_path):
    run = kept(tmp_path / "run", cohort, range(10))
    made = recipe(f"model.pretrained={run}")
    with pytest.raises(UserError, match=r"trained on 1 of 3 subjects .*'s09'"):
        made.fit(cohort, SPLIT, KEY)
    seen = json.loads((run / SEEN).read_text())
    (run / SEEN).write_text(json.dumps({f"other-{name}": scans for name, scans in seen.items()}))
    seal(run)
    with pytest.raises(UserError, match=r"trained on 1 of 3 subjects .*'s09'"):  # by its scans
        made.fit(cohort, SPLIT, KEY)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"frozen": True}, "keep encoders that learnt nothing"),
        ({"frozen": True, "pretrained": "x", "augment": Compose([])}, "add model.augment=null"),
        ({"pretrained": "x", "encoder": None}, "needs an image encoder"),
    ],
)
def test_what_cannot_be_is_told_at_once(settings, told):
    with pytest.raises(UserError, match=told):
        dataclasses.replace(recipe(), **settings)


def test_encoders_that_do_not_fit_are_told(cohort, run, tmp_path):
    with pytest.raises(UserError, match=r"no finished run of experiments\.pretrain"):
        recipe(f"model.pretrained={tmp_path}").fit(cohort, SPLIT, KEY)
    with pytest.raises(UserError, match=r"the t1 encoder .* does not fit \(trained on the grid \(8, 8, 8, 1\)"):
        recipe(f"model.pretrained={run}", "model.encoder.channels=[6]").fit(cohort, SPLIT, KEY)
    poor = tmp_path / "poor"
    shutil.copytree(run, poor)
    told = json.loads((poor / "manifest.json").read_text())
    del told["encoders"]["flair"]
    (poor / "manifest.json").write_text(json.dumps(told))
    seal(poor)
    with pytest.raises(UserError, match=r"has no flair encoder, only \['t1'\]"):
        recipe(f"model.pretrained={poor}").fit(cohort, SPLIT, KEY)
