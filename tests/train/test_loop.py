"""Training: it learns, it stops, it fails loudly, and an interruption leaves no trace in the result."""

import dataclasses
import signal
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.data.batches.batch import Loader
from framework.errors import UserError
from framework.forecast.deep.forecaster import Deep
from framework.forecast.fit_request import FitRequest
from framework.forecast.predict import answers
from framework.train.loop import Training
from framework.train.member_batches import Feed
from framework.train.optimizer import AdamW
from framework.types import LEVELS
from tests.contracts.recipes import forecaster
from tests.train.conftest import thirds

KEY = jax.random.key(0)
POINT = len(LEVELS)  # behind the quantiles
# one program for most of the tests: what is compiled depends on these
SMALL = ("model.head.cell.features=8", "training.steps=12", "training.eval_every=2", "training.checkpoint_seconds=0.0")


@pytest.fixture(scope="module", autouse=True)
def programs():
    """Recipes that would make the same program share one, which is traced and compiled once."""
    make, made = Deep._program, {}

    def shared(self, layout, learnt=None):
        new = make(self, layout, learnt)
        for name in ("advance", "losses", "forecast"):
            vars(new)[name] = getattr(new, name)  # what is compiled is kept for one and the same method
        return made.setdefault((layout, new.targets, new.optimizer, new.gradients, new.memory, new.average), new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Deep, "_program", shared)
        yield


def recipe(**settings):
    optimizer = {field.name for field in dataclasses.fields(AdamW)}
    overrides = [f"{'optimizer.' if name in optimizer else ''}{name}={value}" for name, value in settings.items()]
    return forecaster("gru", *SMALL, *(f"training.{override}" for override in overrides))


@pytest.fixture(scope="module")
def whole(trend, split):
    """A run that nobody interrupted, with dropout on."""
    return recipe(dropout=0.3, learning_rate=0.01).fit(trend, split, KEY)


def told(fitted, examples) -> np.ndarray:
    return answers(fitted, examples, range(len(examples.subjects)), examples.eval_queries)["score"]


def error(fitted, examples, split) -> float:
    """Mean absolute error on the tested subjects."""
    truth = examples.eval_queries.truth["score"]
    where = truth.observed & split.test[:, None]
    return float(np.abs(told(fitted, examples)[..., POINT] - truth.value)[where].mean())


def test_it_learns_a_trend(trend, split):
    rows = []
    learner = recipe(steps=200, eval_every=25, learning_rate=0.02, dropout=0.0, batch=16)
    learnt = error(learner.fit(trend, split, KEY, log=rows.append), trend, split)
    carried = error(forecaster("last_visit").fit(trend, split, KEY), trend, split)
    assert learnt < carried / 5
    assert rows[-1]["validation"] < rows[0]["validation"] / 2
    assert [row["step"] for row in rows] == [25 * (k + 1) for k in range(len(rows))]


