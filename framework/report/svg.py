"""Figures as inline SVG that takes its colours and its typeface from the page, by day, by night and in print."""

import html
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Affine2D

# stand-ins that Matplotlib draws with and the page's CSS variables that take their place
INK, MUTED, RULE, PAPER = "#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04"
VARIABLES = {INK: "var(--ink)", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--paper)"}
MARKS = "osD^vPX*"

# by day and by night; after Okabe & Ito, whose hues the colour-blind tell apart, at contrasts of 3:1 and more
COLOURS = (
    ("#0067a5", "#6cb6f0"),
    ("#c8500a", "#f2955a"),
    ("#00805e", "#4fcfa6"),
    ("#a8487f", "#e79bc8"),
    ("#8a6d00", "#dcc04a"),
    ("#5b55b5", "#aaa3f5"),
    ("#b3323d", "#f28a90"),
    ("#2f7f8f", "#74c9d8"),
)
NEUTRALS = (("#6a6f78", "#a9afb9"), ("#94785a", "#cdb08c"), ("#80708f", "#b9aac8"))  # for reference forecasts

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "prognax",
    "text.parse_math": False,
    "font.size": 8.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
    "ytick.major.size": 0.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
}


@dataclass(frozen=True)
class Pen:
    """How a model is drawn everywhere on the page."""

    model: str
    index: int
    light: str
    dark: str
    mark: str

    @property
    def colour(self) -> str:
        return f"#0b{self.index:04x}"


@dataclass(frozen=True)
class Panel:
    """A small figure with the words that stand above it."""

    title: str
    svg: Markup
    note: str = ""


def pens(models: list[str], references: list[str]) -> dict[str, Pen]:
    """One pen a model: reference forecasts in neutral tones, the others in colours, and each with a mark of its own."""
    others = [model for model in models if model not in references]

    def pair(model: str) -> tuple[str, str]:
        place, tones = (references.index(model), NEUTRALS) if model in references else (others.index(model), COLOURS)
        return tones[place % len(tones)]

    return {model: Pen(model, i, *pair(model), MARKS[i % len(MARKS)]) for i, model in enumerate(models)}


def panel(
    name: str,
    title: str,
    says: str,
    draw: Callable[[Axes], None],
    size: tuple[float, float] = (3.2, 2.3),
    note: str = "",
) -> Panel:
    """One small figure; `name` must be unique on the page, `says` tells those who cannot see it what it shows.

    A page has many small panels rather than few large ones, so that they can stand in columns or below each other.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return Panel(title, _inline(text.getvalue(), name, says), note)


def standalone(figure: Panel, pens: Mapping[str, Pen]) -> str:
    """A figure as a file of its own, which brings the colours that a page would have."""
    tones = {"--ink": ("#1a1d21", "#e8eaed"), "--muted": ("#6a6f78", "#a9afb9"), "--rule": ("#d8dbe0", "#3a3f47")}
    tones |= {"--paper": ("#ffffff", "#16181c")} | {
        f"--model-{pen.index}": (pen.light, pen.dark) for pen in pens.values()
    }
    light, dark = (";".join(f"{name}:{pair[i]}" for name, pair in tones.items()) for i in (0, 1))
    style = f"<style>svg{{{light};background:var(--paper)}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    opening, rest = str(figure.svg).split(">", 1)
    return f'{opening} xmlns="http://www.w3.org/2000/svg" font-family="sans-serif">{style}{rest}\n'


def logarithmic(axes: Axes, which: Literal["x", "y"]) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 of each decade, or at the decades alone over many."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 300 else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())


def _inline(svg: str, name: str, says: str) -> Markup:
    """An SVG document as an element of the page: themed, named, its ids its own."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    opening = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(says)}">'
    svg = re.sub(r"<svg[^>]*>", lambda _: opening, svg, count=1)

    def tag(match: re.Match) -> str:
        text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", match[0]).replace("xlink:href", "href")
        text = re.sub(r"#0b([0-9a-f]{4})", lambda m: f"var(--model-{int(m[1], 16)})", text)
        return re.sub(r"#0a0a0\d", lambda m: VARIABLES[m[0]], text)

    return Markup(re.sub(r"<[^>]*>", tag, svg).strip())


def swatch(pen: Pen) -> Markup:
    """A model's mark for a legend outside the figures."""
    mark = MarkerStyle(pen.mark)
    outline = np.asarray(mark.get_path().transformed(mark.get_transform() + Affine2D().scale(10)).to_polygons()[0])
    points = " ".join(f"{x:.1f},{-y:.1f}" for x, y in outline)
    fill = f'<polygon points="{points}" fill="var(--model-{pen.index})"/>'
    return Markup(f'<svg viewBox="-8 -8 16 16" aria-hidden="true">{fill}</svg>')
