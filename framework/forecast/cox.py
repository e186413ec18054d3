"""Cox's proportional hazards over history features, for time to event."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from framework.baselines.linear.base import Linear
from framework.baselines.prepare import Moments, moments
from framework.baselines.survival.cox import Cox, CoxParams, Survival
from framework.baselines.survival.kaplan_meier import right_censored
from framework.errors import UserError
from framework.forecast.base import Fitted, Forecaster, Part
from framework.forecast.fit_request import FitRequest
from framework.forecast.tabular.history_features import feature_names, history_features
from framework.forecast.tabular.selection import folds
from framework.forecast.tabular.training_table import Table, tabulate
from framework.forecast.target_kinds import events_alone
from framework.history import asked_at_origin, at_origin
from framework.train.array_io import load_arrays, save_arrays
from framework.types import Arr, Forecast, Layout, Query, SurvivalForecast, Visits, pytree

COX = Cox()


@pytree
class Hazards:
    """Standardisation of the features (missing values mean-imputed), and the parameters fitted to them."""

    moments: Moments
    cox: CoxParams

    def survival(self, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"], years: Float[Arr, " n"]) -> Float[Array, " n"]:
        """The probability, for each row, that the event has not occurred after so many years."""
        z = _standard(self.moments, x, observed)
        one = jax.vmap(lambda z, years: COX.curve(self.cox, z[None], jnp.ones((1, len(z)), bool), years[None])[0, 0])
        return one(z, jnp.asarray(years))


@dataclass(frozen=True)
class Proportional(Forecaster):
    """Events from what the history says at the origin; classes and numbers are left to others.

    A row is an origin of a training or validation subject, an event at the middle of its interval. The penalty is that
    of `penalties` under which the partial likelihood of subjects left out, in `folds` turns, is largest (Verweij and
    van Houwelingen 1993). Scans are not read.
    """

    penalties: Sequence[float]
    folds: int

    def __post_init__(self):
        if not self.penalties or min(self.penalties) <= 0 or self.folds < 2:
            raise UserError(
                f"model.penalties={list(self.penalties)}, model.folds={self.folds}; expected penalties above 0, to "
                "keep features that tell of each other apart, and 2 folds or more"
            )

    def fit_many(self, request: FitRequest) -> list[Fitted]:
        """One member after the other; all of them run the same program."""
        layout = self._reads(request.examples.layout)
        table = tabulate(request.examples, layout)
        made: list[Fitted] = []
        for member, split, key in request.members:
            learns = split.train | split.validation
            found = {
                target.name: self._learn(table, target.name, learns, jax.random.fold_in(key, place))
                for place, target in enumerate(layout.targets)
            }
            made.append(FittedProportional(layout, {name: hazards for name, (hazards, _) in found.items()}))
            request.log(_row(member, len(request), {name: dict(scores) for name, (_, scores) in found.items()}))
        return made

    def parts(self) -> Sequence[Part]:
        return [Part(name, ("train", "validation")) for name in ("normaliser", "selection", "parameters")]

    def load(self, path: Path, layout: Layout) -> Fitted:
        layout = self._reads(layout)
        file = path / "rows.json"
        if not file.exists():
            raise UserError(f"no fitted model at {file}; run the forecast first, or name a run that finished")
        features = len(feature_names(layout))
        like = {name: _blank(rows, features) for name, rows in json.loads(file.read_text()).items()}
        return FittedProportional(layout, load_arrays(path / "params", like, finite=False))

    def _reads(self, layout: Layout) -> Layout:
        return replace(events_alone(layout, "a proportional-hazards model"), modalities=(), grids=())

    def _learn(
        self, table: Table, name: str, learns: Bool[np.ndarray, " s"], key: Key[Array, ""]
    ) -> tuple[Hazards, list[tuple[float, float]]]:
        """The hazards at the best penalty, and the score of each: the smaller the better."""
        rows = table.known[name]
        subject, weight = table.subject[rows], learns[table.subject[rows]].astype(np.float32)
        count = len(np.unique(subject[weight > 0]))
        if count < self.folds:
            raise UserError(
                f"{name} is known of {count} training subjects; choosing a penalty takes model.folds={self.folds}"
            )
        fold = folds(subject, weight, self.folds, key)
        rest = np.stack([np.where(fold == turn, 0, weight) for turn in [*range(self.folds), -1]])
        survival = right_censored(*(end[rows] for end in table.ends[name]))
        penalties = jnp.asarray(self.penalties, jnp.float32)
        hazards, losses = _paths(table.x[rows], table.observed[rows], survival, rest, weight, penalties)
        scores = np.asarray(losses, float)[:-1].sum(0)
        if not np.isfinite(scores).any():
            raise UserError(f"no penalty gave a finite likelihood of {name}; give larger model.penalties")
        best = int(np.nanargmin(scores))
        return jax.tree.map(lambda leaf: leaf[-1, best], hazards), [*zip(self.penalties, scores.tolist(), strict=True)]


@dataclass(frozen=True)
class FittedProportional(Fitted):
    """Hazards of each event."""

    layout: Layout
    learnt: Mapping[str, Hazards]

    @property
    def notes(self) -> Sequence[str]:
        short = {name: COX.shortfall(one.cox) for name, one in self.learnt.items()}
        return [f"{name}: {what}" for name, what in short.items() if what]

    def predict(self, history: Visits, query: Query) -> Forecast:
        x, observed = history_features(
            replace(history, scans={}), asked_at_origin(query, history.times, self.layout.known), self.layout
        )
        ahead = jnp.maximum(jnp.asarray(query.time) - at_origin(history.times, query), 0)
        flat = (x.reshape(-1, x.shape[-1]), observed.reshape(-1, x.shape[-1]), ahead.ravel())
        return {name: SurvivalForecast(_survival(one, *flat).reshape(ahead.shape)) for name, one in self.learnt.items()}

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        save_arrays(path / "params", dict(self.learnt))
        (path / "rows.json").write_text(json.dumps({name: len(one.cox.time) for name, one in self.learnt.items()}))


_survival = jax.jit(Hazards.survival)


@jax.jit
def _paths(
    x: Array, observed: Array, survival: Survival, rest: Array, weight: Array, penalties: Array
) -> tuple[Hazards, Array]:
    """For each weighting the fits at all penalties, and what they lack of the likelihood of the others."""

    def turn(learns: Array) -> tuple[Hazards, Array]:
        of = moments(x, observed, learns)
        z = _standard(of, x, observed)
        whole = jnp.ones(z.shape, bool)
        fits = COX.path(z, whole, survival, learns, penalties)
        loss = jax.vmap(
            lambda fit: COX.loss(fit, z, whole, survival, weight) - COX.loss(fit, z, whole, survival, learns)
        )
        repeated = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(penalties), *leaf.shape)), of)
        return Hazards(repeated, fits), loss(fits)

    return jax.lax.map(turn, rest)


def _standard(of: Moments, x: Float[Arr, "n f"], observed: Bool[Arr, "n f"]) -> Float[Array, "n f"]:
    return jnp.where(observed, (jnp.where(observed, x, 0) - of.mean) / of.scale, 0)


def _blank(rows: int, features: int) -> Hazards:
    zeros = jnp.zeros(features)
    linear = Linear(jnp.zeros(1), zeros[:, None], jnp.array(False))
    return Hazards(
        Moments(zeros, zeros, jnp.zeros(features, bool)), CoxParams(linear, jnp.zeros(rows), jnp.zeros(rows))
    )


def _row(member: int, members: int, scores: Mapping[str, Mapping[float, float]]) -> dict:
    """The log entry of a member."""
    return {
        "member": member,
        "step": member + 1,
        "of": members,
        "train": float("nan"),
        "validation": sum(min(each.values()) for each in scores.values()),
        "scores": {name: [*each.items()] for name, each in scores.items()},
    }
