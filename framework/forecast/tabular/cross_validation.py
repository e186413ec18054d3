"""Judging forecasters by training subjects that they did not learn from."""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from framework.data.queries.examples import Examples
from framework.data.splits.split import dealt
from framework.errors import UserError
from framework.forecast.base import Fitted
from framework.forecast.calibration.horizon import HeldOut
from framework.forecast.ensembles.ensemble import random_of
from framework.forecast.predict import answers
from framework.scores import log_loss, pinball
from framework.types import LEVELS, Categorical, Measured, Truth

Left = Bool[np.ndarray, " n"]
Loss = Callable[[Float[Array, "k"]], Float[Array, ""]]


def turns(among: Bool[np.ndarray, " n"], folds: int, key: Key[Array, ""]) -> list[Left]:
    """Subjects left out in each fold; each is left out once. Raises UserError where there is only one."""
    rows = np.flatnonzero(among)
    if len(rows) < 2:
        raise UserError(f"{len(rows)} training subjects; 2 or more are needed, to judge by some left out")
    of = np.full(len(among), -1)
    of[rows] = dealt(random_of(key).permutation(len(rows)), min(folds, len(rows)))
    return [of == turn for turn in range(of.max() + 1)]


def half_of(among: Left, key: Key[Array, ""]) -> Left:
    """Half of these subjects, drawn by the key; of an odd number the smaller half."""
    rows = np.flatnonzero(among)
    drawn = random_of(jax.random.fold_in(key, 2)).permutation(rows)[: len(rows) // 2]
    return np.isin(np.arange(len(among)), drawn)


def held_out_answers(fitted: Fitted, examples: Examples, out: Left) -> dict[str, HeldOut]:
    """Forecasts of numbers for subjects left out, beside their observed outcomes."""
    rows, queries = np.flatnonzero(out), examples.eval_queries
    predicted = answers(fitted, examples, rows, queries) if len(rows) else {}
    horizon = np.asarray(queries.query.time) - np.take_along_axis(
        examples.cohort.times, np.asarray(queries.query.origin), 1
    )
    found = {}
    for target in fitted.layout.numbers:
        truth = queries.truth[target.name]
        assert isinstance(truth, Truth)
        i, q = np.nonzero(np.asarray(truth.observed)[rows])
        found[target.name] = HeldOut(
            quantiles=predicted[target.name][i, q, : len(LEVELS)] if len(rows) else np.empty((0, len(LEVELS))),
            truth=np.asarray(truth.value, np.float64)[rows][i, q],
            subject=rows[i],
            horizon=horizon[rows][i, q],
        )
    return found


def losses(
    examples: Examples, targets: Sequence[Measured], outs: Sequence[Left], members: Sequence[Sequence[Fitted]]
) -> dict[str, Loss]:
    """For each target the loss (log loss, pinball) of a weighted mean of k members on the subjects left out.

    `members` are k rows of what each fitted in every turn. Raises UserError where a target is known for no subject.
    """
    predicted: dict[str, list[np.ndarray]] = {t.name: [] for t in targets}
    came: dict[str, list[np.ndarray]] = {t.name: [] for t in targets}
    for turn, out in enumerate(outs):
        rows = np.flatnonzero(out)
        said = [answers(each[turn], examples, rows, examples.eval_queries) for each in members]
        for target in targets:
            truth = examples.eval_queries.truth[target.name]
            assert isinstance(truth, Truth)  # classes and numbers; events are not judged so
            asked = np.asarray(truth.observed)[rows]
            kept = slice(
                None if isinstance(target, Categorical) else len(LEVELS)
            )  # of a number the quantiles, not the point forecast
            predicted[target.name].append(np.stack([one[target.name][asked][..., kept] for one in said]))
            came[target.name].append(np.asarray(truth.value)[rows][asked])
    return {t.name: _loss(t, np.concatenate(predicted[t.name], 1), np.concatenate(came[t.name])) for t in targets}


def _loss(target: Measured, predicted: Float[np.ndarray, "k n p"], came: Float[np.ndarray, " n"]) -> Loss:
    if not len(came):
        raise UserError(f"{target.name} is known of no training subject; some are needed to judge by")
    loss = _log_loss if isinstance(target, Categorical) else _pinball
    return partial(loss, jnp.asarray(predicted), jnp.asarray(came))


def _log_loss(probs: Float[Array, "k n c"], came: Float[Array, " n"], weights: Float[Array, " k"]) -> Float[Array, ""]:
    return log_loss(jnp.tensordot(weights, probs, 1), came).mean()


def _pinball(levels: Float[Array, "k n l"], came: Float[Array, " n"], weights: Float[Array, " k"]) -> Float[Array, ""]:
    return pinball(jnp.tensordot(weights, levels, 1), came).mean()
