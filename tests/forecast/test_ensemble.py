"""Ensembles: what they make of their members' answers, and on whom members and weights are fitted."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from framework.data.split import Split
from framework.errors import UserError
from framework.forecast.answers import answers
from framework.forecast.ensemble import Bagging, Voting
from framework.forecast.last_visit import LastVisit
from framework.forecast.stacking import Stacking, least
from tests.cohorts import examples

KEY, ORDER = jax.random.key(1), np.arange(12)
SPLIT = Split(ORDER < 7, (ORDER >= 7) & (ORDER < 9), ORDER >= 9)
FLOORS = {"last": LastVisit(False), "slope": LastVisit(True)}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    made = examples(tmp_path_factory.mktemp("cohort") / "c")
    return replace(made, layout=replace(made.layout, modalities=(), grids=()))


def numbers(fitted, cohort) -> dict[str, np.ndarray]:
    return answers(fitted, cohort, range(12), cohort.asked)


@dataclass(frozen=True)
class Noted(LastVisit):
    """Keeps the splits that it was fitted on."""

    splits: list[Split] = field(default_factory=list)

    def fit_many(self, examples, splits: Sequence[Split], *rest, **more):
        self.splits.extend(splits)
        return super().fit_many(examples, splits, *rest, **more)


@pytest.mark.parametrize("combine", ["mean", "median"])
def test_a_vote_is_the_mean_or_the_median_of_the_members(cohort, combine):
    members = {**FLOORS, "other": LastVisit(True)}
    told = numbers(Voting(members, combine).fit(cohort, SPLIT, KEY), cohort)
    parts = [numbers(one.fit(cohort, SPLIT, KEY), cohort) for one in members.values()]
    for name, answer in told.items():
        expected = getattr(np, combine)([part[name] for part in parts], axis=0)
        if name == "stage":
            expected = expected / expected.sum(-1, keepdims=True)
        asked = cohort.asked.query.valid
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
    """Scores fall steadily, which the slope knows."""
    fitted = Stacking(FLOORS, 3).fit(cohort, SPLIT, KEY)
    assert fitted.weights["score"][1] > 0.6


def test_stacked_forecasts_are_the_weighted_means(cohort, tmp_path):
    recipe = Stacking(FLOORS, 3)
    fitted = recipe.fit(cohort, SPLIT, KEY)
    told, parts = numbers(fitted, cohort), [numbers(one, cohort) for one in fitted.members.values()]
    asked = cohort.asked.query.valid
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
        (lambda: Bagging(LastVisit(True), 0, 0.5, "mean"), "model.count=0"),
        (lambda: Bagging(LastVisit(True), 3, 1.5, "mean"), "model.share=1.5"),
        (lambda: Stacking(FLOORS, 1), "model.folds is 1"),
    ):
        with pytest.raises(UserError, match=told):
            made()
