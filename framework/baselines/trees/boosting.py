"""Gradient boosting of trees (Friedman 2001) by Newton steps, on binned columns."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int32, Key

from framework.baselines.base import Estimator
from framework.baselines.native import boosting as native
from framework.baselines.trees import binning, leafwise, losses
from framework.baselines.trees.arrays import Trees, predict_sum
from framework.errors import UserError
from framework.types import Arr, pytree

LOSSES = ("squared", "absolute", "quantile", "logistic", "softmax")


@pytree
class BoostingParams:
    """Trees, `k` a round, those after round `kept` empty; the mean losses by round are NaN where there was none."""

    init_score: Float[Arr, "*m k"]
    trees: Trees
    kept: Int32[Arr, "*m"]
    train_loss: Float[Arr, "*m r"]
    validation_loss: Float[Arr, "*m r"]


@dataclass(frozen=True)
class Boosting(Estimator):
    """Each round a tree (one for each level or quantile), grown best leaf first, on the gradients of the loss.

    `loss`: squared, absolute or quantile for a number, logistic for two levels, softmax for any; None is what is usual.
    A side of a split has second derivatives of `min_child_weight` or more, and as many as `min_samples_leaf` of the
    node's rows of positive weight have on average, which is to have so many rows where all weigh alike and the loss is
    of a number; `l2` is added to them in the Newton steps. By default (None) these are 20 rows, but 10 for logistic,
    and 1, but 0.3 for softmax, whose derivatives are small. `features` and `rows` are the shares of them drawn for each
    tree. With a `validation` share of the rows held out, rounds end once their loss has not fallen for
    `patience` of them, and those up to the best are kept.
    Missing values go to the side that is better for the node; categories (`categories` of each feature, 0 for a number)
    split into two sets.
    """

    classes: int = 0
    loss: str | None = None
    levels: tuple[float, ...] = ()
    rounds: int = 100
    learning_rate: float | Float[Arr, ""] = 0.1
    max_leaves: int = 31
    max_depth: int | None = None
    min_samples_leaf: int | None = None
    min_child_weight: float = 1e-3
    l2: float | Float[Arr, ""] | None = None
    bins: int = 255
    features: float = 1.0
    rows: float = 1.0
    validation: float = 0.0
    patience: int = 10
    categories: tuple[int, ...] = ()
    DYNAMIC: ClassVar[tuple[str, ...]] = ("learning_rate", "l2")
    FINITE: ClassVar[bool] = False

    def __post_init__(self):
        rows = self.min_samples_leaf
        if rows is None:
            rows = 10 if self._loss == "logistic" else 20
            object.__setattr__(self, "min_samples_leaf", rows)
        if self.l2 is None:
            object.__setattr__(self, "l2", 0.3 if self._loss == "softmax" else 1.0)
        usual = ("squared", "absolute", "quantile") if self.classes == 0 else ("softmax", "logistic")
        fit = usual if self.classes in (0, 2) else usual[:1]
        if self._loss not in fit:
            raise UserError(f"loss={self.loss} of {self.classes} levels; it can be {', '.join(fit)}; choose one")
        if (self._loss == "quantile") != bool(self.levels) or not all(0 < level < 1 for level in self.levels):
            raise UserError(
                f"levels={self.levels}, loss={self._loss}; quantile alone takes levels, each between 0 and 1"
            )
        if not 2 <= self.bins <= 255:
            raise UserError(f"bins={self.bins}; a code is a byte and 255 means missing; give 2 to 255")
        if min(self.rounds, self.max_leaves - 1, rows, self.patience) < 1:
            asked = f"{self.rounds=}, {self.max_leaves=}, {self.min_samples_leaf=}, {self.patience=}".replace(
                "self.", ""
            )
            raise UserError(f"{asked}; there is no boosting without; give 2 leaves, 1 of the others, or more")
        if not (0 < self.features <= 1 and 0 < self.rows <= 1 and 0 <= self.validation < 1):
            asked = f"features={self.features}, rows={self.rows}, validation={self.validation}"
            raise UserError(f"{asked}; they are shares; give 0 to 1, the first two above 0, the last below 1")

    @property
    def _loss(self) -> str:
        return self.loss or {0: "squared", 2: "logistic"}.get(self.classes, "softmax")

    def fit(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        *,
        key: Key[Array, ""],
    ) -> BoostingParams:
        settings = {name: jnp.asarray(getattr(self, name), jnp.float32) for name in self.DYNAMIC}
        return _fitted(self._recipe(), settings, x, observed, y, weight, key)

    def predict(self, params: BoostingParams, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n p"]:
        return _answered(self._recipe(), params, x, observed)

    def fit_many(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weights: Float[Arr, "m n"],
        *,
        keys: Key[Array, " m"],
        settings: Mapping[str, Float[Arr, " m"]] | None = None,
    ) -> BoostingParams:
        """One after another, each with all threads."""

        def one(lane: tuple[Arr, Array, Mapping[str, Arr]]) -> BoostingParams:
            weight, key, own = lane
            return self.given(own).fit(x, observed, y, weight, key=key)

        return jax.lax.map(one, (jnp.asarray(weights), keys, dict(settings or {})))

    def fit_grid(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        *,
        key: Key[Array, ""],
        settings: Mapping[str, Float[Arr, " m"]],
    ) -> BoostingParams:
        """One after another, each with all threads."""
        if not settings:
            return super().fit_grid(x, observed, y, weight, key=key, settings=settings)
        return jax.lax.map(lambda own: self.given(own).fit(x, observed, y, weight, key=key), dict(settings))

    def _recipe(self) -> "Boosting":
        """Return the settings that shape the program, the traced ones at 0."""
        return self.given(dict.fromkeys(self.DYNAMIC, 0.0))

    def criterion(self) -> losses.Loss:
        """The loss by its name."""
        made = {
            "squared": losses.squared,
            "absolute": losses.absolute,
            "quantile": partial(losses.pinball, tuple(sorted(self.levels))),
            "logistic": losses.logistic,
            "softmax": partial(losses.softmax, self.classes),
        }
        return made[self._loss]()


class _State(NamedTuple):
    round: Array
    raw: Array
    trees: Trees
    train: Array
    validation: Array
    best: Array  # the number of rounds after which the validation loss was least


@partial(jax.jit, static_argnums=0)
def _answered(recipe: Boosting, params: BoostingParams, x: Arr, observed: Arr) -> Array:
    known = binning.within(x, observed, recipe.categories)
    return recipe.criterion().predict(params.init_score + predict_sum(params.trees, x, known))


@partial(jax.jit, static_argnums=0)
def _fitted(recipe: Boosting, settings: dict[str, Array], x, observed, y, weight, key) -> BoostingParams:
    loss, rounds = recipe.criterion(), recipe.rounds
    weight = jnp.asarray(weight, jnp.float32)
    y = jnp.where(weight > 0, jnp.asarray(y, jnp.float32), 0)
    held_key, key = jax.random.split(key)
    held = _held_out(held_key, weight, recipe.validation)
    own = jnp.where(held, 0, weight)
    edges = binning.edges(x, observed, own, recipe.bins)
    codes = leafwise.blocks(binning.codes(x, observed, edges, recipe.categories), recipe.bins)
    init_score = loss.init_score(y, own)
    k, nodes = len(init_score), 2 * recipe.max_leaves - 1

    def step(state: _State) -> _State:
        keys = jax.random.split(jax.random.fold_in(key, state.round))
        drawn = own * (_uniform(keys[0], own) < recipe.rows) if recipe.rows < 1 else own
        tried = _tried(keys[1], x.shape[1], recipe.features)
        g, h = loss.gradients(state.raw, y)

        def one(parts: tuple[Array, ...]) -> tuple[Trees, Array]:
            return _tree(recipe, settings, codes, edges, tried, y, drawn, *parts)

        grown, steps = jax.lax.map(one, (g.T, h.T, state.raw.T, jnp.arange(k)))
        raw = state.raw + steps.T
        trees = jax.tree.map(
            lambda all_, part: jax.lax.dynamic_update_slice_in_dim(all_, part, state.round * k, 0), state.trees, grown
        )
        values = loss.value(raw, y)
        train = state.train.at[state.round].set((values * own).sum() / own.sum())
        out = weight - own
        error = (values * out).sum() / out.sum()
        validation = state.validation.at[state.round].set(error)
        least = jnp.where(state.best > 0, state.validation[state.best - 1], jnp.inf)
        best = jnp.where(error < least, state.round + 1, state.best)
        return _State(state.round + 1, raw, trees, train, validation, best)

    def goes_on(state: _State) -> Array:
        more = state.round < rounds
        return more & (state.round - state.best < recipe.patience) if recipe.validation else more

    none = jnp.full(rounds, jnp.nan, jnp.float32)
    raw = jnp.broadcast_to(init_score, (len(y), k))
    blank = _blank(rounds * k, nodes, k, any(recipe.categories))
    end = jax.lax.while_loop(goes_on, step, _State(jnp.int32(0), raw, blank, none, none, jnp.int32(0)))
    kept = end.best if recipe.validation else end.round
    return BoostingParams(init_score, _first(end.trees, kept * k), kept, end.train, end.validation)


def _tree(recipe, settings, codes, edges, tried, y, weight, g, h, raw, k) -> tuple[Trees, Array]:
    """A tree on the gradients, and what it adds to each row's score."""
    loss = recipe.criterion()
    units_g, scale_g = losses.whole(weight * g)
    units_h, scale_h = losses.whole(weight * h)
    rules = jnp.stack([settings["l2"] * scale_h, recipe.min_child_weight * scale_h, recipe.min_samples_leaf - 0.5])
    nodes = 2 * recipe.max_leaves - 1
    depth = min(nodes, nodes if recipe.max_depth is None else recipe.max_depth)
    how = {"bins": recipe.bins, "nodes": nodes, "depth": depth, "categories": recipe.categories}
    xla = jax.custom_batching.sequential_vmap(partial(leafwise.grow, **how))
    cpu = partial(native.grow, **how) if native.available() else xla
    grown = jax.lax.platform_dependent(codes, units_g, units_h, tried, rules, cpu=cpu, default=xla)
    feature, bin, missing_left, left, sets, sum_g, sum_h, leaf = grown
    if loss.levels:
        at = jnp.asarray(loss.levels, jnp.float32)[k]
        value = losses.quantiles(y - raw, weight, leaf, nodes, at)
    else:
        below = sum_h / scale_h + settings["l2"]
        value = jnp.where(below > 0, -(sum_g / scale_g) / jnp.where(below > 0, below, 1), 0)
    value = jnp.where(feature < 0, settings["learning_rate"] * value, 0)
    cut = jnp.pad(edges, ((0, 0), (0, 1)), constant_values=jnp.inf)[feature, bin]
    if any(recipe.categories):
        cut = jnp.where((jnp.array(recipe.categories) > 0)[feature], jnp.nan, cut)
    threshold = jnp.where(feature < 0, 0, cut).astype(jnp.float32)
    column = jnp.arange(len(loss.levels) or _outputs(recipe)) == k
    return Trees(feature, threshold, missing_left, left, value[:, None] * column, sets), value[leaf]


