"""Throughput, share of the peak and roofline of timed cases."""

from collections.abc import Iterator, Mapping

from matplotlib.axes import Axes

from benchmarks.cases import CASES
from framework.report.exhibits.roofline import Point, roofline
from framework.report.svg import Panel, Pen, logarithmic, panel


def panels(
    timed: Mapping[str, Mapping], rates: Mapping[str, float], drawn: Mapping[str, Pen], slug: str
) -> Iterator[Panel]:
    """Yield throughput where scans are counted, share of the peak and roofline where FLOPs are."""
    scans = {name: case.get("scans", getattr(CASES.get(name), "scans", None)) for name, case in timed.items()}
    speeds = {name: _speeds(case, scans[name]) for name, case in timed.items() if scans[name]}
    if speeds:
        yield _dots(f"{slug}-throughput", "Throughput", "scans a second", speeds, drawn, True)
    counted = {name: case for name, case in timed.items() if case.get("flops")}
    if not counted or not rates:
        return
    peak, bandwidth = rates["float32"], rates["memory"]
    shares = {name: _speeds(case, 100 * case["flops"] / peak) for name, case in counted.items()}
    yield _dots(f"{slug}-peak", "Share of the measured peak (MFU)", "%", shares, drawn, False)
    points = [
        Point(
            name if place == 0 else "",
            case["flops"] / case["bytes"],
            case["flops"] / (times["median_ms"] / 1e3),
            drawn[label].colour,
            drawn[label].mark,
        )
        for name, case in counted.items()
        for place, (label, times) in enumerate(case["times"].items())
    ]
    yield roofline(f"{slug}-roof", "Roofline", points, peak, bandwidth)


def _speeds(case: Mapping, amount: float) -> dict[str, tuple[float, float, float]]:
    """Convert an amount per call to rates per second: at the median and the quartiles of the time."""
    return {
        label: (amount / times["median_ms"] * 1e3, *(amount / ms * 1e3 for ms in times["spread_ms"][::-1]))
        for label, times in case["times"].items()
    }


def _dots(
    name: str,
    title: str,
    unit: str,
    rows: Mapping[str, Mapping[str, tuple[float, float, float]]],
    drawn: Mapping[str, Pen],
    decades: bool,
) -> Panel:
    """Draw a row per case with a mark per contender and quartiles as whiskers."""

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows.values()):
            for nth, (label, (middle, low, high)) in enumerate(row.items()):
                y, pen = place + 0.18 * (nth - (len(row) - 1) / 2), drawn[label]
                axes.plot([low, high], [y, y], color=pen.colour, linewidth=1)
                axes.plot(middle, y, marker=pen.mark, color=pen.colour, linestyle="none")
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(unit)
        if decades:
            logarithmic(axes, "x")
        else:
            axes.set_xlim(left=0)

    values = "; ".join(
        f"{case}: " + ", ".join(f"{label} {middle:.3g}" for label, (middle, *_) in row.items())
        for case, row in rows.items()
    )
    return panel(name, title, f"{title}, {unit}. {values}", draw, (4.2, 0.9 + 0.42 * len(rows)))
