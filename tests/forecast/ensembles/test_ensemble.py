"""Ensembles: what they make of their members' answers, and on whom members and weights are fitted."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.data.splits.split import Split
from framework.errors import UserError
from framework.forecast.calibration.horizon import HeldOut
from framework.forecast.ensembles.crossfit import CrossFit, errors_of_mean
from framework.forecast.ensembles.ensemble import Bagging, Voting
from framework.forecast.ensembles.stacking import Stacking, least
from framework.forecast.fit_request import FitRequest
from framework.forecast.predict import answers
from framework.forecast.references import LastVisit
from framework.train.optimizer import TracedHyperparameters
from framework.types import LEVELS, MEDIAN
from tests.cohorts import examples

KEY, ORDER = jax.random.key(1), np.arange(12)
SPLIT = Split(ORDER < 7, (ORDER >= 7) & (ORDER < 9), ORDER >= 9)
FLOORS = {"last": LastVisit(False), "slope": LastVisit(True)}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    made = examples(tmp_path_factory.mktemp("cohort") / "c")
    return replace(made, layout=replace(made.layout, modalities=(), grids=()))


def numbers(fitted, cohort) -> dict[str, np.ndarray]:
    return answers(fitted, cohort, range(12), cohort.eval_queries)


@dataclass(frozen=True)
class Noted(LastVisit):
    """Keeps the splits that it was fitted on."""

    splits: list[Split] = field(default_factory=list)

    def fit_many(self, request):
        self.splits.extend(request.splits)
        return super().fit_many(request)


class Still(LastVisit):
    """Quantiles around the last visit itself."""

    def fit_many(self, request):
        made = super().fit_many(request)
        still = [replace(one.learnt["score"], median_slope=0.0) for one in made]
        return [replace(one, learnt={**one.learnt, "score": own}) for one, own in zip(made, still, strict=True)]


@pytest.mark.parametrize("combine", ["mean", "median"])
def test_a_vote_is_the_mean_or_the_median_of_the_members(cohort, combine):
    members = {**FLOORS, "other": LastVisit(True)}
    told = numbers(Voting(members, combine).fit(cohort, SPLIT, KEY), cohort)
    parts = [numbers(one.fit(cohort, SPLIT, KEY), cohort) for one in members.values()]
    for name, answer in told.items():
        expected = getattr(np, combine)([part[name] for part in parts], axis=0)
        if name == "stage":
            expected = expected / expected.sum(-1, keepdims=True)
        asked = cohort.eval_queries.query.valid
        np.testing.assert_allclose(answer[asked], expected[asked], rtol=1e-4, atol=1e-5)


def test_bags_hold_a_share_of_the_training_subjects_each_its_own(cohort):
    member = Noted(True)
    Bagging(member, 6, 0.5, "mean").fit(cohort, SPLIT, KEY)
    assert len(member.splits) == 6
    for one in member.splits:
        assert one.train.sum() == 4
        assert not (one.train & ~SPLIT.train).any()
        np.testing.assert_array_equal(one.test, SPLIT.test)
        np.testing.assert_array_equal(one.validation, SPLIT.validation)
    assert len({one.train.tobytes() for one in member.splits}) > 3


def test_weights_are_learnt_on_subjects_that_members_did_not_train_on(cohort):
    member = Noted(True)
    fitted = Stacking({"one": member, "last": LastVisit(False)}, 3).fit(cohort, SPLIT, KEY)
    whole, *turns = member.splits
    np.testing.assert_array_equal(whole.train, SPLIT.train)
    left_out = np.array([SPLIT.train & ~turn.train for turn in turns])
    np.testing.assert_array_equal(left_out.sum(0), SPLIT.train.astype(int))
    assert not any((turn.train | turn.validation)[SPLIT.test].any() for turn in turns)
    for weights in fitted.weights.values():
        assert min(weights) >= 0
        assert sum(weights) == pytest.approx(1, abs=1e-5)


def test_the_better_member_weighs_more(cohort):
    """Scores fall steadily, which one of them does not know."""
    fitted = Stacking({"still": Still(False), "slope": LastVisit(True)}, 3).fit(cohort, SPLIT, KEY)
    assert fitted.weights["score"][1] > 0.6


def test_stacked_forecasts_are_the_weighted_means(cohort, tmp_path):
    recipe = Stacking(FLOORS, 3)
    fitted = recipe.fit(cohort, SPLIT, KEY)
    told, parts = numbers(fitted, cohort), [numbers(one, cohort) for one in fitted.members.values()]
    asked = cohort.eval_queries.query.valid
    for name in ("score", "volume"):
        expected = np.tensordot(fitted.weights[name], [part[name] for part in parts], 1)
        np.testing.assert_allclose(told[name][asked], expected[asked], rtol=1e-4, atol=1e-4)
    fitted.save(tmp_path)
    assert recipe.load(tmp_path, cohort.layout).weights == fitted.weights


def test_least_finds_what_is_known():
    """The point of the simplex nearest to one outside it, and a corner."""
    outside = jnp.array([0.9, 0.5, -0.4])
    found = least(lambda w: jnp.sum((w - outside) ** 2), 3)
    np.testing.assert_allclose(found, [0.7, 0.3, 0.0], atol=5e-3)
    np.testing.assert_allclose(least(lambda w: jnp.abs(w[2] - 1) + w[0], 3), [0, 0, 1], atol=5e-3)
    np.testing.assert_allclose(least(lambda w: 0 * w.sum(), 4), np.full(4, 0.25), atol=1e-6)


def test_what_cannot_be_is_told_at_once():
    for made, told in (
        (lambda: Voting({}, "mean"), "has no members"),
        (lambda: Voting(FLOORS, "mode"), "model.combine is 'mode'"),
        (lambda: Bagging(LastVisit(True), 0, 0.5, "mean"), "model.num_members=0"),
        (lambda: Bagging(LastVisit(True), 3, 1.5, "mean"), "model.fraction=1.5"),
        (lambda: Stacking(FLOORS, 1), "model.folds is 1"),
    ):
        with pytest.raises(UserError, match=told):
            made()


@dataclass(frozen=True)
class Tilted(Noted):
    """The last visit or its slope, as a made-up setting says; what it was given is noted."""

    given: list[TracedHyperparameters] = field(default_factory=list)

    def dynamic(self, layout) -> TracedHyperparameters:
        return TracedHyperparameters(*map(jnp.float32, (1, 0, 0)), jnp.ones(len(layout.targets)), jnp.float32(1))

    def fit_many(self, request):
        self.splits.extend(request.splits)
        self.given.append(request.dynamics)
        lean = [FLOORS["slope"] if rate > 0 else FLOORS["last"] for rate in request.dynamics.learning_rate]
        return [lean[m].fit(request.examples, split, key) for m, split, key in request.members]


def test_crossfitted_each_training_subject_is_left_out_once_and_the_best_settings_are_kept(cohort):
    member = Tilted(True)
    fitted = CrossFit(member, {"learning_rate": (0.0, 1.0), "dropout": (0.5,)}, 3, 4.0).fit(cohort, SPLIT, KEY)
    assert len(member.splits) == 6
    learnt = SPLIT.train | SPLIT.validation
    for turns in (member.splits[:3], member.splits[3:]):
        np.testing.assert_array_equal(np.sum([one.validation for one in turns], axis=0), learnt)
        for one in turns:
            np.testing.assert_array_equal(one.train | one.validation, learnt)
            np.testing.assert_array_equal(one.test, SPLIT.test)
    np.testing.assert_array_equal(member.given[0].learning_rate, [0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(member.given[0].dropout, np.full(6, 0.5, np.float32))
    for target, weights in fitted.weights.items():
        kept = {name[:3] for name, weight in zip(fitted.members, weights, strict=True) if weight}
        assert len(kept) == 1, target
        assert kept == {f"{np.argmin(of_the_left_out(cohort, member.splits[:3], target)):03d}"}


@dataclass(frozen=True)
class Heavy(Noted):
    """A gigabyte each."""

    def member_bytes(self, examples, splits):
        return 10**9

    def fit_many(self, request):
        for place in range(len(request)):
            request.log({"member": place})
        return super().fit_many(request)


def test_what_memory_does_not_hold_goes_in_waves_and_comes_to_the_same(cohort):
    told, rows = [], []
    for max_memory_gb in (2.5, 9.0):
        request = FitRequest(cohort, [SPLIT], KEY[None], log=rows.append)
        fitted = CrossFit(Heavy(True), {}, 5, max_memory_gb).fit_many(request)
        told.append(numbers(fitted[0], cohort))
    for target, answer in told[0].items():
        np.testing.assert_array_equal(answer, told[1][target])
    assert [row["member"] for row in rows] == [0, 1, 2, 3, 4] * 2


def of_the_left_out(cohort, splits: Sequence[Split], target: str) -> list[float]:
    """What the last visit and the slope lose on those left out, by the definition of each loss."""
    lost = []
    for floor in FLOORS.values():
        told, came = [], []
        for split in splits:
            rows = np.flatnonzero(split.validation)
            some = np.asarray(cohort.eval_queries.truth[target].observed)[rows]
            told.append(answers(floor.fit(cohort, split, KEY), cohort, rows, cohort.eval_queries)[target][some])
            came.append(np.asarray(cohort.eval_queries.truth[target].value)[rows][some])
        numbers, truth = np.concatenate(told), np.concatenate(came)
        if target == "stage":
            lost.append(-np.log(np.maximum(numbers[np.arange(len(truth)), truth.astype(int)], 1e-6)).mean())
        else:
            error = truth[:, None] - numbers[:, : len(LEVELS)]
            lost.append(np.maximum(np.array(LEVELS) * error, (np.array(LEVELS) - 1) * error).mean())
    return lost


def test_crossfitting_refuses_settings_that_members_cannot_differ_in(cohort):
    with pytest.raises(UserError, match=r"model.grid.width is no setting of Tilted .*; expected learning_rate"):
        CrossFit(Tilted(True), {"width": (8.0,)}, 2, 4.0).fit(cohort, SPLIT, KEY)
    with pytest.raises(UserError, match=r"grid\.dropout is empty"):
        CrossFit(Tilted(True), {"dropout": ()}, 2, 4.0)
    with pytest.raises(UserError, match="folds is 1"):
        CrossFit(Tilted(True), {}, 1, 4.0)


def fits_of_one_signal(count: int = 4, rows: int = 40_000) -> tuple[HeldOut, np.ndarray]:
    """Medians of fits that err independently of each other about the same signal, and the first one's forecasts."""
    rng = np.random.default_rng(0)
    signal = rng.normal(0, 3, rows)
    medians = signal + rng.normal(0, 0.8, (count, rows))
    quantiles = medians[0][:, None] + np.linspace(-1, 1, len(LEVELS))
    return HeldOut(quantiles, signal + rng.normal(0, 1, rows), np.arange(rows), np.ones(rows)), medians


