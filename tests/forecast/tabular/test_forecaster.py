"""The tabular forecaster: what it is taught, how it chooses, what it says of a known law, what it keeps."""

import json
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from framework.baselines.linear.logistic import Logistic
from framework.baselines.linear.quantile import Quantile
from framework.baselines.linear.ridge import Ridge
from framework.data.cohort.schema import Variable
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.fit_request import FitRequest
from framework.forecast.predict import answers
from framework.forecast.tabular.forecaster import Tabular
from framework.forecast.tabular.selection import Candidates, folds
from framework.forecast.tabular.training_table import tabulate
from framework.image.augment.compose import Compose
from framework.types import LEVELS
from tests.cohorts import examples, table
from tests.contracts.recipes import forecaster
from tests.forecast.deep.test_pretrained import SMALL, kept

KEY, COUNT = jax.random.key(2), 24
ORDER = np.arange(COUNT)
SPLIT = Split(ORDER < 14, (ORDER >= 14) & (ORDER < 18), ORDER >= 18)
LINES = Candidates(partial(Ridge), {"penalty": [1e-3, 1e6]}, True, True)
LEVEL = Candidates(partial(Logistic), {"penalty": [1.0]}, True, True)
RECIPE = Tabular(LEVEL, LINES, 3, "query", True, None, None, None)


@pytest.fixture(scope="module")
def falling(tmp_path_factory) -> Examples:
    """Everyone loses two points a year from wherever they start; whoever is below 10 is ill."""
    rng = np.random.default_rng(0)
    series = {}
    for i in range(COUNT):
        start, times = rng.uniform(5, 30), np.cumsum([0, *rng.uniform(0.5, 2, rng.integers(2, 5))])
        series[f"s{i:02}"] = [
            (float(t), {"score": start - 2 * t, "state": "ill" if start - 2 * t < 10 else "well"}) for t in times
        ]
    variables = (
        Variable("score", ("input", "target"), "points"),
        Variable("state", ("input", "target"), levels=("well", "ill"), ordered=True),
    )
    cohort = table(tmp_path_factory.mktemp("cohort") / "c", variables, series)
    return Examples(cohort, layout(cohort.schema, ["score", "state"]))


@pytest.fixture(scope="module")
def fitted(falling):
    return RECIPE.fit(falling, SPLIT, KEY)


def said(one, examples: Examples, target: str) -> tuple[np.ndarray, np.ndarray]:
    rows = np.flatnonzero(SPLIT.test)
    truth = examples.eval_queries.truth[target]
    asked = np.asarray(truth.observed)[rows]
    return answers(one, examples, rows, examples.eval_queries)[target][asked], np.asarray(truth.value)[rows][asked]


def test_a_law_of_the_data_is_found(fitted, falling):
    told, came = said(fitted, falling, "score")
    np.testing.assert_allclose(told, np.broadcast_to(came[:, None], told.shape), atol=0.05)
    told, came = said(fitted, falling, "state")
    assert (told.argmax(1) == came).mean() > 0.8


def test_the_candidate_of_the_least_loss_is_taken_and_all_are_kept(fitted, tmp_path):
    learnt = fitted.learnt["score"]
    assert [settings["penalty"] for settings, _ in learnt.scores] == [1e-3, 1e6]
    assert learnt.settings == {"penalty": 1e-3}
    assert learnt.scores[0][1] < learnt.scores[1][1]
    fitted.save(tmp_path)
    kept = json.loads((tmp_path / "chosen.json").read_text())
    assert kept["score"]["settings"] == {"penalty": 1e-3}
    assert len(kept["score"]["scores"]) == 2


def test_a_number_that_says_nothing_is_the_last_one_and_the_quantiles_of_its_change(falling):
    """At a boundless penalty; LastVisit's own form, less that the median may move."""
    nothing = replace(RECIPE, regressor=replace(LINES, grid={"penalty": [1e9]}))
    told, _ = said(nothing.fit(falling, SPLIT, KEY), falling, "score")
    rows, query = np.flatnonzero(SPLIT.test), falling.eval_queries.query
    last = np.take_along_axis(falling.cohort.values[rows, :, 0], query.origin[rows], 1)
    asked = np.asarray(falling.eval_queries.truth["score"].observed)[rows]
    change = told[:, : len(LEVELS)] - last[asked][:, None]
    np.testing.assert_allclose(change, np.broadcast_to(change[0], change.shape), atol=1e-3)
    truth, base = falling.eval_queries.truth["score"], falling.cohort.values[..., 0]
    base = np.take_along_axis(base, falling.eval_queries.query.origin, 1)
    learns = np.asarray(truth.observed) & (SPLIT.train | SPLIT.validation)[:, None]
    changes = (np.asarray(truth.value) - base)[learns]
    np.testing.assert_allclose(change[0], np.quantile(changes, LEVELS), atol=0.5)


def test_quantiles_are_taken_as_they_are(falling):
    quantiles = replace(RECIPE, regressor=Candidates(partial(Quantile), {"penalty": [0.1]}, True, False))
    fitted = quantiles.fit(falling, SPLIT, KEY)
    assert fitted.learnt["score"].around == []
    told, came = said(fitted, falling, "score")
    assert np.abs(told[:, 2] - came).mean() < 1


