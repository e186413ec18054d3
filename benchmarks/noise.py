"""Coverage of the intervals of cross-validated scores where features are noise.

    python -m benchmarks.noise [--studies 1000] [--resamples 1000] [--subjects 60 100] [--folds 5 10]

A study has one forecast per subject, and random outcomes: one of two classes, one of three, and the time to an event
with censoring. Two models see five random features each and are fitted in each fold on all other folds: ridge
regression on the class indicators (linear discriminants) and on the martingale residuals of the Nelson-Aalen estimate
(a first step towards Cox's model). Scores, differences and their intervals are the leaderboard's (`Paired`). Expected
values under noise: 1/2 for AUC, mAUC and C; for average precision the mean over all rankings of each fold, in closed
form; 0 for the difference of the two models.

Reported for comparison: the coverage of the plain subject bootstrap, of one with doubled variance, of the corrected
t-test over folds (where every fold has its score), and the mean width over that of an interval with the scores' true
spread over studies. The ratio is the share of scores and differences covered at least as often as by 99% of correct
intervals. Writes results/noise-<device>.json.
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
EVENT_RATE, CENSORING_RATE = 1.0, 0.5  # per year
HORIZONS = (3.0,)  # years; most events have occurred by then
METRICS: dict[str, tuple[Metric, ...]] = {
    "two classes": (AUC(), AUPRC(positive=1)),
    "three classes": (MAUC(),),
    "event": (Uno(horizons=HORIZONS), Harrell(horizons=HORIZONS)),
}


@dataclass(frozen=True)
class StudyScores:
    """Scores of a target's metrics in s studies, those of their folds, truths and folds."""

    scores: Scores
    by_fold: Float[np.ndarray, "s k m f"]
    truth: Float[np.ndarray, "s q ..."]
    fold: Int[np.ndarray, "s q"]


def fit_predict(x: Float[Array, "n p"], y: Float[Array, "n c"], train: Float[Array, " n"]) -> Float[Array, "n c"]:
    """Fit ridge regression on the training subjects; predict all subjects."""
    share = train / train.sum()
    x, mean = x - share @ x, share @ y
    weighted = x * train[:, None]
    return mean + x @ jnp.linalg.solve(weighted.T @ x + PENALTY * jnp.eye(x.shape[1]), weighted.T @ (y - mean))


def martingale_residuals(
    time: Float[Array, " n"], event: Float[Array, " n"], train: Float[Array, " n"]
) -> Float[Array, " n"]:
    """Martingale residuals: event indicator minus the cumulative hazard estimated on the training subjects."""
    at_risk = (time >= time[:, None]) @ train
    rate = jnp.where(at_risk > 0, train * event / jnp.maximum(at_risk, 1), 0)
    return event - (time <= time[:, None]) @ rate


def simulate_study(
    key: Key[Array, ""], subjects: int, folds: int, resamples: int, targets: tuple[str, ...]
) -> dict[str, tuple]:
    """Simulate a study; return, for each target, the scores of both models, those of folds, truths and folds."""
    keys = jax.random.split(key, 8)
    fold = jax.random.permutation(keys[0], subjects) % folds
    x = jax.random.normal(keys[1], (2, subjects, FEATURES))
    two = jax.random.bernoulli(keys[2], 0.5, (subjects,)).astype(float)
    three = jax.random.randint(keys[3], (subjects,), 0, 3).astype(float)
    event_time, censoring_time = jax.random.exponential(keys[4], (2, subjects)) / jnp.array(
        [[EVENT_RATE], [CENSORING_RATE]]
    )
    time = jnp.minimum(event_time, censoring_time)
    event = (event_time < censoring_time).astype(float)
    trains = (fold != jnp.arange(folds)[:, None]).astype(float)

    def held_out_predictions(response) -> Float[Array, "m 1 n c"]:
        """Predictions for each subject by the models not fitted on it."""

        def model(x: Float[Array, "n p"]) -> Float[Array, "n c"]:
            each = jax.vmap(lambda train: fit_predict(x, response(train), train))(trains)
            return each[fold, jnp.arange(subjects)]

        return jax.vmap(model)(x)[:, None]

    second_class = held_out_predictions(lambda train: two[:, None])
    forecasts = {
        "two classes": (jnp.concatenate([1 - second_class, second_class], axis=-1), two),
        "three classes": (held_out_predictions(lambda train: jax.nn.one_hot(three.astype(int), 3)), three),
        "event": (
            1 - held_out_predictions(lambda train: martingale_residuals(time, event, train)[:, None]),
            jnp.stack([time, jnp.where(event > 0, time, jnp.inf)], axis=1),
        ),
    }
    subject = jnp.arange(subjects)
    found = {}
    for name, (forecast, truth) in ((name, forecasts[name]) for name in targets):
        drawn = scores(
            METRICS[name],
            forecast,
            truth,
            subject,
            subjects=subjects,
            resamples=resamples,
            key=keys[7],
            fold=fold[None],
        )
        by_fold = [
            jnp.stack([in_folds(metric, model, truth, subject, fold[None], folds)[0] for model in forecast])
            for metric in METRICS[name]
        ]
        found[name] = drawn, jnp.stack(by_fold), truth, fold
    return found


