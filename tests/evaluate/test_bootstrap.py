import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from framework.evaluate import bootstrap
from framework.evaluate.metrics import metrics_for

KEY = jax.random.key(3)


def run(one, resamples, metrics=None):
    forecasts = np.stack(list(one.forecasts.values()))
    return bootstrap.scores(
        metrics or metrics_for(one.target),
        forecasts,
        one.truth,
        one.subject,
        subjects=len(one.subjects),
        resamples=resamples,
        key=KEY,
    )


@pytest.mark.parametrize("place", [0, 1])
def test_each_resample_is_that_of_a_plain_loop(study, place):
    one = study()[place]
    value, draws = run(one, 50)
    assert value.shape == (len(metrics_for(one.target)), 3)
    assert draws.shape == (50, *value.shape)
    for b in range(50):
        counts = np.asarray(bootstrap.draw(jax.random.fold_in(KEY, b), 40)).astype(int)
        rows = np.concatenate([np.flatnonzero(one.subject == s) for s in range(40) for _ in range(counts[s])])
        for m, forecast in enumerate(one.forecasts.values()):
            if not one.target.levels:
                expected = np.mean([np.abs(f[rows, 2] - one.truth[rows]).mean() for f in forecast])
            else:
                expected = np.mean([roc_auc_score(one.truth[rows] >= 1, f[rows, 1:].sum(1)) for f in forecast])
            assert np.isclose(draws[b, 0, m], expected, rtol=1e-4)


def test_chunks_change_nothing(study, monkeypatch):
    one = study()[0]
    _, whole = run(one, 30)
    monkeypatch.setattr(bootstrap, "WEIGHTS_AT_ONCE", 7 * len(one.truth))
    jax.clear_caches()
    _, chunked = run(one, 30)
    assert np.allclose(whole, chunked, rtol=1e-5)


def test_draws_keep_the_number_of_subjects():
    counts = np.asarray(jax.vmap(bootstrap.draw, (0, None))(jax.random.split(KEY, 500), 20))
    assert (counts.sum(1) == 20).all()
    assert abs(counts.var(0).mean() - 0.95) < 0.1  # multinomial: n p (1 - p)


def test_interval_covers_the_mean_of_the_mean():
    draws = np.random.default_rng(0).normal(5, 1, 100_000)
    assert np.allclose(bootstrap.interval(draws), (5 - 1.96, 5 + 1.96), atol=0.03)
    assert bootstrap.interval(np.array([np.nan, 1.0, np.nan])) == (1.0, 1.0)
    assert np.isnan(bootstrap.interval(np.full(3, np.nan))).all()


def test_the_interval_of_a_mean_has_its_textbook_width(study):
    one = study(subjects=200, repeats=1)[0]
    first = np.unique(one.subject, return_index=True)[1]  # one query a subject: a plain mean of independent errors
    error = np.abs(one.forecasts["slope"][0, first, 2] - one.truth[first])
    _, draws = bootstrap.scores(
        metrics_for(one.target)[:1],
        one.forecasts["slope"][None, :, first],
        one.truth[first],
        np.arange(len(first)),
        subjects=len(first),
        resamples=4000,
        key=KEY,
    )
    assert np.isclose(np.std(draws), error.std() / np.sqrt(len(first)), rtol=0.05)
