"""Time that estimators take to fit and to predict, beside scikit-learn, LightGBM and XGBoost.

    python -m benchmarks.baselines [--peers] [--cases forest-2k svc-grid] [--rounds 5] [--scaling] [--memory]

`forest-*`: 500 trees, fully grown, 100 columns, three classes. `boosting-*`: 100 rounds of trees of 31 leaves, 100
columns, two classes; the peer is the fastest of the three. `svc-*`: an SVM with RBF kernel, three classes on 100
columns, or two on 50. `svc-grid`: 25 pairs of C and gamma in five folds on 1,000 × 50, against GridSearchCV on all
cores, whose scores it reproduces. Fits are timed after compilation, from the user's NumPy table on; `first_seconds` is
the first fit of the process, with compilation. `... predict` predicts 10,000 rows. The ratio is the peer's time over
ours; it is 0 where our loss on 10,000 held-out rows is more than 1% above the peer's: log loss (for boosting, its mean
over eight tables), hinge loss or error rate for SVMs, the error of the best score for the grid. `--scaling` times our
fits alone as rows, columns and trees grow; `--memory` is the peak resident memory of a fresh process that fits a forest
of 500 trees on 100,000 × 100. Neither counts in the ratio. Writes results/baselines-<device>.json, or, with an empty
`--cases`, results/baselines-<device>-scaling.json.
"""

import argparse
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

import numpy as np

from benchmarks import measure
from benchmarks.measure import Turn
from benchmarks.paired_timing import SHARED, others_share
from benchmarks.tables import CASES
from benchmarks.worker import Worker, peer_turns

OURS, PREDICT = "prognax", " predict"
SLOW = 0.5  # s; above it a turn is one call, whose cold caches do not matter
WORSE = 1.01  # of the peer's loss; an estimator whose loss is larger does not count as faster
SCALING = {
    "forest rows": [f"forest:{rows}:100:3:100" for rows in (1_000, 3_000, 10_000, 30_000)],
    "forest columns": [f"forest:10000:{columns}:3:100" for columns in (25, 50, 100, 200)],
    "forest trees": [f"forest:10000:100:3:{trees}" for trees in (50, 100, 200, 400)],
    "boosting rows": [f"boosting:{rows}:100:2:100" for rows in (1_000, 10_000, 100_000)],
    "boosting columns": [f"boosting:10000:{columns}:2:100" for columns in (25, 50, 100, 200)],
    "svc rows": [f"svc:{rows}:50:2:0" for rows in (1_000, 2_000, 4_000, 8_000)],
}
LARGE = "forest:100000:100:3:500"


def main() -> None:
    """Time the requested cases, print a table and write the record."""
    args = _arguments()
    with ExitStack() as stack:
        ours = stack.enter_context(Worker("benchmarks.estimator_cases", SHARED))
        peer = stack.enter_context(Worker("benchmarks.peers.estimator_cases", SHARED)) if args.peers else None
        cases = {}
        for name in args.cases:
            for row, case in time_case(ours, peer, name, args.rounds).items():
                cases[row] = case
                print(_row(row, case), flush=True)
        more = {"scaling": scaling(ours)} if args.scaling else {}
        environment = ours.environment
        if peer:
            versions = {**environment["versions"], **peer.environment["versions"]}
            environment = {**environment, "versions": versions, "peer_settings": peer.environment["settings"]}
    if args.memory:
        more["memory"] = memory()
    how = {"rounds": args.rounds, "native": environment["native"], "allocator": SHARED["GLIBC_TUNABLES"]}
    settings = environment.get("peer_settings")
    result = measure.record("baselines", environment, cases, peer_settings=settings, **how, **more)
    measure.write(result, "" if cases else "-scaling")


def time_case(ours: Worker, peer: Worker | None, name: str, rounds: int) -> dict[str, dict]:
    """Time the fits of a case and, as a second row, its predictions, each beside the fastest peer."""
    labels, facts = ours.prepare("fit", name)
    turns = {label: partial(ours.turn, label) for label in labels}
    losses, _ = facts.pop("losses"), facts.pop("peak_bytes")
    failed: dict[str, str] = {}
    if peer is not None:
        theirs, facts_of_peer = peer_turns(peer, failed, "fit", name)
        turns |= theirs
        losses |= facts_of_peer.get("losses", {})
    share = others_share([ours] if peer is None else [ours, peer])
    rows = {}
    for suffix in ("", PREDICT):
        chosen = {label: turn for label, turn in turns.items() if label.endswith(PREDICT) == bool(suffix)}
        if chosen:
            rows[name + suffix] = _timed(chosen, rounds, suffix, losses, failed) | (facts if not suffix else {})
    # the processes of GridSearchCV would be counted as others
    return rows if "GridSearchCV" in turns else {row: case | {"others_share": share()} for row, case in rows.items()}