@partial(jax.jit, static_argnames=("studies", "subjects", "folds", "resamples", "targets"))
def simulated(
    studies: int, subjects: int, folds: int, resamples: int, targets: tuple[str, ...] = tuple(METRICS)
) -> dict[str, tuple]:
    """Simulate many studies, one after the other."""
    keys = jax.random.split(jax.random.key(1000 * subjects + folds), studies)
    return lax.map(partial(simulate_study, subjects=subjects, folds=folds, resamples=resamples, targets=targets), keys)


def expected_under_noise(metric: Metric, truth: Float[np.ndarray, "q ..."], fold: Int[np.ndarray, " q"]) -> float:
    """Expected score of a random ranking without ties."""
    if not isinstance(metric, AUPRC):
        return 0.5
    events, total = 0, 0.0
    for k in np.unique(fold):
        n, m = int((fold == k).sum()), int(truth[fold == k].sum())
        if 0 < m < n:
            harmonic = np.sum(1 / np.arange(1, n + 1))
            # rank i holds an event with probability m/n, preceded by (i - 1)(m - 1)/(n - 1) others on average
            total += m * (harmonic + (m - 1) / (n - 1) * (n - harmonic)) / n
            events += m
    return total / events


def coverage_of(found: StudyScores, k: int, metric: Metric) -> dict[str, dict]:
    """Coverage of each kind of interval, for a metric's score and for the difference of the models."""
    repeats, folds = [1, 1], len(np.unique(found.fold[0]))
    widened = widening(found.fold[:1])
    rows = {"score": [], "difference": []}
    for s in range(len(found.fold)):
        study = jax.tree.map(lambda x, s=s: np.asarray(x[s], np.float64), found.scores)
        truth = expected_under_noise(metric, found.truth[s], found.fold[s])
        for quantity, models, null in (("score", (0,), truth), ("difference", (0, 1), 0.0)):
            spreads = [Paired({1: study}, repeats, k, metric, {1: w}).spread(*models) for w in (widened, 2**0.5, 1.0)]
            ends = [spread.interval() for spread in spreads]
            by_fold = found.by_fold[s, k]
            gaps = by_fold[0] - (by_fold[1] if quantity == "difference" else null)
            # the expected average precision differs between folds
            t = (
                (np.nan, np.nan)
                if isinstance(metric, AUPRC) and quantity == "score"
                else corrected(gaps, 1.0, folds - 1.0)[:2]
            )
            inside = [float(low <= null <= high) for low, high in ends] + [_covers_zero(t)]
            rows[quantity].append([spreads[0].value - null, ends[0][1] - ends[0][0], *inside])
    return {quantity: _summary(np.array(row)) for quantity, row in rows.items()}


def _covers_zero(ends: tuple[float, float]) -> float:
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
        "bias": float(rows[:, 0].mean()),  # mean of the scores minus their expected value
        "spread": float(rows[:, 0].std()),
        "width": float(rows[:, 1].mean() / (2 * 1.96 * rows[:, 0].std())),
        "studies": len(rows),
    }


def cases(
    studies: int, subjects: int, folds: int, resamples: int, targets: tuple[str, ...] = tuple(METRICS)
) -> dict[str, dict]:
    """Coverage of every score and difference of one design."""
    low, _ = band(studies)
    made = {}
    found = simulated(studies, subjects, folds, resamples, targets)
    for name, parts in found.items():
        drawn, by_fold, truth, fold = jax.tree.map(np.asarray, parts)
        study_scores = StudyScores(drawn, np.asarray(by_fold, np.float64), truth, fold)
        for k, metric in enumerate(METRICS[name]):
            for quantity, case in coverage_of(study_scores, k, metric).items():
                case["inside"] = case["coverage"] >= low
                made[f"{metric.name}, {quantity}, {subjects} subjects, {folds} folds"] = case
    return made


def main() -> None:
    """Simulate every design, print a line per case and write the record."""
    args = _arguments()
    made: dict[str, dict] = {}
    for subjects in args.subjects:
        for folds in args.folds:
            for name, case in cases(args.studies, subjects, folds, args.resamples).items():
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
    how = {"studies": args.studies, "resamples": args.resamples, "band": band(args.studies)}
    ratio = float(np.mean([case["inside"] for case in made.values()]))
    measure.write(measure.record("noise", environment, made, **how) | {"ratio": ratio})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise", description="Coverage of intervals of noise.")
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--subjects", type=int, nargs="+", default=[60, 100])
    parser.add_argument("--folds", type=int, nargs="+", default=[5, 10])
    return parser.parse_args()


if __name__ == "__main__":
    main()
