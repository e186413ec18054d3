"""Timing of contenders in turns, and the record of a benchmark.

Contenders take turns, round after round, so that load and temperature of the machine affect all of them equally. The
first call of a turn has cold caches and is discarded; every other round reverses the order. Times are medians over all
calls, spreads are quartiles; a ratio is the peer's median over ours, and its spread that of the ratios round by round.
"""

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"
REST = 0.1  # s between turns; OpenMP's threads go on spinning for some 20 ms after their work
# Allocation is a large part of a step on a CPU: without these settings, glibc returns every large buffer to the kernel
# and requests it again, page by page. They act at the start of a process, and apply to all contenders.
ALLOCATOR = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592"

Turn = Callable[[int], list[float]]  # number of calls -> seconds of each


def interleave(turns: Mapping[str, Turn], rounds: int, calls: int, rest: float = REST) -> dict[str, np.ndarray]:
    """Time the contenders in turns; return the seconds of each, (rounds, calls)."""
    taken: dict[str, list[list[float]]] = {name: [] for name in turns}
    for number in range(rounds):
        for name in list(turns)[:: -1 if number % 2 else 1]:
            time.sleep(rest)
            taken[name].append(turns[name](1 + calls)[1:])
    return {name: np.array(seconds) for name, seconds in taken.items()}


def summary(seconds: np.ndarray) -> dict:
    """Return median, quartiles and the fastest call, in milliseconds."""
    low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75)) * 1e3
    return {
        "median_ms": round(middle, 3),
        "spread_ms": [round(low, 3), round(high, 3)],
        "fastest_ms": round(seconds.min() * 1e3, 3),
    }


def against(ours: np.ndarray, peer: np.ndarray) -> dict:
    """Return the peer's time over ours, and the quartiles of that ratio by round."""
    by_round = np.median(peer, axis=1) / np.median(ours, axis=1)
    low, high = np.quantile(by_round, (0.25, 0.75))
    return {
        "ratio": round(float(np.median(peer) / np.median(ours)), 3),
        "ratio_spread": [round(float(low), 3), round(float(high), 3)],
    }


def record(benchmark: str, environment: Mapping, cases: Mapping[str, Mapping], **more: object) -> dict:
    """Return the record of a benchmark; its ratio is that of the worst case with a peer, or None."""
    ratios = [case["ratio"] for case in cases.values() if "peer" in case]
    return {
        "benchmark": benchmark,
        "device": environment["device"],
        "ratio": min(ratios, default=None),
        "cases": dict(cases),
        **more,
        "versions": environment["versions"],
        "machine": machine(),
        "rates": environment.get("rates"),  # best measured FLOP/s by type and B/s of one device
        "commit": commit(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def write(result: Mapping, suffix: str = "") -> Path:
    """Write a result to results/<benchmark>-<device><suffix>.json and print it as the last line."""
    device = re.sub(r"[^a-z0-9]+", "-", str(result["device"]).lower()).strip("-")
    path = RESULTS / f"{result['benchmark']}-{device}{suffix}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(result, ensure_ascii=False))
    return path


def machine() -> dict:
    """Return the properties of the machine that affect speed."""
    return {
        "cores": cores(),
        "processor": _processor(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def busy() -> float | None:
    """Return the processor seconds that all processes of this machine have used, or None outside Linux."""
    try:
        user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    except OSError:
        return None
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def commit() -> str | None:
    """Return the commit, with `+` where the tree has uncommitted changes; None outside a repository."""
    here = Path(__file__).parent
    try:
        name = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True).stdout
        command = ["git", "status", "--porcelain", "--untracked-files=no", "--", ":/framework", ":/benchmarks/*.py"]
        changed = subprocess.run(command, cwd=here, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return name.strip()[:12] + ("+" if changed.strip() else "")
