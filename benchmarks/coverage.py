"""Do 95% intervals hold what they say: how often the subject-level interval covers the truth of a simulated study.

    python -m benchmarks.coverage [--simulations 2000] [--resamples 1000] [--subjects 30 50 200]

Subjects come one to eight times; what a forecaster gets wrong at one of a subject's visits it gets wrong at the others
too (correlation ½). The truth is known in closed form: the MAE of normal errors, and an AUC of normal scores. Beside
the intervals of `framework.evaluate.inference.bca_interval` stand plain percentiles, and what drawing visits instead of
subjects would have given. The band is where 99% of correct intervals' counts lie; the ratio is the share of the gated
cases (50 and 200 subjects) in it. Writes results/coverage-<device>.json.
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
APART = 1.0  # how far events score above the rest, in units of their spread
TRUTH = {"MAE": float(np.sqrt(2 / np.pi)), "AUC": float(stats.norm.cdf(APART / np.sqrt(2)))}
GATED = (50, 200)


def study(key: Key[Array, ""], subjects: int) -> tuple[Array, Array, Array, Array, Array]:
    """Which visits there are, their errors, and their scores with whether the event came; subjects × visits, flat."""
    keys = jax.random.split(key, 5)
    visits = jax.random.randint(keys[0], (subjects, 1), 1, VISITS + 1)
    there = (jnp.arange(VISITS) < visits).astype(float)
    own, each = jax.random.normal(keys[1], (2, subjects, 1)), jax.random.normal(keys[2], (2, subjects, VISITS))
    error, noise = (own + each) / jnp.sqrt(2)
    risk = jax.nn.sigmoid(jax.random.normal(keys[3], (subjects, 1)))
    came = (jax.random.uniform(keys[4], there.shape) < risk).astype(float)
    return tuple(x.reshape(-1) for x in (there, error, APART * came + noise, came))  # pyright: ignore


def drawn(key: Key[Array, ""], subjects: int, resamples: int, by_visit: bool) -> dict[str, Scores]:
    """One simulated study's scores, by subject or, wrongly, by visit."""
    there, error, score, came = study(jax.random.fold_in(key, 0), subjects)
    unit = jnp.arange(there.size) if by_visit else jnp.repeat(jnp.arange(subjects), VISITS)
    told = partial(
        scores,
        subject=unit,
        subjects=there.size if by_visit else subjects,
        resamples=resamples,
        key=jax.random.fold_in(key, 1),
        weight=there,
    )
    event = jax.nn.sigmoid(score)
    return {
        "MAE": told((MAE(),), jnp.zeros((1, 1, error.size, len(LEVELS))), error),
        "AUC": told((AUC(),), jnp.stack([1 - event, event], axis=1)[None, None], came),
    }


@partial(jax.jit, static_argnames=("simulations", "subjects", "resamples", "by_visit"))
def simulated(simulations: int, subjects: int, resamples: int, by_visit: bool = False) -> dict[str, Scores]:
    """Many studies, one after the other."""
    keys = jax.random.split(jax.random.key(subjects), simulations)
    return lax.map(lambda key: drawn(key, subjects, resamples, by_visit), keys)


def covered(found: Scores, truth: float, plain: bool = False) -> Float[np.ndarray, " s"]:
    """Whether each study's 95% interval holds the truth; `plain` percentiles."""
    value, draws, without = (np.asarray(x, np.float64)[..., 0, 0] for x in (found.value, found.draws, found.without))
    held = []
    for one in zip(value, draws, without, strict=True):
        spread = Spread.of(*one)
        ends = np.quantile(spread.draws, (0.025, 0.975)) if plain else spread.interval()
        held.append(ends[0] <= truth <= ends[1])
    return np.array(held, float)


def band(simulations: int, nominal: float = 0.95, share: float = 0.99) -> tuple[float, float]:
    """Where a share of the coverages lies that correct intervals show in so many studies."""
    low, high = stats.binom.ppf([(1 - share) / 2, (1 + share) / 2], simulations, nominal) / simulations
    return float(low), float(high)


def main() -> None:
    """Every number of subjects, a table and the record."""
    told = _arguments()
    low, high = band(told.simulations)
    cases = {}
    for subjects in told.subjects:
        by_subject = simulated(told.simulations, subjects, told.resamples)
        by_visit = simulated(min(200, told.simulations), subjects, told.resamples, by_visit=True)
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
    result = measure.record("coverage", environment, cases, simulations=told.simulations, band=[low, high])
    measure.write(result | {"ratio": float(np.mean(gated)) if gated else None})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description="Do intervals cover.")
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--subjects", type=int, nargs="+", default=[30, *GATED])
    return parser.parse_args()


if __name__ == "__main__":
    main()
