"""The report: one page that explains a run and needs nothing but itself."""

import re
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined, select_autoescape

from framework.evaluate.outcomes import Outcomes
from framework.report import cost, fairness, survival
from framework.report import run as runs
from framework.report.comparison import cells, differences, sentence, values
from framework.report.drawing import Pen, pens, swatch
from framework.report.examples import trajectories
from framework.report.horizon import by_horizon
from framework.report.learning import curves
from framework.report.reliability import calibration
from framework.report.run import Run

LONGEST = 1000  # lines of the ledger that the page holds; all of them are in ledger.csv


def build(folder: Path) -> Path:
    """Write `report.html` from what lies in a run folder. Raises UserError where it is not that of a finished run."""
    run = runs.read(folder)
    drawn = pens(run.models, run.floors)
    page = (
        environment()
        .get_template("report.html")
        .render(
            run=run,
            manifest=run.manifest,
            pens=[(pen, swatch(pen)) for pen in drawn.values()],
            targets=[_target(run, one, drawn, f"t{i}") for i, one in enumerate(run.outcomes)],
            undefined=_undefined(run),
            subgroups=fairness.tables(run.groups),
            cost={
                "tables": cost.tables(run.cost or {}),
                "roof": cost.roof(run.cost or {}, drawn),
                "uncounted": cost.uncounted(run.cost or {}),
                "device": cost.device(run.cost or {}) or run.manifest["device"]["kind"],
            },
            learning=None if run.learning is None else curves(run.learning, drawn),
            ledger=_ledger(run),
            missing=_missing(run),
        )
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def environment(*folders: Path) -> Environment:
    """How pages are rendered; templates of these folders may take parts of the report's."""
    made = Environment(
        loader=ChoiceLoader([FileSystemLoader(folders), PackageLoader("framework.report", "templates")]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["minus"] = lambda text: re.sub(r"(?<!\w)-(?=\d)", "−", text)
    return made


def _target(run: Run, one: Outcomes, drawn: dict[str, Pen], name: str) -> dict:
    metrics, shown = run.metrics(one.target.name), run.shown(one.target.name)
    panels = [differences(metrics[0], drawn, floor, name) for floor in run.floors]
    return {
        "name": one.target.name,
        "units": None if one.target.levels or one.target.horizons or one.target.units == "1" else one.target.units,
        "levels": one.target.levels,
        "horizons": one.target.horizons,
        "pairs": len(one.truth),
        "subjects": len(one.subjects),
        "sentence": sentence(metrics[0], run.floors),
        "forest": [values(metrics[0], drawn, name), *(panel for panel in panels if panel)],
        "table": [cells(rows, run.floors) for rows in metrics],
        "shown": shown,
        **(_of_event if one.target.horizons else _of_variable)(run, one, shown, drawn, name),
    }


def _of_variable(run: Run, one: Outcomes, shown: str, drawn: dict[str, Pen], name: str) -> dict:
    return {
        "examples": [] if run.history is None else trajectories(one, run.history, shown, run.floors, drawn, name),
        "calibration": calibration(one, drawn, name),
        "horizon": by_horizon(one, drawn, name),
    }


def _of_event(run: Run, one: Outcomes, shown: str, drawn: dict[str, Pen], name: str) -> dict:
    models = [drawn[model] for model in one.forecasts]
    return {
        "examples": survival.curves(one, shown, run.floors, drawn, name),
        "calibration": [survival.calibration(one, pen, f"{name}-{pen.index}") for pen in models],
        "horizon": survival.by_horizon(one, drawn, name),
    }


def _undefined(run: Run) -> list[str]:
    """Which metrics some resamples left undefined, in words."""
    worst = {}
    for row in run.rows:
        worst[row.target, row.metric] = max(row.undefined, worst.get((row.target, row.metric), 0))
    return [f"{metric} of {target} ({count} of {run.resamples})" for (target, metric), count in worst.items() if count]


def _ledger(run: Run) -> dict | None:
    if run.ledger is None:
        return None
    counts = run.ledger.value_counts(["item", "status"], sort=False).unstack(fill_value=0)
    statuses = [status for status in ("used", "missing", "excluded") if status in counts]
    # subjects and visits first, then what was missing or excluded at them
    items = sorted(counts.index, key=lambda item: (item not in ("subject", "visit"), item))
    told = run.ledger.loc[run.ledger["status"] != "used"]
    return {
        "statuses": statuses,
        "counts": [(item, [int(counts.loc[item, status]) for status in statuses]) for item in items],
        "told": told.head(LONGEST).to_dict("records"),
        "total": len(told),
    }


def _missing(run: Run) -> list[str]:
    parts = {
        "trajectories (history.csv)": run.history,
        "learning curves (metrics.jsonl)": run.learning,
        "the ledger (ledger.csv)": run.ledger,
        "costs (cost.json)": run.cost,
        "the configuration (config.yaml)": run.config,
    }
    return [name for name, part in parts.items() if part is None]
