"""Calibration of intervals and tests where there is no effect, and of conformal intervals.

    python -m benchmarks.null_calibration [--seeds 1000] [--simulations 2000]

- random labels: subjects of four visits whose labels are random, and a kernel smoother. The 95% interval of the AUC
  should contain ½ at its nominal rate: on half of the subjects held out, and pooled over five subject-wise folds, each
  with its mean AUC; and, for comparison, with a visit-wise split, which leaks a subject's label through its other
  visits. Pooled folds train on each other's subjects, so the similarity of any two subjects counts twice; the corrected
  t-test over folds (`framework.evaluate.inference.corrected_ttest`) allows for it: `over_folds` is its coverage of ½.
- equal forecasters: least squares on either of two equally informative features, five times five folds: how often the
  corrected t-test, and the plain one, find a difference at 5%.
- conformal intervals: on 50 calibration subjects of one to eight visits, forecast quantiles that are too narrow, errors
  with heavy tails and a scale per subject: the share of new subjects' visits inside, subjects weighted equally.

The ratio is the share of gated cases that lie inside their bounds (`inside`). Writes
results/null_calibration-<device>.json.
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key
from scipy import stats

from benchmarks import measure
from benchmarks.coverage import band, covered
from framework.evaluate.inference.bootstrap import Scores, scores
from framework.evaluate.inference.corrected_ttest import corrected
from framework.evaluate.metrics.ranking import AUC
from framework.forecast.calibration.correctors import Calibrator, Conformal, ConformalQuantiles
from framework.types import LEVELS

SUBJECTS, VISITS, FEATURES, FOLDS, REPEATS = 100, 4, 10, 5, 5
VISIT_SPREAD = 0.5  # of a subject's visits around its mean, in units of the spread of the means
Z = stats.norm.ppf(LEVELS)


def smooth(similarity: Float[Array, "q q"], label: Float[Array, " q"], train: Float[Array, " q"]) -> Float[Array, " q"]:
    """Mean label of the training visits, weighted by similarity."""
    weight = similarity * train
    return weight @ label / weight.sum(axis=1)


def by_chance(key: Key[Array, ""], resamples: int) -> dict[str, tuple[Scores, Float[Array, " f"]]]:
    """AUCs of the random labels of one seed in three designs, and those of their folds."""
    mean_key, visit_key, order, resample_key, visitwise = jax.random.split(key, 5)
    means = jnp.repeat(jax.random.normal(mean_key, (SUBJECTS, FEATURES)), VISITS, axis=0)
    x = means + VISIT_SPREAD * jax.random.normal(visit_key, means.shape)
    similarity = jnp.exp(-((x[:, None] - x) ** 2).sum(-1) / FEATURES)
    subject = jnp.repeat(jnp.arange(SUBJECTS), VISITS)
    shuffled = jax.random.permutation(order, SUBJECTS)
    label = (shuffled % 2)[subject].astype(float)
    fold = (shuffled // 2 % FOLDS)[subject]  # stratified by label
    half = (shuffled // 2 % 2)[subject]
    by_visit = jax.random.permutation(visitwise, subject.size) % FOLDS

    def forecast_folds(fold: Array, folds: int) -> tuple[Array, Array]:
        masks = (fold == jnp.arange(folds)[:, None]).astype(float)
        each = jax.vmap(lambda mask: smooth(similarity, label, 1 - mask))(masks)
        return (each * masks).sum(axis=0), masks

    def score(event: Array, weight: Array) -> Scores:
        forecast = jnp.stack([1 - event, event], axis=1)[None, None]
        return scores(
            (AUC(),), forecast, label, subject, subjects=SUBJECTS, resamples=resamples, key=resample_key, weight=weight
        )

    found = {}
    for name, assigned, folds in (
        ("held out", half, 2),
        ("folds", fold, FOLDS),
        ("visit-wise folds", by_visit, FOLDS),
    ):
        event, masks = forecast_folds(assigned, folds)
        ready = AUC().prepare(jnp.stack([1 - event, event], axis=1), label)
        weight = masks[0] if name == "held out" else jnp.ones_like(event)
        found[name] = score(event, weight), jax.vmap(partial(AUC().score, ready))(masks)
    return found


@partial(jax.jit, static_argnames=("seeds", "resamples"))
def random_labels(seeds: int, resamples: int = 1000) -> dict[str, tuple[Scores, Float[Array, "s f"]]]:
    """Simulate many seeds, one after the other."""
    return lax.map(lambda key: by_chance(key, resamples), jax.random.split(jax.random.key(0), seeds))


def labels_case(found: Scores, by_fold: Float[np.ndarray, "s f"], seeds: int, gated: str | None) -> dict:
    """Coverage of ½ by the subject-level interval and by that over folds, and the mean AUC."""
    low, high = band(seeds)
    ends = [corrected(np.asarray(one, float) - 0.5, 1.0, len(one) - 1.0)[:2] for one in by_fold]
    case = {
        "auc": float(np.mean(found.value)),
        "coverage": float(covered(found, 0.5).mean()),
        "over_folds": float(np.mean([a <= 0 <= b for a, b in ends])) if by_fold.shape[1] > 2 else None,
    }
    return case | ({"inside": bool(low <= case[gated] <= high)} if gated else {})


@partial(jax.jit, static_argnames=("simulations", "subjects"))
def equal_forecasters(simulations: int, subjects: int = SUBJECTS) -> Float[Array, "s j"]:
    """Differences in mean absolute error, by repeated fold, of two equally good forecasters."""

    def one(key: Key[Array, ""]) -> Float[Array, " j"]:
        data, noise, *cuts = jax.random.split(key, 2 + REPEATS)
        x = jax.random.normal(data, (2, subjects))
        y = x.sum(axis=0) + jax.random.normal(noise, (subjects,))
        folds = jnp.stack([jax.random.permutation(cut, subjects) % FOLDS for cut in cuts])
        tests = (folds[:, None] == jnp.arange(FOLDS)[:, None]).reshape(-1, subjects).astype(float)

        def gap(test: Float[Array, " n"]) -> Float[Array, ""]:
            train = (1 - test) / (1 - test).sum()
            middle, at = x @ train, y @ train
            slope = ((x - middle[:, None]) * (y - at)) @ train / ((x - middle[:, None]) ** 2 @ train)
            error = jnp.abs(y - at - slope[:, None] * (x - middle[:, None])) @ test / test.sum()
            return error[0] - error[1]

        return jax.vmap(gap)(tests)

    return lax.map(one, jax.random.split(jax.random.key(1), simulations))


def false_findings(gaps: Float[np.ndarray, "s j"]) -> dict:
    """Share of studies in which each t-test finds a difference at 5%."""
    pvalues = np.array([corrected(gap, 1.0, FOLDS - 1.0)[2] for gap in gaps])
    plain = stats.ttest_1samp(gaps, 0, axis=1).pvalue
    case = {"corrected": float((pvalues < 0.05).mean()), "plain": float((plain < 0.05).mean())}
    return case | {"inside": case["corrected"] <= 0.06}


def conformal(calibrator: Calibrator, simulations: int, subjects: int = 50) -> dict:
    """Coverage of the outer and of the inner interval on new subjects."""
    rng, inside = np.random.default_rng(2), []
    subject = np.repeat(np.arange(2 * subjects), 8)
    for _ in range(simulations):
        visits = rng.integers(1, 9, 2 * subjects)
        there = (np.arange(8) < visits[:, None]).ravel()
        scale, own = rng.gamma(2, 0.5, 2 * subjects), rng.standard_t(4, 2 * subjects)
        truth = scale[subject] * (own[subject] + rng.standard_t(4, subject.size))
        forecast = 0.4 * Z * rng.uniform(0.5, 2, (subject.size, 1))
        calibration, new = there & (subject < subjects), there & (subject >= subjects)
        params = calibrator.fit(forecast[calibration], truth[calibration], subject[calibration])
        adjusted, observed = np.asarray(calibrator.apply(params, forecast[None]))[0, new], truth[new]
        within = [(adjusted[:, i] <= observed) & (observed <= adjusted[:, -1 - i]) for i in (0, 1)]
        inside.append([np.average(one, weights=1 / visits[subject[new]]) for one in within])
    wide, narrow = np.mean(inside, axis=0)
    nominal = LEVELS[-1] - LEVELS[0], LEVELS[-2] - LEVELS[1]
    return {
        "coverage_90": float(wide),
        "coverage_50": float(narrow),
        "inside": bool(abs(wide - nominal[0]) <= 0.02 and abs(narrow - nominal[1]) <= 0.02),
    }


def main() -> None:
    """Run the studies, print a line per case and write the record."""
    args = _arguments()
    found = jax.tree.map(np.asarray, random_labels(args.seeds))
    gate = {"held out": "coverage", "folds": "over_folds"}
    cases = {f"labels, {name}": labels_case(*one, args.seeds, gate.get(name)) for name, one in found.items()}
    cases["equal forecasters"] = false_findings(np.asarray(equal_forecasters(args.simulations), np.float64))
    for calibrator in (Conformal(), ConformalQuantiles()):
        cases[type(calibrator).__name__] = conformal(calibrator, args.simulations)
    for name, case in cases.items():
        shown = "  ".join(f"{key.replace('_', ' ')} {x:.4f}" for key, x in case.items() if isinstance(x, float))
        print(f"{name:24} {shown}  {'' if 'inside' not in case else 'inside' if case['inside'] else 'outside'}")
    gated = [case["inside"] for case in cases.values() if "inside" in case]
    environment = {"device": jax.devices()[0].device_kind, "versions": {"jax": jax.__version__}}
    how = {"seeds": args.seeds, "simulations": args.simulations, "band": band(args.seeds)}
    measure.write(measure.record("null_calibration", environment, cases, **how) | {"ratio": float(np.mean(gated))})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.null_calibration", description="Calibration under the null."
    )
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--simulations", type=int, default=2000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