def test_what_it_is_taught_is_every_pair(falling):
    made = tabulate(falling, falling.layout)
    visits = falling.cohort.valid.sum(1)
    np.testing.assert_array_equal(np.bincount(made.subject), visits * (visits - 1) // 2)
    assert made.known["score"].all()


def test_inner_folds_are_of_whole_subjects_that_weigh():
    subject, weight = np.repeat(np.arange(10), 3), np.repeat(np.arange(10) % 5 > 0, 3).astype(float)
    of = folds(subject, weight, 4, KEY)
    assert set(of) == {-1, 0, 1, 2, 3}
    for one in range(10):
        assert len(set(of[subject == one])) == 1
    np.testing.assert_array_equal(of == -1, weight == 0)


def test_subjects_may_weigh_alike(falling):
    pairs, subjects = (replace(RECIPE, weight_by=unit).fit(falling, SPLIT, KEY) for unit in ("query", "subject"))
    assert not np.allclose(said(pairs, falling, "state")[0], said(subjects, falling, "state")[0])


def test_the_log_is_told_what_was_chosen(falling):
    rows: list[dict] = []
    RECIPE.fit_many(FitRequest(falling, [SPLIT, SPLIT], jax.random.split(KEY, 2), log=rows.append))
    rows = [row for row in rows if "step" in row]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["chosen"]["score"] == {"penalty": 1e-3}
    assert np.isfinite([row["validation"] for row in rows]).all()


def test_the_log_hears_of_every_fit_as_it_is_done(falling):
    rows: list[dict] = []
    RECIPE.fit_many(FitRequest(falling, [SPLIT, SPLIT], jax.random.split(KEY, 2), log=rows.append))
    fits = [row for row in rows if "done" in row]
    [total] = {row["of"] for row in fits}
    assert total == 2 * sum(map(RECIPE._fits, falling.layout.targets))
    done = [row["done"] for row in fits]
    assert done == sorted(set(done))
    assert done[-1] == total
    assert len(done) == 2 * len(falling.layout.targets) * (RECIPE.folds + 1)
    assert {row["member"] for row in fits} == {0, 1}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"folds": 1}, "model.folds is 1"),
        ({"weight_by": "visit"}, "model.weight_by is 'visit'"),
        ({"encoder": len}, "give both"),
        ({"pretrained": "x"}, "give both"),
        ({"augment": Compose([])}, "add model.augment=null"),
    ],
)
def test_what_cannot_be_is_told_at_once(change, told):
    with pytest.raises(UserError, match=told):
        replace(RECIPE, **change)


def test_a_grid_of_nothing_and_of_unknown_settings_is_told():
    with pytest.raises(UserError, match=r"grid\.penalty is empty"):
        Candidates(partial(Ridge), {"penalty": []}, True, True)
    with pytest.raises(UserError, match="Ridge has no setting 'depth'"):
        Candidates(partial(Ridge), {"depth": [1]}, True, True).programs(0)


def test_too_few_subjects_are_told(falling):
    lonely = Split(ORDER == 0, ORDER < 0, ORDER > 0)
    with pytest.raises(UserError, match="score is known of 1 training subjects"):
        RECIPE.fit(falling, lonely, KEY)


def test_another_run_is_told(fitted, falling, tmp_path):
    with pytest.raises(UserError, match="no fitted model at"):
        RECIPE.load(tmp_path / "elsewhere", falling.layout)
    fitted.save(tmp_path / "model")
    with pytest.raises(UserError, match="not in its grid any more"):
        replace(RECIPE, regressor=replace(LINES, grid={"penalty": [7.0]})).load(tmp_path / "model", falling.layout)


def test_scans_are_told_by_pretrained_encoders(tmp_path):
    """Their embeddings are features; who is tested must not have been seen; saved and loaded it is the same."""
    cohort = examples(tmp_path / "c", targets=("score",))
    run, order = kept(tmp_path / "run", cohort, range(9)), np.arange(12)
    split = Split(order < 7, (order >= 7) & (order < 9), order >= 9)
    made = forecaster("logistic", "+model/encoder=autoencoder", *SMALL[1:3], f"model.pretrained={run}")
    fitted = made.fit(cohort, split, KEY)
    assert fitted.layout.modalities == cohort.layout.modalities
    told = answers(fitted, cohort, range(12), cohort.eval_queries)
    blind = forecaster("logistic").fit(cohort, split, KEY)
    assert not np.allclose(told["score"], answers(blind, cohort, range(12), cohort.eval_queries)["score"])
    fitted.save(tmp_path / "model")
    again = answers(made.load(tmp_path / "model", cohort.layout), cohort, range(12), cohort.eval_queries)
    for name, expected in told.items():
        np.testing.assert_array_equal(again[name], expected)
    with pytest.raises(UserError, match="trained on 3 of 3 subjects"):
        made.fit(cohort, Split(order >= 3, order < 0, order < 3), KEY)
