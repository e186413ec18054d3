import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from framework.evaluate.inference.bca_interval import Spread
from framework.evaluate.inference.corrected_ttest import corrected, widening

RNG = np.random.default_rng(0)


def of_mean(sample: np.ndarray, resamples: int = 100_000) -> Spread:
    n = len(sample)
    draws = RNG.multinomial(n, np.full(n, 1 / n), resamples) @ sample / n
    return Spread.of(sample.mean(), draws, (sample.sum() - sample) / (n - 1))


def test_of_a_symmetrical_mean_it_is_student_s():
    sample = stats.norm.ppf((np.arange(20) + 0.5) / 20)
    half = stats.t.ppf(0.975, 19) * sample.std(ddof=1) / np.sqrt(20)
    assert np.allclose(of_mean(sample).interval(), (-half, half), rtol=0.03)


def test_a_skewed_mean_reaches_further_up():
    sample = stats.expon.ppf((np.arange(40) + 0.5) / 40)
    spread = of_mean(sample)
    low, high = spread.interval()
    assert high - spread.value > 1.15 * (spread.value - low)
    plain = np.quantile(spread.draws, [0.025, 0.975])
    assert high > plain[1]
    assert low > plain[0]


@pytest.mark.parametrize("widened", [1.0, 1.5])
@pytest.mark.parametrize("smooth", [True, False])
def test_the_p_value_is_of_the_interval_that_just_reaches_the_null(smooth, widened):
    sample = RNG.exponential(size=30)
    one = of_mean(sample)
    one = Spread(one.value, one.draws, one.without, smooth, widened)
    for null in (0.6, 0.7, 0.9, 1.2):
        p = one.p_value(null)
        assert np.isclose(min(abs(end - null) for end in one.interval(1 - p)), 0, atol=5e-3)


def test_where_it_never_varies_it_is_a_point():
    one = Spread.of(2.0, np.full(500, 2.0), np.full(9, 2.0))
    assert one.interval() == (2.0, 2.0)
    assert one.p_value(2.0) == 1.0
    assert one.p_value(0.0) < 0.05


def test_a_p_value_may_be_smaller_than_resamples_can_count():
    sample = stats.norm.ppf((np.arange(40) + 0.5) / 40)
    few, t = of_mean(sample, 1000), 0.75 / (sample.std(ddof=1) / np.sqrt(40))
    assert np.isclose(np.log10(few.p_value(0.75)), np.log10(2 * stats.t.sf(t, 39)), atol=0.5)
    assert few.p_value(0.75) < 1e-4


def test_undefined_resamples_are_left_out():
    one = Spread.of(1.0, np.array([np.nan, 1.0, np.nan]), np.array([1.0, np.nan]))
    assert one.interval() == (1.0, 1.0)
    assert np.isnan(Spread.of(np.nan, np.full(3, np.nan), np.full(3, np.nan)).interval()).all()


@given(
    value=st.floats(-1, 1),
    draws=st.lists(st.floats(-1, 1), min_size=1, max_size=30),
    without=st.lists(st.floats(-1, 1), max_size=9),
    smooth=st.booleans(),
)
@example(value=0.0, draws=[0.001, 0.02, 0.047], without=[0.01, 0.02], smooth=False)  # nearer to the ideal than any
@settings(max_examples=200, deadline=None)
def test_an_interval_holds_its_estimate(value, draws, without, smooth):
    low, high = Spread.of(value, np.array(draws, float), np.array(without, float), smooth).interval()
    assert low <= value <= high


def test_a_widened_interval_reaches_so_many_times_as_far_even_beyond_all_resamples():
    sample = stats.norm.ppf((np.arange(20) + 0.5) / 20)
    one = of_mean(sample, 2000)
    for widened in (1.45, 2.5):
        wide = Spread(one.value, one.draws, one.without, widened=widened)
        assert np.allclose(wide.interval(), widened * np.array(one.interval()), rtol=0.1)
        assert wide.interval()[1] > one.draws.max() or widened < 2
        assert wide.p_value(0.5) > 2 * one.p_value(0.5)
    held = Spread(one.value, one.draws, one.without, widened=2.5, bounds=(-0.3, 0.4))
    assert held.interval() == (-0.3, 0.4)


def test_folds_that_share_their_training_subjects_widen_an_interval():
    five, one = np.arange(20) % 5, np.zeros(20, int)
    assert np.isclose(widening(five[None]), np.sqrt(1 + 5 / 4))
    assert np.isclose(widening(np.stack([five, five[::-1]])), np.sqrt(1 + 5 / 4))
    assert np.isclose(widening((np.arange(20) % 2)[None]), np.sqrt(3))
    assert widening(one[None]) == 1  # one part held out was never trained on
    # as much as Nadeau and Bengio's t-test over folds has over the plain one
    gaps = RNG.normal(size=5)
    low, high, _ = corrected(gaps, 1.0, 4.0)
    plain = stats.t.ppf(0.975, 4) * gaps.std(ddof=1) / np.sqrt(5)
    assert np.isclose((high - low) / 2 / plain, widening(five[None]))