def test_errors_of_one_fit_are_scaled_to_those_of_the_mean_of_all():
    held_out, medians = fits_of_one_signal()
    scaled = errors_of_mean(held_out, medians)
    errors = scaled.truth - scaled.quantiles[:, MEDIAN]
    assert np.mean(errors**2) == pytest.approx(np.mean((held_out.truth - medians.mean(0)) ** 2), rel=0.03)
    np.testing.assert_array_equal(scaled.quantiles, held_out.quantiles)


def test_fits_that_agree_leave_errors_as_they_are_and_no_mean_reduces_them_more_than_by_its_count():
    held_out, medians = fits_of_one_signal()
    np.testing.assert_allclose(errors_of_mean(held_out, medians[:1].repeat(4, 0)).truth, held_out.truth)
    wild = errors_of_mean(held_out, 100 * medians)
    middle = held_out.quantiles[:, MEDIAN]
    np.testing.assert_allclose(wild.truth - middle, (held_out.truth - middle) / 2)


def test_a_subject_counts_once_however_many_rows_it_has():
    held_out, medians = fits_of_one_signal(rows=50)
    twice = np.r_[np.arange(50), 7, 7, 7]
    repeated = HeldOut(*(column[twice] for column in vars(held_out).values()))
    scaled = errors_of_mean(repeated, medians[:, twice])
    np.testing.assert_allclose(scaled.truth[:50], errors_of_mean(held_out, medians).truth)
