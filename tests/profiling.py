"""Processor time, compilation and memory of every test, as a table.

    python -m pytest -n 2 --dist worksteal -p tests.profiling --profile-to=profile.json
    python -m tests.profiling profile.json

The first command runs the suite and records, for each test with its fixtures, the processor seconds of the worker and
of the processes it started, the seconds spent in tracing, lowering and compiling, the number of programs compiled, and
the worker's resident memory afterwards. The second prints the sums by folder, the costliest tests and the programs that
cost most to compile.
"""

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from tests.memory import resident

STAGES = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lower",
    "/jax/core/compile/backend_compile_duration": "compile",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--profile-to", type=Path, help="the file that receives the cost of every test")


def pytest_configure(config: pytest.Config) -> None:
    target = config.getoption("--profile-to")
    if target is None:
        return
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", default=None):
        config.pluginmanager.register(_Recorder(), "profile_recorder")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Collector(target), "profile_collector")


class _Recorder:
    """Measures each test in the process that runs it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.programs: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0.0])

    def pytest_collection_finish(self) -> None:
        import jax.monitoring  # after the environment of conftest.py is set

        jax.monitoring.register_event_duration_secs_listener(self._event)

    def _event(self, event: str, duration: float, **details) -> None:
        stage = STAGES.get(event)
        if stage is None:
            return
        self.seconds[stage] += duration
        if stage == "compile":
            record = self.programs[str(details.get("fun_name", "unnamed"))]
            record[0] += 1
            record[1] += duration

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        self.seconds.clear()
        self.programs.clear()
        item.stash[START] = _processor_seconds()
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo):
        report = yield
        if call.when == "teardown":
            cost = {
                "processor": _processor_seconds() - item.stash[START],
                "worker": os.environ.get("PYTEST_XDIST_WORKER", "main"),
                "resident": resident(),
                "programs": {name: list(record) for name, record in self.programs.items()},
                **self.seconds,
            }
            report.user_properties.append(("cost", cost))
        return report


START = pytest.StashKey[float]()


class _Collector:
    """Gathers the costs of all workers and writes them."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.costs: dict[str, dict] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self.costs[report.nodeid] = dict(report.user_properties)["cost"]

    def pytest_sessionfinish(self) -> None:
        self.target.write_text(json.dumps(self.costs))


def _processor_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main(file: str) -> None:
    """Print the tables of a recorded suite."""
    costs = json.loads(Path(file).read_text())
    print(_row("folder", ("tests", "processor s", "trace s", "lower s", "compile s", "programs", "peak MB")))
    _print_groups(costs, lambda name: "/".join(name.split("::")[0].split("/")[:2]))
    print("\n" + _row("file", ("tests", "processor s", "trace s", "lower s", "compile s", "programs", "peak MB")))
    _print_groups(costs, lambda name: name.split("::")[0], most=40)
    print("\n" + _row("test", ("tests", "processor s", "trace s", "lower s", "compile s", "programs", "peak MB")))
    _print_groups(costs, lambda name: name, most=60)
    programs: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for cost in costs.values():
        for name, (count, seconds) in cost["programs"].items():
            programs[name][0] += count
            programs[name][1] += seconds
    print("\n" + _row("program", ("compiled", "seconds")))
    for name, (count, seconds) in sorted(programs.items(), key=lambda item: -item[1][1])[:40]:
        print(_row(name, (f"{count:.0f}", f"{seconds:.1f}")))


def _print_groups(costs: Mapping[str, dict], group, most: int = 1000) -> None:
    groups: defaultdict[str, list[dict]] = defaultdict(list)
    for name, cost in costs.items():
        groups[group(name)].append(cost)
    ranked = sorted(groups.items(), key=lambda item: -sum(cost["processor"] for cost in item[1]))
    for name, members in [*ranked[:most], ("all", list(costs.values()))]:
        print(_row(name, _sums(members)))


def _sums(costs: Iterable[Mapping]) -> tuple[str, ...]:
    costs = list(costs)
    sums = [sum(cost.get(key, 0.0) for cost in costs) for key in ("processor", "trace", "lower", "compile")]
    programs = sum(record[0] for cost in costs for record in cost["programs"].values())
    return (
        str(len(costs)),
        *(f"{value:.1f}" for value in sums),
        f"{programs:.0f}",
        f"{max(cost['resident'] for cost in costs) / 1e6:.0f}",
    )


def _row(name: str, cells: Iterable[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main(sys.argv[1])
