"""Do the intervals of cross-validated noise hold what noise is worth.

    python -m benchmarks.noise [--studies 1000] [--resamples 1000] [--subjects 60 100] [--folds 5 10]

A study is one forecast of each subject, whose outcomes are drawn by chance: one of two classes, one of three, and the
time to an event of which some are lost. Two models see five features each, also by chance, and are fitted in each fold
on all other folds: least squares with a small penalty, on the classes (so linear discriminants) and on what is left of
the events beside the Nelson-Aalen estimate (a first step towards Cox's model). Scores, differences and their intervals
are the leaderboard's (`Paired`). What noise is worth: 1/2 for AUC, mAUC and C; for average precision the mean over all
rankings of each fold, which is known; 0 for the difference of the two models.

Beside the coverage stand that of the plain subject bootstrap, of one twice as variable, of the corrected t-test over
folds (where every fold has its score), and the mean width over that of an interval which knows the scores' spread over
studies. The ratio is the share of scores and differences that are held at least as often as 99% of correct intervals
would be. Writes results/noise-<device>.json.
"""

import argparse
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from benchmarks import measure
from benchmarks.coverage import band
from framework.evaluate.inference.bootstrap import Scores, scores
from framework.evaluate.inference.corrected_ttest import corrected, widening
from framework.evaluate.leaderboard import Paired, in_folds
from framework.evaluate.metrics.base import Metric
from framework.evaluate.metrics.ranking import AUC, AUPRC, MAUC
from framework.evaluate.metrics.survival import Harrell, Uno

FEATURES, PENALTY = 5, 1.0  # of each model
RATE, LOST = 1.0, 0.5  # of events and of losses to follow-up, a year
FOLLOWED = (3.0,)  # the horizon: nearly all have had their event
METRICS: dict[str, tuple[Metric, ...]] = {
    "two classes": (AUC(), AUPRC(positive=1)),
    "three classes": (MAUC(),),
    "event": (Uno(horizons=FOLLOWED), Harrell(horizons=FOLLOWED)),
}


@dataclass(frozen=True)
class Studied:
    """Of s studies: scores of a target's metrics, those of their folds, truths and folds."""

    scores: Scores
    by_fold: Float[np.ndarray, "s k m f"]
    truth: Float[np.ndarray, "s q ..."]
    fold: Int[np.ndarray, "s q"]


def fitted(x: Float[Array, "n p"], y: Float[Array, "n c"], train: Float[Array, " n"]) -> Float[Array, "n c"]:
    """Ridge regression on some subjects; its answers for all."""
    share = train / train.sum()
    x, middle = x - share @ x, share @ y
    own = x * train[:, None]
    return middle + x @ jnp.linalg.solve(own.T @ x + PENALTY * jnp.eye(x.shape[1]), own.T @ (y - middle))


def left(time: Float[Array, " n"], event: Float[Array, " n"], train: Float[Array, " n"]) -> Float[Array, " n"]:
    """Martingale residuals: whether the event came, less the hazard until then that the training subjects show."""
    at_risk = (time >= time[:, None]) @ train
    rate = jnp.where(at_risk > 0, train * event / jnp.maximum(at_risk, 1), 0)
    return event - (time <= time[:, None]) @ rate


def one(key: Key[Array, ""], subjects: int, folds: int, resamples: int, targets: tuple[str, ...]) -> dict[str, tuple]:
    """A study: of each target the scores of both models, those of the folds, and its truths and folds."""
    keys = jax.random.split(key, 8)
    fold = jax.random.permutation(keys[0], subjects) % folds
    x = jax.random.normal(keys[1], (2, subjects, FEATURES))
    two = jax.random.bernoulli(keys[2], 0.5, (subjects,)).astype(float)
    three = jax.random.randint(keys[3], (subjects,), 0, 3).astype(float)
    came, lost = jax.random.exponential(keys[4], (2, subjects)) / jnp.array([[RATE], [LOST]])
    time, event = jnp.minimum(came, lost), (came < lost).astype(float)
    trains = (fold != jnp.arange(folds)[:, None]).astype(float)

    def answers(of_training) -> Float[Array, "m 1 n c"]:
        """Of each subject those of the model that has not seen it."""

        def model(x: Float[Array, "n p"]) -> Float[Array, "n c"]:
            each = jax.vmap(lambda train: fitted(x, of_training(train), train))(trains)
            return each[fold, jnp.arange(subjects)]

        return jax.vmap(model)(x)[:, None]

    event_of = answers(lambda train: two[:, None])
    told = {
        "two classes": (jnp.concatenate([1 - event_of, event_of], axis=-1), two),
        "three classes": (answers(lambda train: jax.nn.one_hot(three.astype(int), 3)), three),
        "event": (
            1 - answers(lambda train: left(time, event, train)[:, None]),
            jnp.stack([time, jnp.where(event > 0, time, jnp.inf)], axis=1),
        ),
    }
    who = jnp.arange(subjects)
    found = {}
    for name, (forecast, truth) in ((name, told[name]) for name in targets):
        drawn = scores(
            METRICS[name],
            forecast,
            truth,
            who,
            subjects=subjects,
            resamples=resamples,
            key=keys[7],
            fold=fold[None],
        )
        by_fold = [
            jnp.stack([in_folds(metric, model, truth, who, fold[None], folds)[0] for model in forecast])
            for metric in METRICS[name]
        ]
        found[name] = drawn, jnp.stack(by_fold), truth, fold
    return found


