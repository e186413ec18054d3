"""Report of all results as one self-contained page: tables, throughput, share of the peak, rooflines.

    python -m benchmarks.report [--results benchmarks/results] [--out benchmarks/results/report.html]

Reads every JSON file of the results folder and groups them by device. A case with `times` by contender is drawn; its
FLOPs and bytes (`framework.train.cost.flops`) are those of the mathematics, the same for all contenders. The peak is
`rates`, the best matrix product and copy measured on one such device.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.measure import RESULTS
from benchmarks.plots import panels
from framework.errors import UserError
from framework.report.page import environment
from framework.report.svg import Pen, pens, swatch

Table: TypeAlias = tuple[list[str], list[list[str]]]  # heads, rows
OURS = ("prognax", "vmap")  # contenders in colour; the others are grey


def main(results: Path, out: Path) -> None:
    """Write the page."""
    out.write_text(page(read(results)), encoding="utf-8")
    print(out)


def read(folder: Path) -> list[dict]:
    """Read the results of a folder, sorted by device and benchmark. Raises UserError for none, or for invalid JSON."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            result = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path} is no JSON ({error}); measure it again, or remove it") from error
        if isinstance(result, dict) and "benchmark" in result:
            found.append({**result, "cases": _named(result.get("cases", {})), "file": path.stem})
    if not found:
        raise UserError(f"{folder} holds no results; measure some first: python -m benchmarks.step")
    return sorted(found, key=lambda result: (device(result), result["benchmark"], result["file"]))


def device(result: Mapping) -> str:
    """Return the device of a result: a CPU by its model and cores, any other by its kind."""
    kind, machine = str(result.get("device", "unknown device")), result.get("machine", {})
    if kind != "cpu" or "processor" not in machine:
        return kind
    return f"{machine['processor']}, {machine['cores']} cores"


def page(results: Sequence[Mapping]) -> str:
    """Return the page of results, which are sorted by device."""
    cases = [case for one in results for case in one["cases"].values() if _is_timed(case)]
    labels = dict.fromkeys(label for case in cases for label in case["times"])
    drawn = pens(list(labels), [label for label in labels if label not in OURS])
    groups = [(name, list(group)) for name, group in groupby(results, key=device)]
    devices = [_device(name, group, drawn, f"d{i}") for i, (name, group) in enumerate(groups)]
    return (
        environment(Path(__file__).parent)
        .get_template("benchmarks.html")
        .render(devices=devices, pens=list(drawn.values()))
    )


def _device(name: str, results: Sequence[Mapping], drawn: Mapping[str, Pen], slug: str) -> dict:
    rates = max((one.get("rates") or {} for one in results), key=lambda rates: rates.get("float32", 0))
    parts = [_benchmark(one, rates, drawn, f"{slug}-b{i}") for i, one in enumerate(results)]
    return {"name": name, "slug": slug, "rates": rates, "benchmarks": parts}


def _benchmark(result: Mapping, rates: Mapping[str, float], drawn: Mapping[str, Pen], slug: str) -> dict:
    timed = {name: case for name, case in result["cases"].items() if _is_timed(case)}
    labels = list(dict.fromkeys(label for case in timed.values() for label in case["times"]))
    tables = [_times(timed, labels), *_work(timed, rates)] if timed else [_plain(result["cases"])]
    known = {**result.get("machine", {}), **result}
    facts = {key: known[key] for key in ("native", "commit", "measured", "repeats", "command") if known.get(key)}
    versions = ", ".join(f"{package} {version}" for package, version in (result.get("versions") or {}).items())
    facts |= {"versions": versions} if versions else {}
    title = f"{result['benchmark']}, plain" if result["file"].endswith("-plain") else result["benchmark"]
    ratio = result.get("ratio")
    return {
        "title": title,
        "slug": slug,
        "ratio": None if ratio is None else f"{ratio:.2f}",
        "cases": len(result["cases"]),
        "pens": [(drawn[label], swatch(drawn[label])) for label in labels],
        "panels": list(panels(timed, rates, drawn, slug)),
        "tables": tables,
        "facts": facts,
    }


def _times(timed: Mapping[str, Mapping], labels: Sequence[str]) -> Table:
    def row(case: Mapping) -> Iterator[str]:
        for label in labels:
            times = case["times"].get(label)
            yield _interval(times["median_ms"], times["spread_ms"], 1) if times else "–"
        yield _interval(case["ratio"], case.get("ratio_spread"), 2) if "ratio" in case else "–"
        yield f"{case['compile_seconds']:.2f}" if "compile_seconds" in case else "–"

    head = ["case", *(f"{label} (ms)" for label in labels), "ratio", "compiling (s)"]
    return head, [[name, *row(case)] for name, case in timed.items()]


def _work(timed: Mapping[str, Mapping], rates: Mapping[str, float]) -> Iterator[Table]:
    def row(case: Mapping) -> Iterator[str]:
        flops, moved = case["flops"], case["bytes"]
        reached = flops / (next(iter(case["times"].values()))["median_ms"] / 1e3)
        yield from (f"{flops / 1e9:,.2f}", f"{moved / 1e6:,.0f}", f"{flops / moved:.1f}", f"{reached / 1e9:,.1f}")
        if rates:
            yield f"{reached / rates['float32']:.0%}"
            yield "compute" if flops / moved > rates["float32"] / rates["memory"] else "memory"

    counted = {name: case for name, case in timed.items() if case.get("flops")}
    if counted:
        head = ["case", "GFLOP", "MB", "FLOPs a byte", "GFLOP/s", *(["of peak", "bound by"] if rates else [])]
        yield head, [[name, *row(case)] for name, case in counted.items()]


def _plain(cases: Mapping[str, Any]) -> Table:
    """Table of cases without times."""
    rows = {name: dict(_flat(case)) for name, case in cases.items()}
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    return ["case", *(key or "value" for key in keys)], [
        [name, *(row.get(key, "–") for key in keys)] for name, row in rows.items()
    ]


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from _flat(part, f"{key} {name}".strip())
    elif isinstance(value, list):
        yield key, "–".join(text for part in value for _, text in _flat(part))
    else:
        yield key, f"{value:,.4g}" if isinstance(value, float) else "–" if value is None else str(value)


def _named(cases: Any) -> dict[str, Any]:
    """Return cases by name, from a mapping or a list."""
    if isinstance(cases, Mapping):
        return dict(cases)
    return {str(case.pop("name", place)): case for place, case in enumerate(map(dict, cases))}


def _is_timed(case: Any) -> bool:
    return isinstance(case, Mapping) and bool(case.get("times"))


def _interval(middle: float, spread: Sequence[float] | None, places: int) -> str:
    text = f"{middle:,.{places}f}"
    return f"{text} [{spread[0]:,.{places}f}, {spread[1]:,.{places}f}]" if spread else text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="All results on one page.")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--out", type=Path, default=RESULTS / "report.html")
    args = parser.parse_args()
    try:
        main(args.results, args.out)
    except UserError as error:
        sys.exit(str(error))
