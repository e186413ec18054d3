"""What every estimator must obey, as functions, so that broken estimators can be put to the same question."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from framework.baselines.base import Estimator

KEY = jax.random.key(4)
N, F = 30, 4


@dataclass(frozen=True)
class Rows:
    """A table; a fifth of its cells are missing, a fifth of its rows weigh nothing."""

    x: np.ndarray
    observed: np.ndarray
    y: np.ndarray
    weight: np.ndarray

    def take(self, some) -> "Rows":
        return Rows(*(part[some] for part in vars(self).values()))


@dataclass(frozen=True)
class Trial:
    """An estimator, compiled once for all laws; `random` ones draw rows or features by their place."""

    estimator: Estimator
    random: bool = False
    unpenalised: bool = False

    @cached_property
    def fit(self):
        return jax.jit(lambda x, observed, y, weight: self.estimator.fit(x, observed, y, weight, key=KEY))

    @cached_property
    def predict(self):
        return jax.jit(self.estimator.predict)

    def told(self, rows: Rows, asked: Rows | None = None) -> np.ndarray:
        """What it says of `asked`, having been fitted to `rows`."""
        asked = table(self.estimator.classes, seed=1) if asked is None else asked
        return np.asarray(self.predict(self.fit(**vars(rows)), asked.x, asked.observed))

    @property
    def rows(self) -> Rows:
        return table(self.estimator.classes)


def table(classes: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, F)).astype(np.float32)
    score = x @ np.array([1.0, -1.0, 0.5, 0.0]) + 0.3 * rng.normal(size=N)
    y = np.digitize(score, [-0.5, 0.5]) % classes if classes else score
    weight = np.where(np.arange(N) % 5 == 2, 0, rng.integers(1, 4, N))
    return Rows(x, rng.random((N, F)) > 0.2, y.astype(np.int32 if classes else np.float32), weight.astype(np.float32))


def noise_in(rows: Rows, empty: np.ndarray, classes: int) -> Rows:
    """Other numbers, NaN and infinity among them, other masks and other answers in some rows."""
    rng = np.random.default_rng(7)
    x = rng.normal(0, 50, rows.x.shape).astype(np.float32)
    x[:, 0], x[::2, 1] = np.nan, np.inf
    y = rng.integers(0, classes, N) if classes else rng.normal(0, 50, N)
    return Rows(
        np.where(empty[:, None], x, rows.x),
        np.where(empty[:, None], rng.random(x.shape) > 0.5, rows.observed),
        np.where(empty, y, rows.y).astype(rows.y.dtype),
        rows.weight,
    )


def rows_of_no_weight_change_nothing(trial: Trial) -> None:
    rows = trial.rows
    noisy = noise_in(rows, rows.weight == 0, trial.estimator.classes)
    np.testing.assert_array_equal(trial.told(noisy), trial.told(rows))


def rows_of_no_weight_might_be_absent(trial: Trial) -> None:
    rows = trial.rows
    np.testing.assert_allclose(trial.told(rows.take(rows.weight > 0)), trial.told(rows), rtol=2e-3, atol=2e-4)


def learns_from_rows_that_weigh(trial: Trial) -> None:
    rows = trial.rows
    noisy = noise_in(rows, np.zeros(N, bool), trial.estimator.classes)
    other = replace(noisy, y=rows.y[::-1].copy())
    assert not np.allclose(trial.told(other), trial.told(rows))
    heavier = replace(rows, weight=rows.weight[::-1].copy())
    assert not np.allclose(trial.told(heavier), trial.told(rows))


def deaf_to_what_is_masked(trial: Trial) -> None:
    def loud(rows: Rows) -> Rows:
        return replace(rows, x=np.where(rows.observed, rows.x, np.float32(np.nan)))

    rows, asked = trial.rows, table(trial.estimator.classes, seed=1)
    np.testing.assert_array_equal(trial.told(loud(rows), loud(asked)), trial.told(rows, asked))


def the_same_compiled(trial: Trial) -> None:
    rows, asked = trial.rows, table(trial.estimator.classes, seed=1)
    params = trial.estimator.fit(**vars(rows), key=KEY)
    eager = trial.estimator.predict(params, asked.x, asked.observed)
    np.testing.assert_allclose(trial.told(rows), eager, rtol=2e-3, atol=2e-4)


def a_lane_is_a_fit(trial: Trial, settings: dict[str, tuple[float, float]]) -> None:
    """Each of fit_many's fits is the fit with its own weights, key and settings."""
    rows, asked, one = trial.rows, table(trial.estimator.classes, seed=1), trial.estimator
    weights = np.stack([rows.weight, np.roll(rows.weight, 1), rows.weight])
    keys = jax.random.split(KEY, 3)
    lanes = {name: jnp.array([a, a, b], jnp.float32) for name, (a, b) in settings.items()}
    many = one.fit_many(rows.x, rows.observed, rows.y, weights, keys=keys, settings=lanes)
    fit = jax.jit(lambda own, weight, key: one.given(own).fit(rows.x, rows.observed, rows.y, weight, key=key))
    predict = jax.jit(lambda own, params: one.given(own).predict(params, asked.x, asked.observed))
    answers = []
    for lane in range(3):
        own, params = jax.tree.map(lambda leaf, lane=lane: leaf[lane], (lanes, many))
        told = [np.asarray(predict(own, p)) for p in (params, fit(own, weights[lane], keys[lane]))]
        np.testing.assert_allclose(*told, rtol=2e-3, atol=2e-4)
        answers.append(told[0])
    assert not np.allclose(answers[0], answers[1])
    assert not settings or not np.allclose(answers[0], answers[2])


