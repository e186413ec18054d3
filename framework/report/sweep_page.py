"""A sweep on one page: what each setting did to the validation loss, what failed, what it cost."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import t as student

from framework.digests import check
from framework.errors import UserError
from framework.files import write_atomic
from framework.report.page import environment
from framework.report.svg import INK, MUTED, Panel, logarithmic, panel, pens

REPEATS = ("seed", "split.fold", "split.seed")  # jobs that differ in these alone are repeats of each other
BEST = 5  # settings drawn in colour
PROGRAM = ("python", "-m", "experiments.forecast")  # of a sweep that does not say
MOST = 8  # values of a number that have a median each; more share it with their neighbours


@dataclass(frozen=True)
class Job:
    """One job: its settings, its validation loss (None where it failed or validated on none), the reason of failure."""

    number: int
    program: tuple[str, ...]
    overrides: tuple[str, ...]
    settings: Mapping[str, str]
    value: float | None
    run: str | None
    failed: str | None
    seconds: float | None
    compiling: float | None

    @property
    def command(self) -> str:
        """The command that runs the job alone."""
        return shlex.join([*self.program, *self.overrides])


@dataclass(frozen=True)
class Standing:
    """One setting of all but the repeats: the mean loss, its 95% interval over repeats by Student's t, the jobs."""

    settings: Mapping[str, str]
    mean: float
    low: float | None
    high: float | None
    jobs: int


def build(folder: Path, rows: Sequence[Mapping]) -> Path:
    """Write `report.html` into a sweep's folder from its jobs' lines. Raises UserError where no job has ended."""
    jobs = [_job(row) for row in rows]
    if not jobs:
        raise UserError(f"no job of the sweep {folder} has ended yet; wait, or start it again")
    varied = [key for key in _keys(jobs) if len({job.settings.get(key) for job in jobs}) > 1]
    valued = sorted((job for job in jobs if job.value is not None), key=lambda job: job.value or 0.0)
    pen, ranked = pens(["best"], [])["best"], standings(valued, varied)
    asked = [key for key in varied if key not in REPEATS]
    known = [job for job in jobs if job.seconds is not None]
    seconds = sum(job.seconds or 0 for job in known)
    page = (
        environment()
        .get_template("sweep.html")
        .render(
            folder=folder,
            jobs=jobs,
            varied=varied,
            numeric={key: _numbers([job.settings for job in jobs], key) is not None for key in varied},
            fixed={key: value for key, value in jobs[0].settings.items() if key not in varied},
            standings=ranked,
            best=valued[0] if valued else None,
            failed=[job for job in jobs if job.failed is not None],
            parallel=_parallel(ranked, asked) if asked and len(ranked) > 1 else None,
            responses=[_response(valued, key) for key in asked] if len(valued) > 1 else [],
            pens=[pen],
            seconds=seconds,
            counted=len(known),
            compiling=sum(job.compiling or 0 for job in known) / seconds if seconds else None,
        )
    )
    path = folder / "report.html"
    write_atomic(path, page)
    return path


def standings(jobs: Sequence[Job], varied: Sequence[str]) -> list[Standing]:
    """The settings by their mean loss over seeds and folds, the best first."""
    groups: dict[tuple, list[Job]] = {}
    keys = [key for key in varied if key not in REPEATS]
    for job in jobs:
        groups.setdefault(tuple(job.settings.get(key, "") for key in keys), []).append(job)
    made = []
    for values, members in groups.items():
        losses = np.array([job.value for job in members], float)
        half = None
        if len(losses) > 1:
            half = float(student.ppf(0.975, len(losses) - 1) * losses.std(ddof=1) / np.sqrt(len(losses)))
        mean = float(losses.mean())
        interval = (None, None) if half is None else (mean - half, mean + half)
        made.append(Standing(dict(zip(keys, values, strict=True)), mean, *interval, len(losses)))
    return sorted(made, key=lambda one: one.mean)


def _job(row: Mapping) -> Job:
    settings = dict(_pair(override) for override in row["overrides"])
    seconds = compiling = None
    cost = Path(row["run"]) / "cost.json" if row["run"] else None
    if cost is not None and cost.parent.is_dir():
        check(cost.parent, cost.name)
        costs = json.loads(cost.read_text()).values()
        seconds = sum(one["seconds"] / one["members"] for one in costs)
        compiling = sum(one["compile_seconds"] / one["members"] for one in costs)
    program, overrides = tuple(row.get("command", PROGRAM)), tuple(row["overrides"])
    return Job(row["job"], program, overrides, settings, row["value"], row["run"], row["failed"], seconds, compiling)


