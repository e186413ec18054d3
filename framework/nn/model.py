"""The deep forecaster's network: scans and variables to tokens, a head over time, an output a target."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, assert_never

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from framework.errors import UserError
from framework.history import asked_at_origin, at_origin, last_observed
from framework.nn.dropout import dropout
from framework.nn.encoders.base import Encoder
from framework.nn.encoders.multimodal import Concatenate, Fusion
from framework.nn.encoders.tabular import Tabular
from framework.nn.heads.base import Head, years_ahead
from framework.nn.layers import Dense, Statistic
from framework.nn.outputs import ClassOutput, HazardOutput, OrdinalOutput, QuantileOutput
from framework.types import (
    Answer,
    Arr,
    Categorical,
    Event,
    Layout,
    Measured,
    Number,
    Query,
    Scans,
    Sequence,
    Target,
    Targets,
    Visits,
)

Raw = Mapping[str, tuple[Array, ...]]  # target -> output in its own units, base, scale; of an event: hazards, years
Output = ClassOutput | OrdinalOutput | QuantileOutput | HazardOutput


@dataclass(frozen=True)
class NetworkSpec:
    """Settings of a network, each of them a key of conf/model/deep.yaml; encoder, fusion and head are partials.

    `encoder` makes one image encoder for each modality (None: clinical variables alone), `fusion` combines a visit's
    embeddings (None: side by side), `head` is the sequence head, `width` that of the output layer; `ordinal` gives
    targets whose levels are ordered cumulative logits. The network counts time in `time_unit_years`: gaps far from 1
    are hard to learn from. Entries of tokens are dropped at `token_dropout` times the rate of dropout; on long series
    of noisy measurements each of them counts.
    """

    encoder: Callable[..., Encoder] | None
    fusion: Callable[..., Fusion] | None
    head: Callable[..., Head]
    width: int
    ordinal: bool
    time_unit_years: float
    token_dropout: float

    def __post_init__(self):
        if self.time_unit_years <= 0:
            raise UserError(
                f"model.time_unit_years is {self.time_unit_years}; expected years above 0, about the gap between visits"
            )
        if not 0 <= self.token_dropout <= 1:
            raise UserError(f"model.token_dropout is {self.token_dropout}; expected a share of the rate from 0 to 1")


class Model(nnx.Module):
    """Encoder, head and outputs of a `NetworkSpec`, composed for one layout.

    Beside the head's answer the outputs see the last observed token: on short
    series it carries most of what can be known. A value whose own history is an input is forecast as a change from
    its last observation.
    What is asked before its origin is answered as of the origin. An output whose target training never shows stays as
    it starts: levels equally likely, quantiles of a normal around the last observation, else the mean, an event at the
    training subjects' rate. An event is forecast from what is known at its origin, as one curve of
    survival: what is known ahead by itself (age) is taken back to there, what is planned stays as it was given.
    """

    def __init__(self, layout: Layout, spec: NetworkSpec, *, rngs: nnx.Rngs):
        self.layout, self.time_unit_years, self.token_dropout = layout, spec.time_unit_years, spec.token_dropout
        self.tabular, self.static = Tabular(layout.inputs), Tabular(layout.static)
        self.known = Tabular(tuple(replace(column, index=i) for i, column in enumerate(layout.known)))
        self.encoders = nnx.Dict(encoders(spec.encoder, layout, rngs) if spec.encoder is not None else {})
        d_in = self.tabular.out_features + self.static.out_features
        if self.encoders:
            sizes = [self.encoders[name].out_features for name in sorted(self.encoders)]
            self.fusion = (Concatenate if spec.fusion is None else spec.fusion)(sizes=sizes, rngs=rngs)
            d_in += self.fusion.out_features
        self.head = spec.head(d_in=d_in, rngs=rngs)
        self.planned = tuple(not column.classes for column in layout.known for _ in range(max(1, column.classes)))
        summary = self.head.out_features + 3 * d_in + self.known.out_features + sum(self.planned) + 2
        self.hidden = Dense(summary, spec.width, rngs=rngs)
        self.outputs = nnx.Dict({t.name: _output(t, spec.ordinal, spec.width + d_in, rngs) for t in layout.targets})
        count = len(layout.targets)
        # of an event its rate
        self.target_mean = Statistic(jnp.array([0.1 if isinstance(t, Event) else 0.0 for t in layout.targets]))
        self.target_scale = Statistic(jnp.ones(count))  # spread among subjects
        self.change_scale = Statistic(jnp.ones(count))  # spread of the change since the last observation

    def __call__(
        self, visits: Visits, query: Query, key: Key[Array, ""] | None = None, rate: Float[Arr, ""] | float = 0.0
    ) -> Raw:
        """Raw outputs at each query; a key turns dropout on at `rate`."""
        inner, outer, recurrent = (None,) * 3 if key is None else (*jax.random.split(key), jax.random.fold_in(key, 2))
        sequence = self.tokens(visits)
        sequence = replace(sequence, x=dropout(jnp.asarray(sequence.x), self.token_dropout * rate, inner))
        asked = self._asked(sequence, query)
        hidden = self._hidden(sequence, asked, (outer, recurrent), rate)
        ahead, count = years_ahead(sequence, query), query.time.shape[1]
        return {
            target.name: (self.outputs[target.name](hidden[:, -count:], self.target_mean[...][place]), ahead)
            if isinstance(target, Event)
            else (
                self.outputs[target.name](hidden[:, :count], ahead / self.time_unit_years),
                *self._base(place, target, visits, query),
            )
            for place, target in enumerate(self.layout.targets)
        }

    def _asked(self, sequence: Sequence, query: Query) -> Query:
        """The query, and after it the same at its origins, as far as there are targets to ask so."""
        if not self.layout.events:
            return query
        start = asked_at_origin(query, sequence.times, self.layout.known)
        if not self.layout.measured:
            return start
        both = (replace(part, row=None) for part in (query, start))
        return replace(jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *both), row=query.row)

    def _hidden(
        self, sequence: Sequence, query: Query, keys: tuple[Array | None, Array | None], rate: Float[Arr, ""] | float
    ) -> Float[Array, "b q e"]:
        """Inputs of the outputs at each query."""
        outer, recurrent = keys
        sequence = replace(sequence, times=jnp.asarray(sequence.times) / self.time_unit_years)
        query = replace(query, time=jnp.asarray(query.time) / self.time_unit_years)
        ahead = years_ahead(sequence, query)
        last, has, since = last_observed(sequence.x, sequence.observed, sequence.times)
        age = jnp.where(has, sequence.times[..., None] - since, 0)
        at = [at_origin(part, query) for part in (last, has.astype(last.dtype), jnp.log1p(age))]
        known, there = self.known(query.known, query.future_observed & query.valid[..., None])
        there = there[..., np.array(self.planned, bool)].astype(known.dtype)  # a level that is missing has no flag set
        timing = jnp.stack([ahead, jnp.log1p(ahead)], axis=-1)
        summary = jnp.concatenate([self.head(sequence, query, recurrent, rate), *at, known, there, timing], axis=-1)
        hidden = dropout(jax.nn.gelu(self.hidden(summary)), rate, outer)
        return jnp.concatenate([hidden, at[0]], axis=-1)  # what was last seen also has a straight way out

    def tokens(self, visits: Visits) -> Sequence:
        """One token a visit: its variables, the static ones, an embedding of each of its scans."""
        x, observed = self.tabular(visits.values, visits.observed)
        static = jax.tree.map(
            lambda part: jnp.broadcast_to(part[:, None], (*x.shape[:2], part.shape[-1])),
            self.static(visits.static, visits.static_observed),
        )
        parts, masks = [x, static[0]], [observed, static[1]]
        if self.encoders:
            grids = dict(zip(self.layout.modalities, self.layout.grids, strict=True))
            each = [
                _place(self.encoders[name], name, visits.scans[name], grids[name], visits.valid.shape)
                for name in sorted(self.encoders)  # the order that taking the network apart keeps
            ]
            embedded, present = zip(*each, strict=True)
            fused, mask = self.fusion(embedded, jnp.stack(present, axis=-1))
            parts.append(fused)
            masks.append(mask)
        valid = jnp.asarray(visits.valid)
        mask = jnp.concatenate(masks, axis=-1) & valid[..., None]
        return Sequence(jnp.where(mask, jnp.concatenate(parts, -1), 0), mask, jnp.where(valid, visits.times, 0), valid)

    def loss(
        self, raw: Raw, truth: Targets, weight: Float[Arr, " b"], target_weights: Float[Arr, " k"]
    ) -> tuple[Array, Array]:
        """Summed loss and count of each target over its observed queries, weighted by subject: two arrays (k,)."""
        sums, counts = [], []
        for place, target in enumerate(self.layout.targets):
            outcome: Any = truth[target.name]  # of the kind that the output has
            share = jnp.where(outcome.observed, weight[:, None], 0)
            loss = self.outputs[target.name].loss(raw[target.name][0], outcome, *raw[target.name][1:])
            sums.append(target_weights[place] * jnp.where(share > 0, share * loss, 0).sum())
            counts.append(share.sum())
        return jnp.stack(sums), jnp.stack(counts)

    def forecast(self, raw: Raw) -> dict[str, Answer]:
        """Raw outputs as probabilities, as quantiles in original units, as survival."""
        return {name: self.outputs[name].forecast(*parts) for name, parts in raw.items()}

    def _base(self, place: int, target: Measured, visits: Visits, query: Query) -> tuple[Array, Array]:
        """Where the quantiles of a target are centred and their unit: its last observation, else its mean."""
        mean, spread, change = (s[...][place] for s in (self.target_mean, self.target_scale, self.change_scale))
        if not target.seen:
            shape = query.time.shape
            return jnp.broadcast_to(mean, shape), jnp.broadcast_to(spread, shape)
        column = slice(target.index, target.index + 1)
        observed = visits.observed[..., column] & visits.valid[..., None]
        value, has, _ = last_observed(visits.values[..., column], observed, visits.times)
        has = at_origin(has, query)[..., 0]
        return jnp.where(has, at_origin(value, query)[..., 0], mean), jnp.where(has, change, spread)


def _output(target: Target, ordinal: bool, width: int, rngs: nnx.Rngs) -> Output:
    match target:
        case Number():
            return QuantileOutput(width, rngs=rngs)
        case Categorical():
            kind = OrdinalOutput if ordinal and target.ordered else ClassOutput
            return kind(len(target.levels), width, rngs=rngs)
        case Event():
            return HazardOutput(target.horizons, width, rngs=rngs)
        case _:
            assert_never(target)


def encoders(encoder: Any, layout: Layout, rngs: nnx.Rngs) -> dict[str, Encoder]:
    """An encoder for each modality. Raises UserError, naming the modality, where one cannot take its grid."""
    made = {}
    for name, grid in zip(layout.modalities, layout.grids, strict=True):
        try:
            made[name] = encoder(grid=encoded(grid), rngs=rngs)
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
    return made


def encoded(grid: tuple[int, ...]) -> tuple[int, ...]:
    """The grid that an encoder sees: a modality one slice thick, whichever way it is cut, is flat."""
    space = tuple(size for size in grid[:-1] if size > 1)
    return (*space, grid[-1]) if len(space) == 2 else tuple(grid)


def _place(
    encoder: Encoder, name: str, scans: Scans, grid: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[Float[Array, "b t d"], Bool[Array, "b t"]]:
    """Embeddings of packed scans at their (row, visit), and where there is one."""
    if scans.voxels.shape[1:] != grid:
        raise UserError(
            f"{name} scans have the grid (x, y, z, channels) {scans.voxels.shape[1:]}, and the network was made for "
            f"{grid}; bring the cohort in on that grid"
        )
    valid = jnp.asarray(scans.valid)
    voxels = jnp.where(valid[:, None, None, None, None], scans.voxels, 0).reshape(-1, *encoded(grid))
    embedded = jnp.where(valid[:, None], encoder(voxels), 0)
    mask = jnp.zeros(shape, bool).at[scans.row, scans.visit].max(valid)
    return jnp.zeros((*shape, embedded.shape[-1])).at[scans.row, scans.visit].add(embedded), mask