def a_grid_answers_as_its_fits_do(trial: Trial, settings: dict[str, tuple[float, float]]) -> None:
    """The predictions of a grid for the rows it was fitted to are those of each setting's fit."""
    rows, one = trial.rows, trial.estimator
    grid = {name: jnp.array(pair, jnp.float32) for name, pair in settings.items()}
    answer = jax.jit(lambda grid: one.answer_grid(**vars(rows), key=KEY, settings=grid))(grid)
    fit = jax.jit(lambda own: one.given(own).fit(**vars(rows), key=KEY))
    predict = jax.jit(lambda own, params: one.given(own).predict(params, rows.x, rows.observed))
    for place, found in enumerate(answer):
        own = {name: values[place] for name, values in grid.items()}
        np.testing.assert_allclose(found, predict(own, fit(own)), rtol=2e-3, atol=2e-4)
    assert len(answer) == (2 if settings else 1)
    assert not settings or not np.allclose(*answer)


def the_order_of_rows_does_not_matter(trial: Trial) -> None:
    rows, order = trial.rows, np.random.default_rng(3).permutation(N)
    np.testing.assert_allclose(trial.told(rows.take(order)), trial.told(rows), rtol=2e-3, atol=2e-4)


def traced_from_shapes_alone(trial: Trial) -> None:
    """What is compiled does not hang on the data."""
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), vars(trial.rows))
    try:
        params = jax.eval_shape(trial.fit, **shapes)
        jax.eval_shape(trial.predict, params, shapes["x"], shapes["observed"])
    except jax.errors.ConcretizationTypeError as error:
        raise AssertionError(str(error)) from error


def single_precision(trial: Trial) -> None:
    params = trial.fit(**vars(trial.rows))
    told = trial.predict(params, trial.rows.x, trial.rows.observed)
    assert {leaf.dtype for leaf in jax.tree.leaves((params, told)) if jax.numpy.issubdtype(leaf.dtype, np.inexact)} == {
        np.dtype(np.float32)
    }


def double_precision_is_no_accident(trial: Trial) -> None:
    """With x64 on, float64 data are taken."""
    rows = trial.rows
    rows = replace(rows, x=rows.x.astype(float), weight=rows.weight.astype(float))
    with jax.enable_x64(True):
        assert np.isfinite(trial.predict(trial.fit(**vars(rows)), rows.x, rows.observed)).all()


def twice_the_weight_is_the_same(trial: Trial) -> None:
    rows = trial.rows
    np.testing.assert_allclose(
        trial.told(replace(rows, weight=2 * rows.weight)), trial.told(rows), rtol=2e-3, atol=2e-4
    )


def forecasts_are_forecasts(trial: Trial) -> None:
    """Probabilities sum to one; what is told is finite, also where training saw one level, or a constant feature."""
    rows = trial.rows
    for some in (rows, replace(rows, y=np.zeros_like(rows.y)), replace(rows, x=np.ones_like(rows.x))):
        told = trial.told(some)
        assert told.shape[0] == N
        assert np.isfinite(told).all()
        if trial.estimator.classes:
            assert told.shape[1] == trial.estimator.classes
            assert (told >= 0).all()
            np.testing.assert_allclose(told.sum(1), 1, rtol=1e-4)


LAWS = (
    rows_of_no_weight_change_nothing,
    rows_of_no_weight_might_be_absent,
    learns_from_rows_that_weigh,
    deaf_to_what_is_masked,
    the_same_compiled,
    the_order_of_rows_does_not_matter,
    traced_from_shapes_alone,
    single_precision,
    double_precision_is_no_accident,
    twice_the_weight_is_the_same,
    forecasts_are_forecasts,
)
CLAIMED: dict[Callable[[Trial], None], Callable[[Trial], bool]] = {  # by whom; the other laws by everybody
    rows_of_no_weight_might_be_absent: lambda trial: not trial.random,
    the_order_of_rows_does_not_matter: lambda trial: not trial.random,
    twice_the_weight_is_the_same: lambda trial: trial.unpenalised,
}


def held_to(trial: Trial) -> list[Callable[[Trial], None]]:
    """The laws that an estimator claims."""
    return [law for law in LAWS if law not in CLAIMED or CLAIMED[law](trial)]