def _pair(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def _keys(jobs: Sequence[Job]) -> list[str]:
    return list(dict.fromkeys(key for job in jobs for key in job.settings))


def _numbers(settings_of: Sequence[Mapping[str, str]], key: str) -> np.ndarray | None:
    """A setting as numbers; None where it is not one in each of them."""
    try:
        return np.array([float(settings[key]) for settings in settings_of])
    except (KeyError, ValueError):
        return None


def _spans_decades(numbers: np.ndarray) -> bool:
    return bool(numbers.min() > 0 and numbers.max() / numbers.min() >= 30)


def _parallel(ranked: Sequence[Standing], keys: Sequence[str]) -> Panel:
    """One line a setting through its values to its mean loss, the best in colour."""
    settings_of = [one.settings for one in ranked]
    losses = np.array([one.mean for one in ranked])
    ends = [(0.0, f"{losses.min():.3g}"), (1.0, f"{losses.max():.3g}")]
    scales = [_heights(settings_of, key) for key in keys] + [((losses - losses.min()) / (np.ptp(losses) or 1.0), ends)]

    def draw(axes: Axes) -> None:
        for place in reversed(range(len(ranked))):
            colour, width, alpha = (COLOUR, 1.6, 1.0) if place < BEST else (MUTED, 0.6, 0.6)
            line = [heights[place] for heights, _ in scales]
            axes.plot(range(len(line)), line, color=colour, linewidth=width, alpha=alpha)
        for x, (_, marks) in enumerate(scales):
            axes.axvline(x, color=INK, linewidth=0.8, ymin=1 / 12, ymax=11 / 12)
            for height, text in marks:
                shift, across, along = PLACED.get(
                    height, ((-4, 0), "right", "center") if x == 0 else ((4, 0), "left", "center")
                )
                axes.annotate(
                    text, (x, height), shift, textcoords="offset points", color=INK, fontsize=7, ha=across, va=along
                )
        axes.set_xticks(range(len(scales)), [*(key.split(".")[-1] for key in keys), "mean loss"])
        axes.tick_params(length=0, pad=6)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        axes.set(ylim=(-0.1, 1.1), xlim=(-0.3, len(scales) - 0.7))

    says = f"parallel coordinates of {len(ranked)} settings over {', '.join(keys)}; the best is {dict(settings_of[0])}"
    note = f"the best {min(BEST, len(ranked))} in colour"
    return panel("parallel", "Every setting", says, draw, (8.2, 2.9), note)


def _heights(settings_of: Sequence[Mapping[str, str]], key: str) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Where each line crosses a setting's axis, and what to write at which height."""
    numbers = _numbers(settings_of, key)
    if numbers is None:
        names = sorted({settings.get(key, "–") for settings in settings_of})
        order = {name: i / max(1, len(names) - 1) for i, name in enumerate(names)}
        heights = np.array([order[settings.get(key, "–")] for settings in settings_of])
        return heights, [(order[name], name) for name in names]
    scale = np.log(numbers) if _spans_decades(numbers) else numbers
    height = (scale - scale.min()) / (np.ptp(scale) or 1.0)
    return height, [(0.0, f"{numbers.min():.3g}"), (1.0, f"{numbers.max():.3g}")]


def _response(jobs: Sequence[Job], key: str) -> Panel:
    """The loss against one setting: each job a dot, and medians of each value, or of neighbours where it has many."""
    losses, settings_of = np.array([job.value for job in jobs], float), [job.settings for job in jobs]
    numbers = _numbers(settings_of, key)
    names = sorted({settings.get(key, "–") for settings in settings_of})

    def draw(axes: Axes) -> None:
        x = np.array([names.index(s.get(key, "–")) for s in settings_of], float) if numbers is None else numbers
        axes.plot(x, losses, "o", color=MUTED, markersize=2.5, alpha=0.6, markeredgewidth=0)
        middle = np.array([(np.median(x[some]), np.median(losses[some])) for some in _neighbours(x)])
        if numbers is None:
            axes.hlines(middle[:, 1], middle[:, 0] - 0.25, middle[:, 0] + 0.25, color=COLOUR, linewidth=1.8)
            axes.set_xticks(range(len(names)), names)
            axes.set_xlim(-0.6, len(names) - 0.4)
        else:
            axes.plot(*middle.T, "o-", color=COLOUR, markersize=3.5)
            if _spans_decades(numbers):
                logarithmic(axes, "x")
        axes.set_ylabel("validation loss")

    return panel(f"by-{key}", key, f"validation loss against {key}", draw)


def _neighbours(x: np.ndarray) -> list[np.ndarray]:
    """Which jobs share a median: those of one value, or of one of MOST equal parts where there are more values."""
    values = np.unique(x)
    if len(values) <= MOST:
        return [x == value for value in values]
    return [np.isin(x, part) for part in np.array_split(values, MOST)]


PLACED = {0.0: ((0, -4), "center", "top"), 1.0: ((0, 4), "center", "bottom")}  # beyond the ends of an axis
BESIDE = (((-4, 0), "right", "center"), ((4, 0), "left", "center"))  # the first axis, and others
COLOUR = pens(["best"], [])["best"].colour
