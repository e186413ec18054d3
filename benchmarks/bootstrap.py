"""Time of 10,000 paired resamples of all metrics, for ten forecasters on a thousand subjects.

    python -m benchmarks.bootstrap [--peers] [--visits 1 3] [--resamples 10000]

Every metric of `framework.evaluate.metrics.registry` for a number, an event and three classes, with the jackknife
scores that the leaderboard needs. `--peers`: the same metrics by scikit-learn (and NumPy where it has none) in a loop
over resamples, on the same rows; `peer_ms` is the mean of a few resamples times their number. The first call, which
compiles, is reported apart. The ratio is that of the worst case. Writes results/bootstrap-<device>.json.
"""

import argparse
import time
import traceback
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import sklearn
from jaxtyping import Float, Int

from benchmarks import measure
from framework.evaluate.inference.bootstrap import scores
from framework.evaluate.metrics.registry import metrics_for
from framework.types import LEVELS, Categorical, Measured, Number

FORECASTERS, SUBJECTS = 10, 1000
TARGETS = {
    "number": Number("score", 0, "points"),
    "event": Categorical("stage", 1, ("0", "0.5", "1"), positive_from="0.5"),
    "classes": Categorical("diagnosis", 2, ("CN", "MCI", "AD")),
}


def simulate(
    target: Measured, visits: int
) -> tuple[Float[np.ndarray, "m 1 q p"], Float[np.ndarray, " q"], Int[np.ndarray, " q"]]:
    """Simulate forecasts of some skill, truths, and the subject of each."""
    rng, queries = np.random.default_rng(0), SUBJECTS * visits
    subject = np.repeat(np.arange(SUBJECTS), visits)
    if isinstance(target, Number):
        truth = rng.normal(25, 3, queries)
        return np.sort(rng.normal(truth[:, None], 2, (FORECASTERS, 1, queries, len(LEVELS)))), truth, subject
    truth = rng.integers(0, len(target.levels), queries)
    noise = rng.dirichlet(np.ones(len(target.levels)), (FORECASTERS, 1, queries))
    forecasts = noise + 0.5 * np.eye(len(target.levels))[truth]
    return forecasts / forecasts.sum(-1, keepdims=True), truth.astype(float), subject


def time_case(target: Measured, visits: int, args: argparse.Namespace) -> dict:
    """Time one case: the first call, later calls, and the peer."""
    forecasts, truth, subject = simulate(target, visits)
    metrics = metrics_for(target)

    def ours() -> None:
        key = jax.random.key(0)
        found = scores(metrics, forecasts, truth, subject, subjects=SUBJECTS, resamples=args.resamples, key=key)
        jax.block_until_ready(found)

    first = _seconds(ours)
    taken = np.array([_seconds(ours) for _ in range(args.rounds)])
    case = {
        "metrics": len(metrics),
        "queries": len(truth),
        "first_seconds": round(first, 3),
        "times": {"prognax": measure.summary(taken)},
    }
    if args.peers:
        from benchmarks.peers.bootstrap import resample  # a peer only

        rng = np.random.default_rng(1)
        loop = partial(resample, target, forecasts[:, 0], truth, subject, rng)
        case |= _time_peer(loop, args, float(np.median(taken)))
    return case


def _time_peer(loop: Callable[[], object], args: argparse.Namespace, ours: float) -> dict:
    """Measure the peer's milliseconds and the ratio, or record its failure."""
    try:
        peer = float(np.mean([_seconds(loop) for _ in range(args.loops + 1)][1:])) * args.resamples
    except Exception as error:
        traceback.print_exc()
        return {"failed": {"scikit-learn": " ".join(f"{type(error).__name__}: {error}".split())}}
    return {"peer": "scikit-learn", "peer_ms": round(1e3 * peer), "ratio": round(peer / ours, 1)}


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Time every target and number of visits, print a table and write the record."""
    args = _arguments()
    cases = {}
    for visits in args.visits:
        for name, target in TARGETS.items():
            case = cases[f"{name}, {visits} a subject"] = time_case(target, visits, args)
            peer = f"  scikit-learn {case['peer_ms'] / 1e3:.0f} s  ratio {case['ratio']:.0f}" if "peer" in case else ""
            shown = f"{case['times']['prognax']['median_ms'] / 1e3:6.2f} s  (first {case['first_seconds']:.1f} s)"
            print(f"{name:8} {visits} a subject  {case['metrics']:2} metrics  {shown}{peer}", flush=True)
    versions = {"jax": jax.__version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__}
    environment = {"device": jax.devices()[0].device_kind, "versions": versions}
    measure.write(measure.record("bootstrap", environment, cases, resamples=args.resamples, forecasters=FORECASTERS))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bootstrap", description="Time of the bootstrap.")
    parser.add_argument("--peers", action="store_true")
    parser.add_argument("--visits", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loops", type=int, default=5, help="resamples on which the peer is timed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
