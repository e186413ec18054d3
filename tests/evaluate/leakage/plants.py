"""A forecaster of one's own, in NumPy, and the leaks that can be planted in it and in its cohort."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from framework.data.cohort.schema import Modality, Schema, Variable
from framework.data.cohort.store import Cohort
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import Split
from framework.forecast.base import Fitted, Forecaster
from framework.types import LEVELS, Layout, Truth, Values

NOISE = 8  # variables that say nothing, to choose among
SCHEMA = Schema(
    variables=(
        Variable("score", ("input", "target"), "points"),
        *(Variable(f"x{i}") for i in range(NOISE)),
        Variable("fate", ("hindsight",)),
    ),
    static=(Variable("school"), Variable("outcome", ("hindsight",), levels=("good", "bad"))),
    modalities=(Modality("t1", (3, 3, 3), (1.0, 1.0, 1.0)),),
)


class InMemory(Cohort):
    """A cohort whose scans are drawn when asked for; equal digests give equal voxels."""

    def voxels(self, modality, subject, visit):
        digest = self.manifest["subjects"][subject]["visits"][visit]["scans"][modality]["voxels"]
        return np.random.default_rng(int(digest, 16)).normal(5, 1, (3, 3, 3, 1)).astype(np.float32)


def cohort(seed: int, subjects: int = 36) -> InMemory:
    rng = np.random.default_rng(seed)
    count = rng.integers(2, 6, subjects)
    shape = (subjects, 5)
    times = np.cumsum(np.concatenate([np.zeros((subjects, 1)), rng.uniform(0.3, 1.5, (subjects, 4))], 1), 1)
    valid = np.arange(5) < count[:, None]
    score = rng.normal(25, 3, (subjects, 1)) - times * rng.uniform(0, 2, (subjects, 1)) + rng.normal(0, 0.3, shape)
    fate = np.take_along_axis(score, count[:, None] - 1, 1) + np.zeros(shape)
    values = np.concatenate([score[..., None], rng.normal(0, 1, (*shape, NOISE)), fate[..., None]], -1)
    observed = valid[..., None] & (rng.random(values.shape) > 0.1)
    observed[..., [0, -1]] = valid[..., None]
    observed[: subjects // 2] = valid[: subjects // 2, :, None]  # half of them lack nothing
    static = np.stack([rng.normal(12, 3, subjects), rng.integers(0, 2, subjects).astype(float)], 1)
    entries = [
        {
            "id": f"s{i:02}",
            "visits": [{"id": f"v{j}", "scans": {"t1": {"voxels": rng.bytes(8).hex()}}} for j in range(n)],
        }
        for i, n in enumerate(count)
    ]
    return InMemory(
        "memory",
        SCHEMA,
        {"format": 1, "schema": {}, "subjects": entries},
        np.where(valid, times, 0),
        np.where(observed, values, 0),
        observed,
        static,
        np.ones(static.shape, bool),
    )


def study(seed: int = 0, made: Cohort | None = None) -> Examples:
    made = made or cohort(seed)
    return Examples(made, layout(made.schema, ["score"]))


def split(subjects: int = 36, seed: int = 0) -> Split:
    order = np.random.default_rng(seed).permutation(subjects)
    return Split(
        order < subjects // 2, (order >= subjects // 2) & (order < 2 * subjects // 3), order >= 2 * subjects // 3
    )


@dataclass(frozen=True)
class Own(Forecaster):
    """Linear regression of the next score on last values, for one's own use; every `..._on` names whom it is fitted on.

    `sees` is what of the future its features hold.
    """

    normalised_on: str = "train"
    imputed_on: str = "train"
    selected_on: str = "train"
    tuned_on: str = "validation"
    augmented_from: str = "train"
    encoded_on: str = "train"
    counted_on: str = "train"
    sees: str = ""
    drifts: bool = False
    tells: bool = True

    def fit_many(self, request):
        return [self._fitted(request.examples, split) for split in request.splits]

    def load(self, path, layout):
        raise NotImplementedError("probes fit again each time; nothing of them is saved")

    def _fitted(self, examples: Examples, split: Split) -> "FittedOwn":
        every = split.train | split.validation | split.test
        of = {"train": split.train, "validation": split.validation, "test": split.test, "all": every}
        c, q = examples.cohort, examples.eval_queries.query
        scans, ask = _embedded(c), np.asarray(q.valid)
        code = _code(scans, of[self.encoded_on])
        seen = c.observed & c.valid[..., None]
        raw, has, last = _features(self.sees, code, c.values, seen, c.times, c.valid, c.static, scans, q.origin, q.time)
        some, y = of[self.imputed_on], _truth(examples) - last
        gaps = 1 - has[of[self.counted_on]][..., :NOISE].mean((0, 1))
        known = has[some] & ask[some][..., None]
        mean = np.where(known, raw[some], 0).sum((0, 1)) / known.sum((0, 1))
        x = np.where(has, raw, mean)
        mean[:NOISE] *= 1 - gaps  # what is often missing says less where it is missing
        own = x[of[self.normalised_on][:, None] & ask & (has.all(-1) | (self.imputed_on == self.normalised_on))]
        centre, scale = own.mean(0), own.std(0) + 1e-9
        z, rows = (x - centre) / scale, of[self.selected_on][:, None] & ask
        strength = [abs(np.corrcoef(z[rows][:, k], y[rows])[0, 1]) for k in range(NOISE)]
        kept = np.concatenate([np.argsort(strength)[-2:], np.arange(NOISE, z.shape[-1])])
        penalty, weights = self._tuned(
            z[..., kept], y, of[self.augmented_from][:, None] & ask, of[self.tuned_on][:, None] & ask
        )
        return FittedOwn(self, examples.layout, mean, centre, scale, code, weights, kept, penalty)

    def _tuned(self, z: np.ndarray, y: np.ndarray, learns: np.ndarray, judges: np.ndarray) -> tuple[float, np.ndarray]:
        """The penalty of the least loss and its weights, learnt from every row and a copy of it that is a little off."""
        off = z[learns] + np.random.default_rng(0).normal(0, 0.05, z[learns].shape)
        x, answer = np.concatenate([z[learns], off]), np.concatenate([y[learns]] * 2)
        fits = {penalty: _ridge(x, answer, penalty) for penalty in (0.1, 30.0, 300.0, 3000.0)}
        best = min(fits, key=lambda p: float(((z[judges] @ fits[p][1:] + fits[p][0] - y[judges]) ** 2).mean()))
        return best, fits[best] + (np.random.default_rng().normal() if self.drifts else 0.0)


def _features(sees, code, values, observed, times, valid, static, scans, origin, time):
    """(b, q, f) features, which of them are known, and the last score."""
    b, q = np.arange(len(values))[:, None], np.asarray(origin)
    end = np.maximum(valid.sum(1) - 1, 0)[:, None] + np.zeros_like(q)
    at = end if sees == "later_visits" else q
    x, has, last = values[b, at, 1 : 1 + NOISE], observed[b, at, 1 : 1 + NOISE], values[b, q, 0]
    extra = [time - times[b, q], scans[b, q] @ code, static[:, :1] + 0 * time]
    if sees == "later_labels":
        extra.append(values[b, end, 0])
    if sees == "visit_count":
        extra.append(valid.sum(1)[:, None] + 0 * time)
    if sees == "hindsight":
        extra.append(values[b, q, 1 + NOISE])
    more = np.stack(extra, -1)
    return np.concatenate([x, more], -1), np.concatenate([has, np.ones(more.shape, bool)], -1), last


@dataclass(frozen=True)
class FittedOwn(Fitted):
    """Its numbers."""

    recipe: Own
    layout: Layout
    mean: np.ndarray
    centre: np.ndarray
    scale: np.ndarray
    code: np.ndarray
    weights: np.ndarray
    kept: np.ndarray
    penalty: float

    @property
    def chosen(self) -> dict[str, Any]:
        return {"features": self.kept.tolist(), "penalty": self.penalty} if self.recipe.tells else {}

    def predict(self, history, query):
        h, seen = history, np.asarray(history.observed) & np.asarray(history.valid)[..., None]
        scans = np.zeros((*h.times.shape, 27))
        one = h.scans["t1"]
        real = np.asarray(one.valid)
        scans[np.asarray(one.row)[real], np.asarray(one.visit)[real]] = np.asarray(one.voxels)[real].reshape(-1, 27)
        args = (np.asarray(h.values), seen, np.asarray(h.times), np.asarray(h.valid), np.asarray(h.static), scans)
        x, has, last = _features(self.recipe.sees, self.code, *args, query.origin, np.asarray(query.time))
        z = (np.where(has, x, self.mean) - self.centre) / self.scale
        told = last + z[..., self.kept] @ self.weights[1:] + self.weights[0]
        return {"score": Values(jnp.asarray(told[..., None] + np.zeros(len(LEVELS))))}

    def save(self, path): ...


def _embedded(c: Cohort) -> np.ndarray:
    from framework.data.batches.normalise import scaled

    made = np.zeros((*c.times.shape, 27))
    for i, j in zip(*np.nonzero(c.present["t1"]), strict=True):
        made[i, j] = scaled(c, "t1", int(i), int(j)).ravel()
    return made


def _code(scans: np.ndarray, who: np.ndarray) -> np.ndarray:
    """The first principal component of some subjects' scans."""
    own = scans[who].reshape(-1, 27)
    return np.linalg.svd(own - own.mean(0), full_matrices=False)[2][0]


def _truth(examples: Examples) -> np.ndarray:
    truth = examples.eval_queries.truth["score"]
    assert isinstance(truth, Truth)
    return np.asarray(truth.value)


def _ridge(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    x = np.concatenate([np.ones((len(x), 1)), x], 1)
    own = penalty * np.eye(x.shape[1])
    own[0, 0] = 0
    return np.linalg.solve(x.T @ x + own, x.T @ y)
