"""Histories and what came of them as one table, a row a query."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from framework.data.batches.batch import Loader
from framework.data.queries.examples import Examples
from framework.forecast.deep.embeddings import Embeddings
from framework.forecast.tabular.history_features import feature_names, history_features, last_value
from framework.history import at_origin
from framework.types import Arr, Event, Interval, Layout, Truth

CHUNK = 256  # subjects whose histories are tabulated at once


@dataclass(frozen=True)
class Table:
    """Every query of every subject: features (see `history_features`), truths, and the targets' last values.

    `horizon` is how many years after the origin a query asks. Of an event there are `ends` instead, between which it
    came, in years after the origin.
    """

    x: Float[Arr, "n f"]
    observed: Bool[Arr, "n f"]
    subject: Int[np.ndarray, " n"]
    horizon: Float[np.ndarray, " n"]
    truth: Mapping[str, Float[np.ndarray, " n"]]
    known: Mapping[str, Bool[np.ndarray, " n"]]
    last: Mapping[str, tuple[np.ndarray, np.ndarray]]
    ends: Mapping[str, tuple[np.ndarray, np.ndarray]]


def size_of(examples: Examples, layout: Layout) -> tuple[int, int]:
    """Rows and features of the table."""
    return int(np.asarray(examples.train_queries.query.valid).sum()), len(feature_names(layout))


def tabulate(examples: Examples, layout: Layout, frozen: Embeddings | None = None) -> Table:
    """Training rows of a forecaster, as a table; subjects in their order."""
    shape = layout if frozen is None else frozen.layout(layout)
    loader = Loader(replace(examples, layout=shape), 0, None if frozen is None else frozen.of)
    everyone = range(len(examples.subjects))
    size = loader.size(min(CHUNK, len(everyone)), everyone)
    rows, features = size_of(examples, shape)
    x, observed = np.empty((rows, features), np.float32), np.empty((rows, features), bool)
    parts, filled = [], 0
    for some in loader.pack(everyone, size):
        batch = loader.batch(some, size, examples.train_queries)
        asks = np.asarray(batch.query.valid) & (np.asarray(batch.weight) > 0)[:, None]
        here = slice(filled, filled := filled + int(asks.sum()))
        x[here], observed[here] = (np.asarray(a)[asks] for a in history_features(batch.visits, batch.query, shape))
        found: dict[str, Any] = {}
        found["subject"] = np.broadcast_to(np.array([*some, *[0] * (len(asks) - len(some))])[:, None], asks.shape)
        found["horizon"] = np.asarray(batch.query.time) - np.asarray(at_origin(batch.visits.times, batch.query))
        for target in layout.targets:
            truth = batch.truth[target.name]
            if isinstance(target, Event):
                assert isinstance(truth, Interval)
                found[f"ends {target.name}"] = truth.lo, truth.hi, truth.observed
                continue
            assert isinstance(truth, Truth)
            found[f"truth {target.name}"] = truth.value, truth.observed
            found[f"last {target.name}"] = last_value(batch.visits, batch.query, target.index)
        parts.append(jax.tree.map(lambda a, asks=asks: np.asarray(a)[asks], found))
    whole = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
    measured = [target.name for target in layout.measured]
    truth = {name: whole[f"truth {name}"] for name in measured}
    ends = {t.name: whole[f"ends {t.name}"] for t in layout.events}
    return Table(
        x=jnp.asarray(x),
        observed=jnp.asarray(observed),
        subject=whole["subject"],
        horizon=whole["horizon"],
        truth={name: np.where(known, value, 0).astype(float) for name, (value, known) in truth.items()},
        known={name: values[-1] for name, values in (truth | ends).items()},
        last={name: whole[f"last {name}"] for name in measured},
        ends={name: (lo, hi) for name, (lo, hi, _) in ends.items()},
    )
