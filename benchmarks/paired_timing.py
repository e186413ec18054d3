"""Timing of a benchmark beside its peers, in turns: command line, timed cases, printed table and record."""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks import measure
from benchmarks.cases import CASES
from benchmarks.worker import Worker, peer_turns

SHARED = {"GLIBC_TUNABLES": measure.ALLOCATOR, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # both share one device


def main(task: str, more: Sequence[str], description: str) -> None:
    """Time the requested cases, print a table and write the record."""
    args = _arguments(task, more, description)
    onednn = "0" if args.plain else os.environ.get("PROGNAX_ONEDNN", "1")
    with ExitStack() as stack:
        ours = stack.enter_context(Worker("benchmarks.networks", {**SHARED, "PROGNAX_ONEDNN": onednn}))
        peer = stack.enter_context(Worker("benchmarks.peers.pytorch", SHARED)) if args.peers else None
        cases = {}
        for name in args.cases:
            cases[name] = time_case(ours, None if name in more else peer, task, name, args)
            print(_row(name, cases[name]), flush=True)
        result = measure.record(task, _environment(ours, peer), cases, **_settings(args, ours, peer))
    measure.write(result, "-plain" if args.plain else "")


def time_case(ours: Worker, peer: Worker | None, task: str, name: str, args: argparse.Namespace) -> dict:
    """Time the contenders of one case; return their times, the ratio of the fastest peer to ours, and failed peers."""
    labels, facts = ours.prepare(task, name)
    turns = {label: partial(ours.turn, label) for label in labels}
    failed: dict[str, str] = {}
    if peer is not None:
        turns |= peer_turns(peer, failed, task, name, compiled=not args.eager)[0]
    for turn in turns.values():
        turn(args.warmup)
    share = others_share([ours] if peer is None else [ours, peer])
    seconds = measure.interleave(turns, args.rounds, args.calls)
    seconds = {label: taken for label, taken in seconds.items() if label not in failed}
    times = {label: measure.summary(taken) for label, taken in seconds.items()}
    case: dict[str, Any] = {**facts, "times": times, "others_share": share()} | ({"failed": failed} if failed else {})
    if "flops" in facts:
        case["flops_per_second"] = facts["flops"] / (case["times"][labels[0]]["median_ms"] / 1e3)
    others = [label for label in seconds if label != labels[0]]
    if others:
        best = min(others, key=lambda label: case["times"][label]["median_ms"])
        case |= {"peer" if peer else "against": best, **measure.against(seconds[labels[0]], seconds[best])}
    return case


def others_share(workers: Sequence[Worker]) -> Callable[[], float | None]:
    """Start to measure the share of the cores that other processes use; the result is None where it is unknown.

    Above some 5% times are too long, most of all those of a program that waits for the slowest of its threads.
    """
    start, used, busy = time.perf_counter(), sum(w.used for w in workers), measure.busy()

    def share() -> float | None:
        now = measure.busy()
        if busy is None or now is None:
            return None
        others = now - busy - (sum(w.used for w in workers) - used)
        return round(others / (time.perf_counter() - start) / measure.cores(), 3)

    return share


def _arguments(task: str, more: Sequence[str], description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{task}", description=description)
    parser.add_argument("--peers", action="store_true", help="measure PyTorch in the same run, in turns")
    parser.add_argument("--eager", action="store_true", help="skip torch.compile, which takes a minute per case")
    parser.add_argument("--plain", action="store_true", help="without oneDNN, even where it is installed")
    parser.add_argument("--cases", nargs="+", choices=[*CASES, *more], default=[*CASES, *more])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=3, help="timed calls per turn, after an untimed one")
    parser.add_argument("--warmup", type=int, default=3, help="untimed calls before the first round")
    return parser.parse_args()


def _environment(ours: Worker, peer: Worker | None) -> dict:
    theirs = peer.environment["versions"] if peer else {}
    return {**ours.environment, "versions": {**ours.environment["versions"], **theirs}}


def _settings(args: argparse.Namespace, ours: Worker, peer: Worker | None) -> dict:
    """Settings of the measurement that affect its figures."""
    return {
        "warmup": args.warmup,
        "repeats": args.rounds * args.calls,
        "rounds": args.rounds,
        "native": ours.environment["native"],
        "allocator": SHARED["GLIBC_TUNABLES"],
        "peer_settings": peer.environment["settings"] if peer else None,
        "idle_seconds": round(max(ours.idle, peer.idle if peer else 0), 4),  # of processor time, in the worst pause
    }


def _row(name: str, case: Mapping) -> str:
    times = "  ".join(
        f"{label} {times['median_ms']:.1f} ms [{times['spread_ms'][0]:.1f}, {times['spread_ms'][1]:.1f}]"
        for label, times in case["times"].items()
    )
    ratio = f"  ratio {case['ratio']:.2f} {case['ratio_spread']}" if "ratio" in case else ""
    ratio += "".join(f"  {label} failed" for label in case.get("failed", ()))
    return f"{name:9} {times}{ratio}" + (f"  others {case['others_share']:.0%}" if case["others_share"] else "")
