"""The roofline (Williams et al. 2009): what a program reaches, under what its machine allows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from framework.report.svg import INK, MUTED, Panel, logarithmic, panel


@dataclass(frozen=True)
class Point:
    """A program: its FLOPs a byte moved, the FLOP/s it reaches, and how it is drawn."""

    label: str
    intensity: float
    flops_per_second: float
    colour: str
    mark: str


def roofline(name: str, title: str, points: Sequence[Point], peak: float, bandwidth: float) -> Panel:
    """Points under the roof that a peak (FLOP/s) and a bandwidth (B/s) make; left of the ridge, memory binds."""
    ridge = peak / bandwidth
    low = min(ridge, *(point.intensity for point in points)) / 4
    high = max(ridge, *(point.intensity for point in points)) * 4

    def draw(axes: Axes) -> None:
        across = np.geomspace(low, high, 64)
        axes.plot(across, np.minimum(peak, across * bandwidth) / 1e9, color=INK, linewidth=1)
        axes.axvline(ridge, color=MUTED, linewidth=0.6, linestyle=(0, (3, 2)))
        for point in points:
            axes.plot(point.intensity, point.flops_per_second / 1e9, color=point.colour, marker=point.mark)
        logarithmic(axes, "x")
        logarithmic(axes, "y")
        _label(axes, points)
        axes.set_xlabel("FLOPs a byte")
        axes.set_ylabel("GFLOP/s")

    reached = ", ".join(f"{p.label}: {p.flops_per_second / 1e9:.3g} GFLOP/s at {p.intensity:.3g}" for p in points)
    says = f"Roofline of {peak / 1e9:.3g} GFLOP/s and {bandwidth / 1e9:.3g} GB/s. {reached}"
    return panel(name, title, says, draw, (4.2, 2.8), f"peak {peak / 1e9:,.0f} GFLOP/s, {bandwidth / 1e9:,.0f} GB/s")


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Each point's name beside it, those that would cover each other one above the other."""
    (left, right), (bottom, top) = np.log10(axes.get_xlim()), np.log10(axes.get_ylim())
    last = -1.0
    for point in sorted(points, key=lambda point: point.flops_per_second):
        if not point.label:
            continue
        x = (np.log10(point.intensity) - left) / (right - left)
        y = last = max((np.log10(point.flops_per_second / 1e9) - bottom) / (top - bottom), last + 0.06)
        aside, side = (0.02, "left") if x < 0.6 else (-0.02, "right")
        axes.text(x + aside, y, point.label, transform=axes.transAxes, fontsize=7, ha=side, va="center")