def _outputs(recipe: Boosting) -> int:
    return recipe.classes if recipe._loss == "softmax" else 1


def _blank(m: int, nodes: int, k: int, sets: bool) -> Trees:
    whole = jnp.zeros((m, nodes), jnp.int32)
    return Trees(
        feature=whole - 1,
        threshold=jnp.zeros((m, nodes), jnp.float32),
        missing_left=jnp.zeros((m, nodes), bool),
        left=whole,
        value=jnp.zeros((m, nodes, k), jnp.float32),
        categories=jnp.zeros((m, nodes, 8 * sets), jnp.uint32),
    )


def _first(trees: Trees, count: Array) -> Trees:
    """The first trees, the others emptied."""
    m, nodes, k = trees.value.shape
    blank = _blank(m, nodes, k, trees.categories.shape[-1] > 0)

    def kept(part: Array, empty: Array) -> Array:
        return jnp.where((jnp.arange(len(part)) < count).reshape(-1, *(1,) * (part.ndim - 1)), part, empty)

    return jax.tree.map(kept, trees, blank)


def _uniform(key: Array, weight: Array) -> Array:
    """A draw for each row of positive weight, whatever rows of none lie between them."""
    rank = jnp.cumsum(weight > 0) - 1
    return jax.random.uniform(key, weight.shape)[jnp.maximum(rank, 0)]


def _held_out(key: Array, weight: Array, share: float) -> Array:
    """As near as can be this share of the rows of positive weight, at least one and not all."""
    if not share:
        return jnp.zeros(len(weight), bool)
    draw = jnp.where(weight > 0, _uniform(key, weight), 2)
    count = (weight > 0).sum()
    most = jnp.clip(jnp.round(share * count), 1, jnp.maximum(count - 1, 1)).astype(jnp.int32)
    return (draw <= jnp.sort(draw)[most - 1]) & (weight > 0)


def _tried(key: Array, f: int, share: float) -> Array:
    """Which features are drawn."""
    count = max(1, round(share * f))
    return jnp.zeros(f, bool).at[jax.random.permutation(key, f)[:count]].set(True) if count < f else jnp.ones(f, bool)