def _timed(
    turns: Mapping[str, Turn], rounds: int, suffix: str, losses: Mapping[str, float], failed: Mapping[str, str]
) -> dict:
    slow = {label: turn(1)[0] > SLOW for label, turn in turns.items()}
    fair = {label: _single(turn) if slow[label] else turn for label, turn in turns.items()}
    seconds = measure.interleave(fair, rounds, calls=1 if any(slow.values()) else 3)
    seconds = {label: taken for label, taken in seconds.items() if label not in failed}
    names = {label: label.removesuffix(suffix) for label in turns}
    times = {names[label]: measure.summary(taken) for label, taken in seconds.items()}
    case = {"times": times, "losses": {name: round(loss, 5) for name, loss in losses.items()}}
    if failed:
        case["failed"] = dict(failed)
    others = [label for label in seconds if names[label] != OURS]
    if others:
        best = min(others, key=lambda label: np.median(seconds[label]))
        case |= {"peer": names[best], **measure.against(seconds[OURS + suffix], seconds[best])}
        if losses[OURS] > WORSE * losses[names[best]]:
            case |= {"ratio": 0.0, "ratio_of_times": case["ratio"]}
    return case


def _single(turn: Turn) -> Turn:
    """Skip the call whose time would be discarded."""
    return lambda calls: [np.nan, *turn(calls - 1)]


def scaling(ours: Worker) -> dict[str, dict[str, float]]:
    """Measure the fastest of three fits after compilation, in milliseconds, as one size grows."""
    found = {}
    for size_name, names in SCALING.items():
        found[size_name] = {}
        for name in names:
            label = ours.prepare("time", name)[0][0]
            found[size_name][name] = round(min(ours.turn(label, 3)) * 1e3, 1)
        times = list(found[size_name].values())
        sizes = [np.prod([int(size) for size in name.split(":")[1:] if size != "0"]) for name in names]
        power = np.polyfit(np.log(sizes), np.log(times), 1)[0]
        print(f"{size_name:17} {' '.join(f'{time:.0f}' for time in times)} ms, power {power:.2f}", flush=True)
        found[size_name]["power"] = round(float(power), 2)
    return found


def memory() -> dict:
    """Measure the peak resident bytes of a fresh process with default settings that fits one large forest."""
    with Worker("benchmarks.estimator_cases", dict.fromkeys(SHARED, "")) as alone:
        facts = alone.prepare("time", LARGE)[1]
    print(f"{LARGE}: {facts['peak_bytes'] / 1e9:.2f} GB, {facts['first_seconds']} s", flush=True)
    return {LARGE: {key: facts[key] for key in ("peak_bytes", "first_seconds")}}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.baselines", description="Times of estimators.")
    parser.add_argument("--peers", action="store_true", help="measure the peers in the same run, in turns")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scaling", action="store_true", help="growth of times with rows, columns and trees")
    parser.add_argument("--memory", action="store_true", help="memory of a forest on 100,000 × 100")
    return parser.parse_args()


def _row(name: str, case: Mapping) -> str:
    parts = [f"{label} {_times(taken)}" for label, taken in case["times"].items()]
    if "ratio" in case:
        worse = f" (of times {case['ratio_of_times']:.2f}, but worse)" if "ratio_of_times" in case else ""
        parts.append(f"ratio {case['ratio']:.2f} [{', '.join(f'{end:.2f}' for end in case['ratio_spread'])}]{worse}")
    if "first_seconds" in case:
        parts.append(f"first {case['first_seconds']:.1f} s")
    parts.append("loss " + ", ".join(f"{label} {loss:.4f}" for label, loss in case["losses"].items()))
    if case.get("others_share"):
        parts.append(f"others {case['others_share']:.0%}")
    return f"{name:22} {'  '.join(parts)}"


def _times(taken: Mapping) -> str:
    return f"{taken['median_ms']:.1f} ms [{taken['spread_ms'][0]:.1f}, {taken['spread_ms'][1]:.1f}]"


if __name__ == "__main__":
    main()