def test_patience_stops_each_member_by_itself(trend):
    """At a learning rate of 0 nothing ever improves upon the first round; at another the run goes on."""
    still = recipe(steps=30, eval_every=2, patience=3, learning_rate=0.02, dropout=0.0)
    two = jax.tree.map(lambda x: jnp.stack([x, x]), still.training.dynamic(1))
    two = dataclasses.replace(two, learning_rate=jnp.array([0.0, 0.02]))
    rows, splits = [], [thirds(0), thirds(0)]
    both = still.fit_many(FitRequest(trend, splits, jnp.stack([KEY, KEY]), two, log=rows.append))
    rounds = [[row["step"] // 2 for row in rows if row["member"] == m] for m in range(2)]
    assert rounds[0] == [1, 2, 3, 4], "the first round is the best; three more are waited for"
    assert len(rounds[1]) > 4
    assert both[0].cost.steps == 2 * len(rounds[1])


def test_what_is_kept_is_the_best_round_not_the_last(trend, split):
    rows = []
    wild = recipe(steps=40, eval_every=2, patience=4, learning_rate=0.5, dropout=0.0)
    fitted = wild.fit(trend, split, KEY, log=rows.append)
    best = min(row["validation"] for row in rows)
    assert best < rows[-1]["validation"], "a learning rate this high must overshoot for this test to say anything"
    assert judged(wild, fitted, trend, split) == pytest.approx(best, rel=1e-4)


def judged(recipe, fitted, examples, split) -> float:
    """The mean pinball loss of the validation subjects' forecasts, in units of the usual change."""
    truth = examples.eval_queries.truth["score"]
    where = truth.observed & split.validation[:, None]
    errors = (truth.value[..., None] - told(fitted, examples)[..., : len(LEVELS)])[where]
    levels = np.array(LEVELS)
    unit = next(x for path, x in jax.tree_util.tree_leaves_with_path(fitted.statistics) if "change_scale" in str(path))
    return float(np.maximum(levels * errors, (levels - 1) * errors).mean() / unit[0])


def test_without_validation_it_runs_its_full_length(trend):
    rows = []
    recipe(patience=1).fit(trend, thirds(0, validation=False), KEY, log=rows.append)
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    assert all(np.isnan(row["validation"]) for row in rows)


def stop_at(step: int, row: dict) -> None:
    if row["step"] == step:
        raise KeyboardInterrupt


@pytest.mark.parametrize("stopped", [4, 10])
def test_an_interrupted_run_ends_bit_equal_to_one_that_was_not(trend, split, whole, tmp_path, stopped):
    """Dropout's randomness, the order of batches, the momenta and the best so far all go on."""
    learner = recipe(dropout=0.3, learning_rate=0.01)
    with pytest.raises(KeyboardInterrupt):
        learner.fit(trend, split, KEY, folder=tmp_path / "run", log=partial(stop_at, stopped))
    steps = []
    again = learner.fit(trend, split, KEY, folder=tmp_path / "run", log=lambda row: steps.append(row["step"]))
    assert steps == list(range(stopped, 13, 2)), "it goes on from the last checkpoint, the round before"
    for one, other in zip(jax.tree.leaves(again.params), jax.tree.leaves(whole.params), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(told(again, trend), told(whole, trend))


@pytest.mark.parametrize(
    ("settings", "steps"), [({}, 12), ({"patience": 2, "learning_rate": 0.0}, 6)], ids=["length", "patience"]
)
def test_what_is_finished_is_not_trained_again(trend, split, tmp_path, settings, steps):
    """Neither where it ran its length nor where patience ended it."""
    learner, rows = recipe(**settings), []
    first = learner.fit(trend, split, KEY, folder=tmp_path / "run", log=rows.append)
    assert rows[-1]["step"] == steps
    again = learner.fit(trend, split, KEY, folder=tmp_path / "run", log=partial(pytest.fail, "trained again"))
    np.testing.assert_array_equal(told(again, trend), told(first, trend))


def test_a_run_shorter_than_what_may_be_lost_writes_no_checkpoint(trend, split, tmp_path):
    recipe(checkpoint_seconds=60.0).fit(trend, split, KEY, folder=tmp_path / "run")
    assert [*(tmp_path / "run").iterdir()] == []


class Spoilt(Loader):
    """A loader in whose tables the values of some subjects are NaN."""

    subjects: tuple[int, ...] = ()

    def tables(self, scans, size):
        return spoilt(super().tables(scans, size), self.subjects)


def spoilt(tables, subjects):
    values = tables.visits.values.at[np.array(subjects)].set(np.nan)
    return dataclasses.replace(tables, visits=dataclasses.replace(tables.visits, values=values))


def spoil(patch, rows) -> None:
    patch.setattr("framework.forecast.deep.forecaster.Loader", Spoilt)
    patch.setattr(Spoilt, "subjects", tuple(map(int, rows)))


def test_a_loss_that_is_no_number_names_step_and_subjects_and_leaves_the_last_checkpoint(
    trend, split, whole, tmp_path, monkeypatch
):
    learner = recipe(dropout=0.3, learning_rate=0.01)
    rows = Feed(Loader(trend), [split], KEY[None], 4, 2).rows(2, 0)
    names = ", ".join(trend.subjects[row] for row in rows)
    with monkeypatch.context() as patch:
        spoil(patch, rows[:1])
        with pytest.raises(UserError, match=f"not finite at step 3, on subjects {names}; lower training") as raised:
            learner.fit(trend, split, KEY, folder=tmp_path / "run")
    assert "\n" not in str(raised.value)
    steps = []
    again = learner.fit(trend, split, KEY, folder=tmp_path / "run", log=lambda row: steps.append(row["step"]))
    assert steps == [4, 6, 8, 10, 12], "the healthy checkpoint of step 2 is what it goes on from"
    np.testing.assert_array_equal(told(again, trend), told(whole, trend))


def test_a_step_whose_loss_is_no_number_changes_nothing(trend, split):
    """Within the program, so that the steps after it in a round start from healthy parameters."""
    learner = recipe(eval_every=1, steps=5)
    program, feed = learner._program(trend.layout), Feed(Loader(trend), [split], KEY[None], 4, 2)
    batches = next(feed.training(2))
    tables = spoilt(feed.tables, sorted(set(feed.rows(1, 0)) - set(feed.rows(0, 0))))
    members, statistics = program.initial(KEY[None])
    dynamics = jax.tree.map(lambda x: x[None], learner.training.dynamic(1))
    advance = jax.jit(program.advance)
    moved, loss = advance(members, np.ones(1, bool), statistics, dynamics, tables, batches)
    first = jax.tree.map(lambda x: x[:1], batches)
    expected, _ = advance(members, np.ones(1, bool), statistics, dynamics, tables, first)
    assert np.isfinite(loss).tolist() == [[True], [False]]
    for one, other in zip(jax.tree.leaves(moved.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert int(moved.step[0]) == 1


def test_a_validation_loss_that_is_not_finite_is_reported_too(trend, split, monkeypatch):
    spoil(monkeypatch, np.flatnonzero(split.validation))
    with pytest.raises(UserError, match="loss of the validation subjects is not finite at step 2"):
        recipe().fit(trend, split, KEY)


def test_sigterm_ends_after_a_checkpoint_and_the_run_goes_on_from_there(trend, split, whole, tmp_path):
    learner, before = recipe(dropout=0.3, learning_rate=0.01), signal.getsignal(signal.SIGTERM)

    def terminate(row):
        if row["step"] == 4:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit, match="stopped by SIGTERM after step 4 of 12; the same command goes on") as ended:
        learner.fit(trend, split, KEY, folder=tmp_path / "run", log=terminate)
    assert ended.value.code, "a line as the code of an exit is printed, and the code is 1"
    assert signal.getsignal(signal.SIGTERM) is before
    steps = []
    again = learner.fit(trend, split, KEY, folder=tmp_path / "run", log=lambda row: steps.append(row["step"]))
    assert steps == [6, 8, 10, 12]
    np.testing.assert_array_equal(told(again, trend), told(whole, trend))


def test_what_forecasts_is_the_moving_average(trend, split):
    """Without validation the last state is kept: the average of the plain run's own parameters, step by step."""
    still, averaging = recipe(eval_every=1, steps=5), recipe(eval_every=1, steps=5, ema=0.5)
    subjects = thirds(0, validation=False)
    program, feed = still._program(trend.layout), Feed(Loader(trend), [subjects], KEY[None], 4, 1)
    fitted = averaging.fit(trend, subjects, KEY)
    members, _ = program.initial(KEY[None])
    expected = jax.tree.map(lambda x: np.asarray(x)[0], members.params)
    dynamics = jax.tree.map(lambda x: x[None], still.training.dynamic(1))
    lead, advance = jax.tree.map(lambda x: x[None], fitted.statistics), jax.jit(program.advance)
    for step, batches in zip(range(5), feed.training(5), strict=True):
        members, _ = advance(members, np.ones(1, bool), lead, dynamics, feed.tables, batches)
        kept = min(0.5, (1 + step) / (10 + step))
        expected = jax.tree.map(lambda e, p, k=kept: k * e + (1 - k) * np.asarray(p)[0], expected, members.params)
    for one, other in zip(jax.tree.leaves(fitted.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one[0], other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("part", "complaint"), [("train", "to learn from"), ("validation", "validation subjects has an observed target")]
)
def test_nothing_to_learn_from_or_to_judge_by_is_told_before_training(trend, split, part, complaint):
    old = trend.cohort
    blank = dataclasses.replace(old, observed=old.observed & ~getattr(split, part)[:, None, None])
    with pytest.raises(UserError, match=complaint):
        recipe(steps=2).fit(dataclasses.replace(trend, cohort=blank), split, KEY)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"batch": 0}, "training.batch"),
        ({"steps": 0}, "training.steps"),
        ({"eval_every": 0}, "training.eval_every"),
        ({"patience": 0}, "training.patience"),
        ({"dropout": 1.0}, "training.dropout"),
        ({"dropout": -0.1}, "training.dropout"),
        ({"accumulate": 0}, "training.accumulate"),
        ({"accumulate": 99}, "no more than batch=4"),
        ({"ema": 1.0}, "training.ema"),
        ({"checkpoint_steps": 0}, "training.checkpoint_steps"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, complaint):
    with pytest.raises(UserError, match=complaint):
        dataclasses.replace(recipe().training, **changes)


def test_a_gradient_norm_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"training\.optimizer\.max_grad_norm is 0.0; expected a gradient norm above 0"):
        dataclasses.replace(recipe().training.optimizer, max_grad_norm=0.0)


def test_target_weights_are_one_a_target():
    training: Training = dataclasses.replace(recipe().training, target_weights=[1.0, 2.0])
    np.testing.assert_array_equal(training.dynamic(2).target_weights, [1, 2])
    with pytest.raises(UserError, match="expected one a target: 3"):
        training.dynamic(3)
