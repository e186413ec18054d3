import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from framework.evaluate.inference import bootstrap
from framework.evaluate.metrics.registry import metrics_for

KEY = jax.random.key(3)


def run(one, resamples, weight=None):
    forecasts = np.stack(list(one.forecasts.values()))
    return bootstrap.scores(
        metrics_for(one.target)[:3],
        forecasts,
        one.truth,
        one.subject,
        subjects=len(one.subjects),
        resamples=resamples,
        key=KEY,
        weight=weight,
    )


@pytest.mark.parametrize("place", [0, 1])
def test_each_resample_is_that_of_a_plain_loop(study, place):
    one = study()[place]
    found = run(one, 50)
    value, draws = found.value, found.draws
    assert value.shape == (3, 3)
    assert draws.shape == (50, *value.shape)
    for b in range(50):
        counts = np.asarray(bootstrap.draw(jax.random.fold_in(KEY, b), 40)).astype(int)
        rows = np.concatenate([np.flatnonzero(one.subject == s) for s in range(40) for _ in range(counts[s])])
        for m, forecast in enumerate(one.forecasts.values()):
            if not one.levels:
                expected = np.mean([np.abs(f[rows, 2] - one.truth[rows]).mean() for f in forecast])
            else:
                expected = np.mean([roc_auc_score(one.truth[rows] >= 1, f[rows, 1:].sum(1)) for f in forecast])
            assert np.isclose(draws[b, 0, m], expected, rtol=1e-4)


def test_chunks_change_nothing(study, monkeypatch):
    one = study()[0]
    whole = run(one, 30)
    monkeypatch.setattr(bootstrap, "WEIGHTS_AT_ONCE", 7 * len(one.truth))
    with jax.default_matmul_precision("highest"):  # nothing on a CPU, but no program compiled before is taken
        chunked = run(one, 30)
    for some, same in zip(jax.tree.leaves(whole), jax.tree.leaves(chunked), strict=True):
        assert np.allclose(some, same, rtol=1e-5)


def test_draws_keep_the_number_of_subjects():
    counts = np.asarray(jax.vmap(bootstrap.draw, (0, None))(jax.random.split(KEY, 500), 20))
    assert (counts.sum(1) == 20).all()
    assert abs(counts.var(0).mean() - 0.95) < 0.1  # multinomial: n p (1 - p)


def test_the_interval_of_a_mean_has_its_textbook_width(study):
    one = study(subjects=200, repeats=1)[0]
    first = np.unique(one.subject, return_index=True)[1]  # one query a subject: a plain mean of independent errors
    error = np.abs(one.forecasts["slope"][0, first, 2] - one.truth[first])
    found = bootstrap.scores(
        metrics_for(one.target)[:1],
        one.forecasts["slope"][None, :, first],
        one.truth[first],
        np.arange(len(first)),
        subjects=len(first),
        resamples=4000,
        key=KEY,
    )
    assert np.isclose(np.std(found.draws), error.std() / np.sqrt(len(first)), rtol=0.05)


@pytest.mark.parametrize("place", [0, 1])
def test_each_is_left_out_and_a_subgroup_is_a_weighting(study, place):
    one = study(subjects=12)[place]
    kept = one.subject != 4
    without = np.asarray(run(one, 5).without)
    assert without.shape == (12, 3, 3)
    assert np.allclose(without[4], run(one, 5, kept.astype(float)).value, rtol=1e-5, equal_nan=True)
    told = one.forecasts["slope"][:, kept]
    if place == 0:
        assert np.isclose(without[4, 0, 1], np.abs(told[..., 2] - one.truth[kept]).mean())
    else:
        assert np.isclose(without[4, 2, 1], (told.argmax(-1) == one.truth[kept]).mean())
