"""Random forests and extremely randomised trees (Breiman 2001; Geurts, Ernst & Wehenkel 2006), on binned columns."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from framework.baselines.base import Estimator
from framework.baselines.native import forest as native
from framework.baselines.trees import binning, counter_rng, grow_breadth_first
from framework.baselines.trees.arrays import Trees, predict_mean, predict_sum
from framework.baselines.trees.arrays import compact as compact_trees
from framework.baselines.trees.splitting import Shape
from framework.errors import UserError
from framework.types import Arr, pytree

AT_ONCE = 1 << 28  # bytes of nodes that a forest has in memory while it only predicts


@pytree
class ForestParams:
    """A forest; `seeds` know which rows each tree drew, `gain` how much each feature lessened its impurity."""

    trees: Trees
    seeds: UInt32[Arr, "*m"]
    gain: Float[Arr, "*m f"]


class _Table(NamedTuple):
    """Training data of all trees of a forest; the target less its `mean`."""

    codes: Array
    edges: Array
    spans: Array
    target: Array
    weight: Array
    mean: Array


@dataclass(frozen=True)
class Forest(Estimator):
    """Trees on rows drawn with replacement, each node split on the best of some features drawn at random.

    `extra` draws the thresholds too, evenly between the extremes of the bins that a node's rows are in, and by default
    uses all rows. A share of the features (float), a number of them (int) or "sqrt" is tried at a node; None is "sqrt"
    for levels, all for a number.
    Missing values go to the side that is better for the node; categories (`categories` of each feature, 0 for a number)
    split into two sets. Memory: about 20 bytes a node, after `compact`.
    """

    classes: int = 0
    trees: int = 500
    max_features: str | int | float | Float[Arr, ""] | None = None
    max_depth: int | Float[Arr, ""] | None = None
    min_samples_leaf: int | Float[Arr, ""] = 1
    min_samples_split: int | Float[Arr, ""] = 2
    bins: int = 255
    bootstrap: bool | None = None
    extra: bool = False
    categories: tuple[int, ...] = ()
    DYNAMIC: ClassVar[tuple[str, ...]] = ("max_features", "max_depth", "min_samples_leaf", "min_samples_split")
    FINITE: ClassVar[bool] = False

    def __post_init__(self):
        if not 2 <= self.bins <= 255:
            raise UserError(f"bins={self.bins}; a code is a byte and 255 means missing; give 2 to 255")
        if isinstance(self.max_features, str) and self.max_features != "sqrt":
            raise UserError(f'max_features="{self.max_features}"; the only name known is "sqrt"; or give a number')

    def fit(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        *,
        key: Key[Array, ""],
    ) -> ForestParams:
        table = self._table(x, observed, y, weight)
        return self._grown(table, self._seeds(key))

    def answer_grid(
        self,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
        *,
        key: Key[Array, ""],
        settings: Mapping[str, Float[Arr, " m"]],
    ) -> Float[Array, "m n p"]:
        """One setting after another, and of each forest no more trees at a time than `AT_ONCE` allows."""
        table, seeds, inside = (
            self._table(x, observed, y, weight),
            self._seeds(key),
            binning.within(x, observed, self.categories),
        )
        size = max(1, min(self.trees, AT_ONCE // self._bytes_of_a_tree(len(x))))
        whole = self.trees // size * size

        def one(own: Mapping[str, Arr]) -> Array:
            recipe = self.given(own)

            def more(total: Array, some: Array) -> tuple[Array, None]:
                return total + predict_sum(recipe._grown(table, some).trees, x, inside), None

            first, parts = seeds[:size], seeds[size:whole].reshape(-1, size)
            total = predict_sum(recipe._grown(table, first).trees, x, inside)
            total = jax.lax.scan(more, total, parts)[0] if len(parts) else total
            total = more(total, seeds[whole:])[0] if whole < self.trees else total
            return total / self.trees

        return jax.lax.map(one, dict(settings)) if settings else one({})[None]

    def compacted(self, params: ForestParams) -> ForestParams:
        """In arrays no longer than the largest tree needs, where that is worth a program of its own for them."""
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(params.trees))
        return compact(params) if held > AT_ONCE else params

    def predict(self, params: ForestParams, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n p"]:
        return predict_mean(params.trees, x, binning.within(x, observed, self.categories))

    def oob(
        self, params: ForestParams, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], weight: Float[Arr, " n"]
    ) -> Float[Array, "n p"]:
        """The mean over those trees that did not draw the row, for the rows fitted to; NaN where all trees drew it."""
        out = self.drawn(jnp.asarray(weight, jnp.float32), params.seeds) == 0
        total = predict_sum(params.trees, x, binning.within(x, observed, self.categories), out)
        return total / out.sum(0)[:, None].astype(total.dtype)

    def oob_score(
        self,
        params: ForestParams,
        x: Float[Arr, "n f"],
        observed: Bool[Arr, "n f"],
        y: Float[Arr, " n"] | Int[Arr, " n"],
        weight: Float[Arr, " n"],
    ) -> Float[Array, ""]:
        """Out of bag, the accuracy, or of a number the share of variance explained."""
        found = self.oob(params, x, observed, weight)
        some = (weight > 0) & ~jnp.isnan(found[:, 0])
        own = jnp.where(some, weight, 0)
        if self.classes:
            return (own * (found.argmax(1) == y)).sum() / own.sum()
        y = jnp.where(some, y, 0)
        error = (own * jnp.where(some, found[:, 0] - y, 0) ** 2).sum()
        return 1 - error / (own * (y - (own * y).sum() / own.sum()) ** 2).sum()

    def drawn(self, weight: Array, seeds: Arr) -> Array:
        """How often each tree sees each row."""
        if self.bootstrap is False or (self.bootstrap is None and self.extra):
            return jnp.broadcast_to((weight > 0).astype(jnp.uint8), (len(seeds), len(weight)))
        xla = jax.custom_batching.sequential_vmap(counter_rng.draw)
        return jax.lax.platform_dependent(weight, seeds, cpu=native.draw if native.available() else xla, default=xla)

    def _table(self, x: Arr, observed: Arr, y: Arr, weight: Arr) -> "_Table":
        weight = jnp.asarray(weight, jnp.float32)
        edges = binning.edges(x, observed, weight, self.bins)
        codes = binning.codes(x, observed, edges, self.categories)
        spans = binning.spans(x, observed, weight, codes, self.bins if self.extra else 0)
        target = jnp.where(weight > 0, jnp.asarray(y, jnp.float32), 0)
        mean = jnp.float32(0) if self.classes else (target * weight).sum() / jnp.maximum(weight.sum(), 1e-30)
        return _Table(codes, edges, spans, jnp.where(weight > 0, target - mean, 0), weight, mean)

    def _seeds(self, key: Key[Array, ""]) -> UInt32[Array, " m"]:
        return jax.random.bits(key, (self.trees,), jnp.uint32)

    def _grown(self, table: "_Table", seeds: UInt32[Array, " m"]) -> ForestParams:
        """The trees of some seeds."""
        n, f = table.codes.shape
        how = Shape(self._nodes(n), self.classes, self.extra, self.categories)._asdict()
        drawn = self.drawn(table.weight, seeds), seeds, self._rules(f)
        arrays = table.codes, table.edges, table.spans, table.target, table.weight, *drawn, table.mean
        xla = jax.custom_batching.sequential_vmap(partial(grow_breadth_first.grow, **how))
        cpu = partial(native.grow, **how) if native.available() else xla
        *parts, gain = jax.lax.platform_dependent(*arrays, cpu=cpu, default=xla)
        return ForestParams(Trees(*parts), seeds, gain)

    def _bytes_of_a_tree(self, n: int) -> int:
        """As many as any tree on n rows can take, and as its rows take."""
        return self._nodes(n) * (13 + 4 * max(self.classes, 1) + 32 * any(self.categories)) + n

    def _rules(self, f: int) -> Int[Array, "4"]:
        tried = self.max_features
        if tried is None:
            tried = "sqrt" if self.classes else 1.0
        if isinstance(tried, str):
            tried = int(f**0.5)
        elif not isinstance(tried, int):
            tried = jnp.floor(jnp.asarray(tried, jnp.float32) * f + 1e-4)
        depth = 2**30 if self.max_depth is None else self.max_depth
        rules = jnp.clip(tried, 1, f), depth, self.min_samples_split, self.min_samples_leaf
        return jnp.stack([jnp.asarray(rule).astype(jnp.int32) for rule in rules])

    def _nodes(self, n: int) -> int:
        """More nodes than any tree on n rows can have, as far as is known before they are seen."""
        leaves = n // self.min_samples_leaf if isinstance(self.min_samples_leaf, int) else n
        most = 2 * max(leaves, 1) - 1
        return min(most, 2 ** min(self.max_depth + 1, 40) - 1) if isinstance(self.max_depth, int) else most


def importances(params: ForestParams) -> Float[Array, " f"]:
    """How much each feature lessened the impurity: of each tree the shares, averaged over the trees that split."""
    total = params.gain.sum(1, keepdims=True)
    shares = jnp.where(total > 0, params.gain / jnp.where(total > 0, total, 1), 0).sum(0)
    return shares / jnp.maximum(shares.sum(), 1e-30)


def compact(params: ForestParams) -> ForestParams:
    """The same forest in arrays no longer than its largest tree needs; on the host."""
    return replace(params, trees=compact_trees(params.trees))
