"""Coverage of 95% subject-level bootstrap intervals in simulated studies.

    python -m benchmarks.coverage [--simulations 2000] [--resamples 1000] [--subjects 30 50 200]

Subjects have one to eight visits; a forecaster's errors at the visits of a subject have correlation ½. The truth is
known in closed form: the MAE of normal errors, and an AUC of normal scores. The intervals of
`framework.evaluate.inference.bca_interval` are compared with plain percentiles, and with resampling visits instead of
subjects. The band contains 99% of the coverages of correct intervals; the ratio is the share of the gated cases (50 and
200 subjects) in it. Writes results/coverage-<device>.json.
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
from framework.evaluate.inference.bca_interval import Spread
from framework.evaluate.inference.bootstrap import Scores, scores
from framework.evaluate.metrics.ranking import AUC
from framework.evaluate.metrics.regression import MAE
from framework.types import LEVELS

VISITS = 8
SEPARATION = 1.0  # of the scores of events from the others, in standard deviations
TRUTH = {"MAE": float(np.sqrt(2 / np.pi)), "AUC": float(stats.norm.cdf(SEPARATION / np.sqrt(2)))}
GATED = (50, 200)


def study(key: Key[Array, ""], subjects: int) -> tuple[Array, Array, Array, Array, Array]:
    """Simulate attended visits, errors, scores and events; subjects × visits, flat."""
    keys = jax.random.split(key, 5)
    visits = jax.random.randint(keys[0], (subjects, 1), 1, VISITS + 1)
    there = (jnp.arange(VISITS) < visits).astype(float)
    by_subject, by_visit = (
        jax.random.normal(keys[1], (2, subjects, 1)),
        jax.random.normal(keys[2], (2, subjects, VISITS)),
    )
    error, noise = (by_subject + by_visit) / jnp.sqrt(2)
    risk = jax.nn.sigmoid(jax.random.normal(keys[3], (subjects, 1)))
    came = (jax.random.uniform(keys[4], there.shape) < risk).astype(float)
    return tuple(x.reshape(-1) for x in (there, error, SEPARATION * came + noise, came))  # pyright: ignore


def drawn(key: Key[Array, ""], subjects: int, resamples: int, by_visit: bool) -> dict[str, Scores]:
    """Scores of one simulated study, resampled by subject or, wrongly, by visit."""
    there, error, score, came = study(jax.random.fold_in(key, 0), subjects)
    unit = jnp.arange(there.size) if by_visit else jnp.repeat(jnp.arange(subjects), VISITS)
    score_with = partial(
        scores,
        subject=unit,
        subjects=there.size if by_visit else subjects,
        resamples=resamples,
        key=jax.random.fold_in(key, 1),
        weight=there,
    )
    event = jax.nn.sigmoid(score)
    return {
        "MAE": score_with((MAE(),), jnp.zeros((1, 1, error.size, len(LEVELS))), error),
        "AUC": score_with((AUC(),), jnp.stack([1 - event, event], axis=1)[None, None], came),
    }


@partial(jax.jit, static_argnames=("simulations", "subjects", "resamples", "by_visit"))
def simulated(simulations: int, subjects: int, resamples: int, by_visit: bool = False) -> dict[str, Scores]:
    """Simulate many studies, one after the other."""
    keys = jax.random.split(jax.random.key(subjects), simulations)
    return lax.map(lambda key: drawn(key, subjects, resamples, by_visit), keys)


def covered(found: Scores, truth: float, plain: bool = False) -> Float[np.ndarray, " s"]:
    """Whether each study's 95% interval contains the truth; with `plain`, the percentile interval."""
    value, draws, without = (np.asarray(x, np.float64)[..., 0, 0] for x in (found.value, found.draws, found.without))
    held = []
    for one in zip(value, draws, without, strict=True):
        spread = Spread.of(*one)
        ends = np.quantile(spread.draws, (0.025, 0.975)) if plain else spread.interval()
        held.append(ends[0] <= truth <= ends[1])
    return np.array(held, float)


def band(simulations: int, nominal: float = 0.95, share: float = 0.99) -> tuple[float, float]:
    """Return the band that contains a share of the coverages of correct intervals over so many studies."""
    low, high = stats.binom.ppf([(1 - share) / 2, (1 + share) / 2], simulations, nominal) / simulations
    return float(low), float(high)


def main() -> None:
    """Simulate every number of subjects, print a table and write the record."""
    args = _arguments()
    low, high = band(args.simulations)
    cases = {}
    for subjects in args.subjects:
        by_subject = simulated(args.simulations, subjects, args.resamples)
        by_visit = simulated(min(200, args.simulations), subjects, args.resamples, by_visit=True)
        for name, truth in TRUTH.items():
            case = {
                "coverage": float(covered(by_subject[name], truth).mean()),
                "percentile": float(covered(by_subject[name], truth, plain=True).mean()),
                "by_visit": float(covered(by_visit[name], truth).mean()),
            }
            case["inside"] = bool(low <= case["coverage"] <= high)
            cases[f"{name}, {subjects} subjects"] = case
            shown = "  ".join(f"{key.replace('_', ' ')} {100 * case[key]:.2f}%" for key in list(case)[:3])
            print(f"{name}  {subjects:4} subjects  {shown}  {'inside' if case['inside'] else 'outside'}", flush=True)
    gated = [case["inside"] for name, case in cases.items() if int(name.split()[1]) in GATED]
    environment = {"device": jax.devices()[0].device_kind, "versions": {"jax": jax.__version__}}
    result = measure.record("coverage", environment, cases, simulations=args.simulations, band=[low, high])
    measure.write(result | {"ratio": float(np.mean(gated)) if gated else None})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description="Coverage of intervals.")
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--subjects", type=int, nargs="+", default=[30, *GATED])
    return parser.parse_args()


if __name__ == "__main__":
    main()