@partial(jax.jit, static_argnames=("studies", "subjects", "folds", "resamples", "targets"))
def simulated(
    studies: int, subjects: int, folds: int, resamples: int, targets: tuple[str, ...] = tuple(METRICS)
) -> dict[str, tuple]:
    """Many studies, one after the other."""
    keys = jax.random.split(jax.random.key(1000 * subjects + folds), studies)
    return lax.map(partial(one, subjects=subjects, folds=folds, resamples=resamples, targets=targets), keys)


def by_chance(metric: Metric, truth: Float[np.ndarray, "q ..."], fold: Int[np.ndarray, " q"]) -> float:
    """What a ranking without ties by chance alone is worth on the mean."""
    if not isinstance(metric, AUPRC):
        return 0.5
    events, total = 0, 0.0
    for k in np.unique(fold):
        n, m = int((fold == k).sum()), int(truth[fold == k].sum())
        if 0 < m < n:
            harmonic = np.sum(1 / np.arange(1, n + 1))
            # at rank i stand an event with chance m/n and, before it, (i - 1)(m - 1)/(n - 1) others on the mean
            total += m * (harmonic + (m - 1) / (n - 1) * (n - harmonic)) / n
            events += m
    return total / events


def held(found: Studied, k: int, metric: Metric) -> dict[str, dict]:
    """How often each kind of interval of a metric's score, and of the models' difference, holds what it should."""
    took, folds = [1, 1], len(np.unique(found.fold[0]))
    widened = widening(found.fold[:1])
    told = {"score": [], "difference": []}
    for s in range(len(found.fold)):
        own = jax.tree.map(lambda x, s=s: np.asarray(x[s], np.float64), found.scores)
        truth = by_chance(metric, found.truth[s], found.fold[s])
        for what, models, null in (("score", (0,), truth), ("difference", (0, 1), 0.0)):
            spreads = [Paired({1: own}, took, k, metric, {1: w}).spread(*models) for w in (widened, 2**0.5, 1.0)]
            ends = [spread.interval() for spread in spreads]
            each = found.by_fold[s, k]
            gaps = each[0] - (each[1] if what == "difference" else null)
            # average precision by chance is another in each fold
            t = (
                (np.nan, np.nan)
                if isinstance(metric, AUPRC) and what == "score"
                else corrected(gaps, 1.0, folds - 1.0)[:2]
            )
            inside = [float(low <= null <= high) for low, high in ends] + [_holds(t)]
            told[what].append([spreads[0].value - null, ends[0][1] - ends[0][0], *inside])
    return {what: _summary(np.array(rows)) for what, rows in told.items()}


def _holds(ends: tuple[float, float]) -> float:
    return float("nan") if np.isnan(ends[0]) else float(ends[0] <= 0 <= ends[1])


def _summary(rows: Float[np.ndarray, "s 6"]) -> dict:
    rows = rows[~np.isnan(rows[:, 0])]
    defined = rows[~np.isnan(rows[:, 5]), 5]
    return {
        "coverage": float(rows[:, 2].mean()),
        "doubled": float(rows[:, 3].mean()),
        "bootstrap": float(rows[:, 4].mean()),
        "over_folds": float(defined.mean()) if len(defined) else None,
        "over_folds_defined": len(defined) / len(rows),
        "off": float(rows[:, 0].mean()),  # the mean of the scores less what they should be
        "spread": float(rows[:, 0].std()),
        "width": float(rows[:, 1].mean() / (2 * 1.96 * rows[:, 0].std())),
        "studies": len(rows),
    }


def cases(
    studies: int, subjects: int, folds: int, resamples: int, targets: tuple[str, ...] = tuple(METRICS)
) -> dict[str, dict]:
    """Every score and difference of one design."""
    low, _ = band(studies)
    made = {}
    found = simulated(studies, subjects, folds, resamples, targets)
    for name, parts in found.items():
        drawn, by_fold, truth, fold = jax.tree.map(np.asarray, parts)
        one = Studied(drawn, np.asarray(by_fold, np.float64), truth, fold)
        for k, metric in enumerate(METRICS[name]):
            for what, case in held(one, k, metric).items():
                case["inside"] = case["coverage"] >= low
                made[f"{metric.name}, {what}, {subjects} subjects, {folds} folds"] = case
    return made


def main() -> None:
    """Every design, a line a case, and the record."""
    told = _arguments()
    made: dict[str, dict] = {}
    for subjects in told.subjects:
        for folds in told.folds:
            for name, case in cases(told.studies, subjects, folds, told.resamples).items():
                made[name] = case
                over = "–" if case["over_folds"] is None else f"{100 * case['over_folds']:.1f}%"
                print(
                    f"{name:56} {100 * case['coverage']:.1f}%  doubled {100 * case['doubled']:.1f}%  "
                    f"bootstrap {100 * case['bootstrap']:.1f}%  over folds {over} "
                    f"(of {100 * case['over_folds_defined']:.0f}%)  width {case['width']:.2f}  "
                    f"{'' if case['inside'] else 'below'}",
                    flush=True,
                )
    environment = {"device": jax.devices()[0].device_kind, "versions": {"jax": jax.__version__}}
    how = {"studies": told.studies, "resamples": told.resamples, "band": band(told.studies)}
    ratio = float(np.mean([case["inside"] for case in made.values()]))
    measure.write(measure.record("noise", environment, made, **how) | {"ratio": ratio})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise", description="Intervals of noise hold it.")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--subjects", type=int, nargs="+", default=[60, 100])
    parser.add_argument("--folds", type=int, nargs="+", default=[5, 10])
    return parser.parse_args()


if __name__ == "__main__":
    main()
