"""A sweep on one page: what each setting did to the validation loss, what failed, what it cost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from scipy.stats import t as student

from framework.errors import UserError
from framework.report.drawing import INK, MUTED, Panel, logarithmic, panel, pens
from framework.report.html import environment

REPEATS = ("seed", "split.fold", "split.seed")  # jobs that differ in these alone are repeats of each other
BEST = 5  # jobs drawn in colour


@dataclass(frozen=True)
class Job:
    """One job: what it set, its validation loss (None where it failed or nobody validated), why it failed."""

    number: int
    settings: Mapping[str, str]
    value: float | None
    run: str | None
    failed: str | None
    seconds: float | None
    compiling: float | None

    @property
    def command(self) -> str:
        """What runs it alone."""
        return " ".join(["python -m experiments.forecast", *(f"{key}={value}" for key, value in self.settings.items())])


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
    pen = pens(["best"], [])["best"]
    figures = (
        [_parallel(valued, varied), *(_response(valued, key) for key in varied if key not in REPEATS)]
        if len(valued) > 1
        else []
    )
    known = [job for job in jobs if job.seconds is not None]
    seconds = sum(job.seconds or 0 for job in known)
    page = (
        environment()
        .get_template("sweep.html")
        .render(
            folder=folder,
            jobs=jobs,
            varied=varied,
            fixed={key: value for key, value in jobs[0].settings.items() if key not in varied},
            standings=standings(valued, varied),
            best=valued[0] if valued else None,
            failed=[job for job in jobs if job.failed is not None],
            figures=figures,
            pens=[pen],
            seconds=seconds,
            compiling=sum(job.compiling or 0 for job in known) / seconds if seconds else None,
        )
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
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
    if cost is not None and cost.exists():
        costs = json.loads(cost.read_text()).values()
        seconds = sum(one["seconds"] / one["members"] for one in costs)
        compiling = sum(one["compile_seconds"] / one["members"] for one in costs)
    return Job(row["job"], settings, row["value"], row["run"], row["failed"], seconds, compiling)


def _pair(override: str) -> tuple[str, str]:
    key, _, value = override.partition("=")
    return key.lstrip("+~"), value


def _keys(jobs: Sequence[Job]) -> list[str]:
    return list(dict.fromkeys(key for job in jobs for key in job.settings))


def _numbers(jobs: Sequence[Job], key: str) -> list[float] | None:
    try:
        return [float(job.settings[key]) for job in jobs]
    except (KeyError, ValueError):
        return None


def _spans_decades(numbers: Sequence[float]) -> bool:
    return min(numbers) > 0 and max(numbers) / min(numbers) >= 30


def _parallel(jobs: Sequence[Job], varied: Sequence[str]) -> Panel:
    """One line a job through its settings to its loss, the best in colour."""
    axes_of = [(key, *_heights(jobs, key)) for key in varied]
    losses = np.array([job.value for job in jobs], float)
    span = np.ptp(losses) or 1.0

    def draw(axes: Axes) -> None:
        for place in reversed(range(len(jobs))):
            line = [heights[place] for _, heights, _ in axes_of] + [(losses[place] - losses.min()) / span]
            colour, width = (COLOUR, 1.4) if place < BEST else (MUTED, 0.4)
            axes.plot(range(len(line)), line, color=colour, linewidth=width)
        for x, (_, _, ends) in enumerate(axes_of):
            for height, text in ends:
                axes.annotate(text, (x, height), fontsize=6, color=INK, ha="center", va="bottom")
        axes.set_xticks(range(len(axes_of) + 1), [*(key.split(".")[-1] for key, _, _ in axes_of), "loss"])
        axes.set_yticks([])

    says = f"parallel coordinates of {len(jobs)} jobs over {', '.join(varied)}; the best set {jobs[0].settings}"
    return panel("parallel", "All jobs", says, draw, (6.4, 2.6), f"the best {min(BEST, len(jobs))} in colour")


def _heights(jobs: Sequence[Job], key: str) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Where each job's line crosses a setting's axis, and what to write at which height."""
    numbers = _numbers(jobs, key)
    names = sorted({job.settings.get(key, "–") for job in jobs})
    if numbers is None:
        order = {name: i / max(1, len(names) - 1) for i, name in enumerate(names)}
        return np.array([order[job.settings.get(key, "–")] for job in jobs]), [(order[name], name) for name in names]
    scale = np.log(numbers) if _spans_decades(numbers) else np.array(numbers)
    height = (scale - scale.min()) / (np.ptp(scale) or 1.0)
    return height, [(0.0, f"{min(numbers):g}"), (1.0, f"{max(numbers):g}")]


def _response(jobs: Sequence[Job], key: str) -> Panel:
    """The loss against one setting, each job a dot, and their median at each value."""
    losses, numbers = np.array([job.value for job in jobs], float), _numbers(jobs, key)
    names = sorted({job.settings.get(key, "–") for job in jobs})

    def draw(axes: Axes) -> None:
        x = np.array(numbers if numbers is not None else [names.index(job.settings.get(key, "–")) for job in jobs])
        axes.plot(x, losses, "o", color=MUTED, markersize=2.5, alpha=0.6)
        middle = [(value, np.median(losses[x == value])) for value in np.unique(x)]
        axes.plot(*zip(*middle, strict=True), color=COLOUR)
        if numbers is None:
            axes.set_xticks(range(len(names)), names)
        elif _spans_decades(numbers):
            logarithmic(axes, "x")
        axes.set_ylabel("validation loss")

    return panel(f"by-{key}", key, f"validation loss against {key}", draw, note="dots: jobs; line: their median")


COLOUR = pens(["best"], [])["best"].colour
