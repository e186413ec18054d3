"""Predictive intervals: calibrated on subjects held out, within bounds, no narrower beyond the follow-up in training."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.data.cohort.schema import Variable
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.errors import UnwritableError, UserError
from framework.forecast.base import Fitted
from framework.forecast.calibration.horizon import HeldOut, HorizonCalibration
from framework.forecast.calibration.intervals import WithIntervals
from framework.forecast.predict import answers
from framework.forecast.references import LastVisit
from framework.forecast.tabular.cross_validation import held_out_answers
from framework.types import LEVELS, MEDIAN, Layout, Query, Values
from tests.cohorts import table
from tests.contracts import forecaster_laws as laws
from tests.contracts.recipes import forecaster

KEY = jax.random.key(2)
POINT = len(LEVELS)


def series(seed: int, subjects: int, scale: float = 1.0, offset: float = 0.0, skewed: bool = False) -> dict:
    """Subjects of two to six visits whose score falls at rates of their own, the more uncertain the farther ahead."""
    rng = np.random.default_rng(seed)
    made = {}
    for i in range(subjects):
        times = np.concatenate([[0.0], np.cumsum(rng.uniform(0.5, 2.0, rng.integers(1, 6)))])
        value = rng.normal(0, 3) - rng.gamma(2, 0.5) * times + rng.normal(0, 0.7, len(times))
        value = np.exp(-0.4 * value) if skewed else offset + scale * (20 + value)
        made[f"s{i:04d}"] = [(float(t), {"score": float(v)}) for t, v in zip(times, value, strict=True)]
    return made


def study(path, seed: int = 0, subjects: int = 80, variable: dict | None = None, **more) -> Examples:
    variables = (Variable("score", ("input", "target"), "points", **(variable or {})),)
    cohort = table(path / f"c{seed}{len(more)}", variables, series(seed, subjects, **more))
    return Examples(cohort, layout(cohort.schema, ["score"]))


def split(examples: Examples, train: float = 0.5, validation: float = 0.15) -> Split:
    place = np.arange(len(examples.subjects)) / len(examples.subjects)
    return Split(place < train, (place >= train) & (place < train + validation), place >= train + validation)


def forecasts(fitted, examples: Examples, rows) -> tuple[np.ndarray, np.ndarray]:
    """The forecasts of what was observed, and the truths."""
    told, truth = answers(fitted, examples, rows, examples.eval_queries)["score"], examples.eval_queries.truth["score"]
    observed = np.asarray(truth.observed)[rows]
    return told[observed], np.asarray(truth.value)[rows][observed]


@pytest.fixture(scope="module")
def linear(tmp_path_factory):
    return study(tmp_path_factory.mktemp("linear"))


@pytest.fixture(scope="module")
def fitted(linear):
    return WithIntervals(LastVisit(False), True, 5).fit(linear, split(linear), KEY)


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", ["slope", "ridge"])
def test_a_forecaster_with_intervals_keeps_its_laws(small, name, law):
    cohort, members = small
    law(members[name], cohort)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    from tests.cohorts import examples

    cohort = examples(tmp_path_factory.mktemp("cohort") / "c", targets=("score", "stage", "volume", "rise"))
    recipes = {name: WithIntervals(forecaster(name), True, 3) for name in ("slope", "ridge")}
    return cohort, {name: one.fit(cohort, laws.SPLITS[1], laws.KEYS[1]) for name, one in recipes.items()}


@pytest.mark.parametrize("name", ["slope", "ridge"])
def test_a_lane_is_a_fit_and_what_is_saved_is_loaded(small, name, tmp_path):
    cohort, members = small
    recipe = WithIntervals(forecaster(name), True, 3)
    together = laws.fitted_together(recipe, cohort)
    laws.a_lane_is_a_fit(together, members[name], cohort)
    laws.saved_and_loaded_it_is_the_same(recipe, members[name], cohort, tmp_path)
    laws.fitted_on_its_own_subjects(together, laws.fitted_on_noise(recipe, cohort), cohort)


def test_intervals_cover_what_they_say_at_every_horizon(tmp_path):
    """Ten training cohorts of 80; the last visit alone has one spread for all horizons."""
    recipe, raw, inside, ahead = WithIntervals(LastVisit(False), True, 5), [], [], []
    for seed in range(10):
        examples = study(tmp_path, seed, 180)
        divided = split(examples, 80 / 180, 0.0)
        fitted, rows = recipe.fit(examples, divided, jax.random.key(seed)), np.flatnonzero(divided.test)
        for one, found in ((fitted, inside), (fitted.member, raw)):
            told, truth = forecasts(one, examples, rows)
            found.append((told[:, 0] <= truth) & (truth <= told[:, POINT - 1]))
        query = examples.eval_queries.query
        years = query.time - np.take_along_axis(examples.cohort.times, query.origin, 1)
        ahead.append(years[rows][np.asarray(examples.eval_queries.truth["score"].observed)[rows]])
    inside, raw, ahead = map(np.concatenate, (inside, raw, ahead))
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    near, far = ahead < 1, ahead > 4
    assert inside[near].mean() == pytest.approx(0.9, abs=0.04)
    assert inside[far].mean() == pytest.approx(0.9, abs=0.04)
    assert raw[near].mean() > 0.94 > 0.88 > raw[far].mean()


def test_a_subject_counts_once_however_many_rows_it_has():
    rng = np.random.default_rng(0)
    subject = np.repeat(np.arange(60), rng.integers(1, 6, 60))
    truth, horizon = rng.normal(0, 1 + subject % 3), rng.uniform(0, 4, len(subject))
    told = np.broadcast_to(np.array([-1.6, -0.7, 0, 0.7, 1.6]), (len(subject), len(LEVELS)))
    found = HeldOut(told, truth, subject, horizon)
    once, tenfold = HorizonCalibration.fit(found), HorizonCalibration.fit(HeldOut.joined([found] * 10))
    for name, value in once.facts().items():
        np.testing.assert_allclose(tenfold.facts()[name], value, rtol=1e-9, err_msg=name)


@dataclass(frozen=True)
class Noted(LastVisit):
    """Keeps the splits that it was fitted on."""

    splits: list[Split] = field(default_factory=list)

    def fit_many(self, request):
        self.splits.extend(request.splits)
        return super().fit_many(request)


def test_every_training_subject_calibrates_once_and_nobody_by_whom_training_stops(linear):
    member, own = Noted(False), split(linear)
    WithIntervals(member, True, 4).fit(linear, own, KEY)
    whole, *others = member.splits
    np.testing.assert_array_equal(whole.train, own.train)
    np.testing.assert_array_equal(sum((own.train & ~one.train).astype(int) for one in others), own.train.astype(int))
    for one in others:
        np.testing.assert_array_equal(one.validation, own.validation)
        assert not (one.train & ~own.train).any()


@dataclass(frozen=True)
class FailsInCompany(LastVisit):
    """Meets an error where it is fitted beside those that calibrate it; keeps the folder of each attempt."""

    error: UserError = UserError("the loss is not finite")  # noqa: RUF009
    folders: list[Path | None] = field(default_factory=list)

    def fit_many(self, request):
        self.folders.append(request.folder)
        if len(request) > 1:
            raise self.error
        return super().fit_many(request)


def test_a_member_fitted_alone_after_a_failure_goes_on_from_no_state_of_others(linear, tmp_path):
    member = FailsInCompany(False)
    fitted = WithIntervals(member, True, 4).fit(linear, split(linear), KEY, folder=tmp_path)
    assert any("the loss is not finite" in note for note in fitted.notes)
    assert len(set(member.folders)) == 2


def test_a_full_disk_is_no_reason_to_leave_intervals_uncalibrated(linear, tmp_path):
    full = FailsInCompany(False, error=UnwritableError("no checkpoint can be written (No space left on device)"))
    with pytest.raises(UnwritableError, match="No space left"):
        WithIntervals(full, True, 4).fit(linear, split(linear), KEY, folder=tmp_path)
    assert len(full.folders) == 1


def test_turned_off_quantiles_are_the_members_own(linear):
    own = split(linear)
    plain = WithIntervals(LastVisit(False), False, 5).fit(linear, own, KEY)
    member = LastVisit(False).fit(linear, own, KEY)
    rows = np.flatnonzero(own.test)
    query = linear.eval_queries.query
    years = query.time - np.take_along_axis(linear.cohort.times, query.origin, 1)
    within = (years <= plain.follow_up)[rows][np.asarray(linear.eval_queries.truth["score"].observed)[rows]]
    told, expected = (forecasts(one, linear, rows)[0][within] for one in (plain, member))
    np.testing.assert_array_equal(told, expected)


def test_what_is_forecast_stays_within_bounds_and_in_order(tmp_path):
    """Scores end at 22, and most subjects are near to it; a slope alone forecasts more."""
    examples = study(tmp_path, 5, 60, variable={"bounds": (None, 22.0)})
    values = np.minimum(examples.cohort.values, 22.0)
    examples = Examples(replace(examples.cohort, values=values), examples.layout)
    for calibrate in (True, False):
        fitted = WithIntervals(LastVisit(True), calibrate, 3).fit(examples, split(examples), KEY)
        told = answers(fitted, examples, range(60), examples.eval_queries)["score"]
        beyond = answers(fitted.member, examples, range(60), examples.eval_queries)["score"]
        assert told.max() == 22.0 < beyond.max()
        assert (np.diff(told[..., :POINT], axis=-1) >= 0).all()


def at_years(fitted, examples: Examples, years) -> np.ndarray:
    """Quantiles of everybody so many years after the first visit, on the scale of the model."""
    shape = (len(examples.subjects), len(years))
    none = np.zeros((*shape, 0))
    asks = Query(
        time=np.broadcast_to(np.asarray(years, float), shape),
        origin=np.zeros(shape, int),
        known=none,
        future_observed=none > 0,
        valid=np.ones(shape, bool),
    )
    history = laws.asked(fitted, examples, range(len(examples.subjects))).visits
    return np.asarray(fitted.predict(history, asks)["score"].quantiles)[: len(examples.subjects)]


class Narrowing(LastVisit):
    """A forecaster whose intervals shrink to nothing with the horizon."""

    def fit_many(self, request):
        return [Narrow(one.layout, one) for one in super().fit_many(request)]


@dataclass(frozen=True)
class Narrow(Fitted):
    layout: Layout
    member: Fitted

    def save(self, path): ...

    def predict(self, history, query):
        told = self.member.predict(history, query)["score"]
        middle = told.quantiles[..., MEDIAN, None]
        ahead = np.asarray(query.time)[..., None]
        return {"score": Values(middle + (told.quantiles - middle) * np.exp(-ahead))}


@settings(max_examples=20, deadline=None)
@given(years=st.lists(st.floats(0.1, 60), min_size=4, max_size=4))
def test_intervals_do_not_narrow_beyond_the_follow_up_seen_in_training(years, narrowing, linear):
    fitted = narrowing
    later = fitted.follow_up + np.sort(years)
    told = at_years(fitted, linear, [fitted.follow_up, *later])
    for inner in (0, 1):
        widths = told[..., POINT - 1 - inner] - told[..., inner]
        assert (np.diff(widths, axis=1) >= -1e-4 * widths[:, :1]).all()


@pytest.fixture(scope="module", params=[True, False], ids=["calibrated", "as forecast"])
def narrowing(request, linear):
    return WithIntervals(Narrowing(False), request.param, 3).fit(linear, split(linear), KEY)


def test_a_logarithmic_variable_is_forecast_above_zero_in_its_own_units(tmp_path):
    examples = study(tmp_path, 3, 80, variable={"scale": "log"}, skewed=True)
    logs = replace(examples.cohort, values=np.log(np.where(examples.cohort.observed, examples.cohort.values, 1)))
    plain = Examples(logs, replace(examples.layout, targets=(replace(examples.layout.targets[0], scale="linear"),)))
    plain = replace(plain, layout=replace(plain.layout, inputs=(replace(plain.layout.inputs[0], scale="linear"),)))
    own = split(examples)
    recipe = WithIntervals(LastVisit(True), True, 3)
    told = forecasts(recipe.fit(examples, own, KEY), examples, np.flatnonzero(own.test))[0]
    expected = forecasts(recipe.fit(plain, own, KEY), plain, np.flatnonzero(own.test))[0]
    assert told.min() > 0
    np.testing.assert_allclose(told, np.exp(expected), rtol=1e-4)


def test_scale_log_is_for_numbers_above_zero():
    with pytest.raises(UserError, match=r"scale 'logs'; expected one of \['linear', 'log'\]"):
        Variable("score", scale="logs")
    with pytest.raises(UserError, match="for numbers above 0"):
        Variable("stage", levels=("a", "b"), scale="log")
    with pytest.raises(UserError, match="not above 0"):
        Variable("score", scale="log").encode(0.0)
    with pytest.raises(UserError, match="lower one first"):
        Variable("score", bounds=(30.0, 0.0))


def test_too_few_subjects_to_calibrate_are_said_not_refused(tmp_path):
    examples = study(tmp_path, 1, 3)
    own = Split(np.array([True, False, False]), np.array([False, True, False]), np.array([False, False, True]))
    fitted = WithIntervals(LastVisit(False), True, 5).fit(examples, own, KEY)
    assert any("not calibrated" in note for note in fitted.notes)
    assert np.isfinite(forecasts(fitted, examples, np.array([2]))[0]).all()


@pytest.mark.parametrize(("scale", "offset"), [(1e6, 0.0), (1e-6, 0.0), (1.0, 1e4)])
def test_calibration_follows_the_units(linear, fitted, tmp_path, scale, offset):
    other = study(tmp_path, 0, 80, scale=scale, offset=offset)
    own = split(linear)
    again = WithIntervals(LastVisit(False), True, 5).fit(other, own, KEY)
    rows = np.flatnonzero(own.test)
    told, expected = forecasts(again, other, rows)[0], forecasts(fitted, linear, rows)[0]
    rounding = 16 * np.spacing(np.float32(offset + 20 * scale)) / scale
    np.testing.assert_allclose((told - offset) / scale, expected, atol=rounding)


def test_nothing_is_noted_where_nothing_is_wrong(fitted):
    assert list(fitted.notes) == []


def test_where_nobody_is_left_out_nothing_is_calibrated(linear, fitted):
    nobody = np.zeros(len(linear.subjects), bool)
    assert held_out_answers(fitted, linear, nobody)["score"].subjects == 0
