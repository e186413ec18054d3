"""Do the study's inferences find nothing where there is nothing, and hold what they promise.

    python -m benchmarks.null_calibration [--seeds 1000] [--simulations 2000]

- random labels: subjects of four visits whose labels are drawn by chance, and a kernel smoother. The 95% interval of
  the AUC should hold ½ as often as it says: on half of the subjects held out, and pooled over five subject-wise folds,
  each with its mean AUC; beside them a visit-wise split, in which a subject's other visits give its label away. Pooled
  folds train on each other's subjects, so any two subjects' likeness counts twice; the corrected t-test over folds
  (`framework.evaluate.inference.corrected_ttest`) allows for it, and its share of intervals that hold ½ stands there.
- equal forecasters: least squares on either of two features that are as good, five times five folds: how often the
  corrected t-test finds a difference at 5%, and how often the plain one does.
- conformal intervals: on 50 subjects of one to eight visits set aside, quantiles told too narrow, errors with heavy
  tails whose size is the subject's own: the share of new subjects' visits inside, subjects counting alike.

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
LIKENESS = 0.5  # spread of a subject's visits around its own place, in units of that of the places
Z = stats.norm.ppf(LEVELS)


def smoothed(likeness: Float[Array, "q q"], label: Float[Array, " q"], train: Float[Array, " q"]) -> Float[Array, " q"]:
    """The mean label of the training visits, weighted by how like they are."""
    weight = likeness * train
    return weight @ label / weight.sum(axis=1)


def by_chance(key: Key[Array, ""], resamples: int) -> dict[str, tuple[Scores, Float[Array, " f"]]]:
    """The AUCs of one seed's random labels in three designs, and those of their folds."""
    place, near, order, drawn, visitwise = jax.random.split(key, 5)
    own = jnp.repeat(jax.random.normal(place, (SUBJECTS, FEATURES)), VISITS, axis=0)
    x = own + LIKENESS * jax.random.normal(near, own.shape)
    likeness = jnp.exp(-((x[:, None] - x) ** 2).sum(-1) / FEATURES)
    subject = jnp.repeat(jnp.arange(SUBJECTS), VISITS)
    shuffled = jax.random.permutation(order, SUBJECTS)
    label = (shuffled % 2)[subject].astype(float)
    fold = (shuffled // 2 % FOLDS)[subject]  # stratified by label
    half = (shuffled // 2 % 2)[subject]
    split_visits = jax.random.permutation(visitwise, subject.size) % FOLDS

    def told(fold: Array, folds: int) -> tuple[Array, Array]:
        masks = (fold == jnp.arange(folds)[:, None]).astype(float)
        each = jax.vmap(lambda mask: smoothed(likeness, label, 1 - mask))(masks)
        return (each * masks).sum(axis=0), masks

    def judged(event: Array, weight: Array) -> Scores:
        forecast = jnp.stack([1 - event, event], axis=1)[None, None]
        return scores(
            (AUC(),), forecast, label, subject, subjects=SUBJECTS, resamples=resamples, key=drawn, weight=weight
        )

    found = {}
    for name, of, folds in (("held out", half, 2), ("folds", fold, FOLDS), ("visit-wise folds", split_visits, FOLDS)):
        event, masks = told(of, folds)
        ready = AUC().prepare(jnp.stack([1 - event, event], axis=1), label)
        weight = masks[0] if name == "held out" else jnp.ones_like(event)
        found[name] = judged(event, weight), jax.vmap(partial(AUC().score, ready))(masks)
    return found


@partial(jax.jit, static_argnames=("seeds", "resamples"))
def random_labels(seeds: int, resamples: int = 1000) -> dict[str, tuple[Scores, Float[Array, "s f"]]]:
    """Many seeds, one after the other."""
    return lax.map(lambda key: by_chance(key, resamples), jax.random.split(jax.random.key(0), seeds))


def labels_case(found: Scores, by_fold: Float[np.ndarray, "s f"], seeds: int, gated: str | None) -> dict:
    """How often ½ is held, by the subject-level interval and over the folds, and the mean AUC."""
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
    """Differences in mean absolute error over repeated folds of two forecasters that are as good."""

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
    """The share of studies in which each t-test finds a difference at 5%."""
    told = np.array([corrected(one, 1.0, FOLDS - 1.0)[2] for one in gaps])
    plain = stats.ttest_1samp(gaps, 0, axis=1).pvalue
    case = {"corrected": float((told < 0.05).mean()), "plain": float((plain < 0.05).mean())}
    return case | {"inside": case["corrected"] <= 0.06}


def conformal(calibrator: Calibrator, simulations: int, subjects: int = 50) -> dict:
    """Coverage of the widest and the inner interval on new subjects."""
    rng, inside = np.random.default_rng(2), []
    subject = np.repeat(np.arange(2 * subjects), 8)
    for _ in range(simulations):
        visits = rng.integers(1, 9, 2 * subjects)
        there = (np.arange(8) < visits[:, None]).ravel()
        scale, own = rng.gamma(2, 0.5, 2 * subjects), rng.standard_t(4, 2 * subjects)
        truth = scale[subject] * (own[subject] + rng.standard_t(4, subject.size))
        told = 0.4 * Z * rng.uniform(0.5, 2, (subject.size, 1))
        aside, new = there & (subject < subjects), there & (subject >= subjects)
        params = calibrator.fit(told[aside], truth[aside], subject[aside])
        moved, came = np.asarray(calibrator.apply(params, told[None]))[0, new], truth[new]
        within = [(moved[:, i] <= came) & (came <= moved[:, -1 - i]) for i in (0, 1)]
        inside.append([np.average(one, weights=1 / visits[subject[new]]) for one in within])
    wide, narrow = np.mean(inside, axis=0)
    nominal = LEVELS[-1] - LEVELS[0], LEVELS[-2] - LEVELS[1]
    return {
        "coverage_90": float(wide),
        "coverage_50": float(narrow),
        "inside": bool(abs(wide - nominal[0]) <= 0.02 and abs(narrow - nominal[1]) <= 0.02),
    }


def main() -> None:
    """Every study, a line each, and the record."""
    told = _arguments()
    found = jax.tree.map(np.asarray, random_labels(told.seeds))
    gate = {"held out": "coverage", "folds": "over_folds"}
    cases = {f"labels, {name}": labels_case(*one, told.seeds, gate.get(name)) for name, one in found.items()}
    cases["equal forecasters"] = false_findings(np.asarray(equal_forecasters(told.simulations), np.float64))
    for calibrator in (Conformal(), ConformalQuantiles()):
        cases[type(calibrator).__name__] = conformal(calibrator, told.simulations)
    for name, case in cases.items():
        shown = "  ".join(f"{key.replace('_', ' ')} {x:.4f}" for key, x in case.items() if isinstance(x, float))
        print(f"{name:24} {shown}  {'' if 'inside' not in case else 'inside' if case['inside'] else 'outside'}")
    gated = [case["inside"] for case in cases.values() if "inside" in case]
    environment = {"device": jax.devices()[0].device_kind, "versions": {"jax": jax.__version__}}
    how = {"seeds": told.seeds, "simulations": told.simulations, "band": band(told.seeds)}
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
