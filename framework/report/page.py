"""The report: one page that explains a run and needs nothing but itself."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, assert_never

import pandas as pd
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from framework.evaluate.outcomes import Outcomes
from framework.evaluate.terminal_table import compared, reasons
from framework.files import write_atomic
from framework.report import finished_run as runs
from framework.report import tables
from framework.report.finished_run import Run
from framework.report.methods import bibliography
from framework.report.methods import text as methods
from framework.report.sections import (
    calibration,
    cost,
    explorer,
    horizon,
    metric_tables,
    participants,
    selected_hyperparameters,
    subgroup_tables,
    survival,
)
from framework.report.sections.comparison import differences, sentence, values
from framework.report.sections.learning import curves
from framework.report.sections.trajectories import trajectories
from framework.report.svg import Pen, pens, swatch
from framework.report.tables import Cell, Table, words
from framework.report.tripod import tripod_items
from framework.types import Categorical, Event, Number

LONGEST = 1000  # lines of the ledger that the page holds; all of them are in ledger.csv


def build(folder: Path) -> Path:
    """Write `report.html`, and beside it its tables, methods and references, from what lies in a run folder.

    Raises UserError where it is not that of a finished run.
    """
    run = runs.read(folder)
    drawn = pens(run.models, run.floors)
    written = methods.section(run)
    told = {
        "targets": [_target(run, one, drawn, f"t{i}") for i, one in enumerate(run.outcomes)],
        "overall": metric_tables.overall({one.target.name: run.metrics(one.target.name)[0] for one in run.outcomes}),
        "subgroups": subgroup_tables.tables(run.groups),
        "participants": participants.table(run.participants) if run.participants else None,
        "ledger": _ledger(run),
        "checks": checks(run.certificate),
        "checklist": tripod_items.table(run, written),
        "chosen": selected_hyperparameters.table(run.chosen) if run.chosen else None,
        "cost": _cost(run, drawn),
        "methods": _methods(written),
    }
    page = (
        environment()
        .get_template("report.html")
        .render(
            run=run,
            manifest=run.manifest,
            pens=[(pen, swatch(pen)) for pen in drawn.values()],
            undefined=_undefined(run),
            warnings=[
                f"{model}: {note}" for model, notes in run.manifest.get("warnings", {}).items() for note in notes
            ],
            learning=None if run.learning is None else curves(run.learning, drawn),
            missing=_missing(run),
            **_explorer(run, drawn),
            **told,
        )
    )
    tables.write(list(_tables(told)), folder / "tables")
    for name, _, text in told["methods"]["files"]:
        write_atomic(folder / name, text)
    path = folder / "report.html"
    write_atomic(path, page)
    return path


def _tables(told: Any) -> Iterator[Table]:
    """Every table that the page shows, wherever it stands."""
    if isinstance(told, Table):
        yield told
    elif isinstance(told, Mapping | list):
        for one in told.values() if isinstance(told, Mapping) else told:
            yield from _tables(one)


def environment(*folders: Path) -> Environment:
    """How pages are rendered; templates of these folders may take parts of the report's."""
    made = Environment(
        loader=ChoiceLoader([FileSystemLoader(folders), PackageLoader("framework.report", "templates")]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["data_uri"] = tables.data_uri
    made.filters["minus"] = lambda text: re.sub(r"(?<!\w)-(?=\d)", "−", text)
    return made


def _target(run: Run, one: Outcomes, drawn: dict[str, Pen], name: str) -> dict:
    metrics, shown = run.metrics(one.target.name), run.shown(one.target.name)
    panels = [differences(metrics[0], drawn, floor, name) for floor in run.floors]
    return {
        "name": one.target.name,
        "units": one.units,
        "levels": one.levels,
        "horizons": one.target.horizons if isinstance(one.target, Event) else (),
        "pairs": len(one.truth),
        "subjects": len(one.subjects),
        "compared": compared(metrics[0]),
        "reasons": reasons(metrics),
        "sentence": sentence(metrics[0], run.floors),
        "forest": [values(metrics[0], drawn, name), *(panel for panel in panels if panel)],
        "metrics": metric_tables.metrics(one.target.name, metrics, run.floors),
        "shown": shown,
        **_figures(run, one, shown, drawn, name),
    }


def _figures(run: Run, one: Outcomes, shown: str, drawn: dict[str, Pen], name: str) -> dict:
    match one.target:
        case Number() | Categorical():
            return _of_variable(run, one, shown, drawn, name)
        case Event():
            return _of_event(run, one, shown, drawn, name)
        case _:
            assert_never(one.target)


def _of_variable(run: Run, one: Outcomes, shown: str, drawn: dict[str, Pen], name: str) -> dict:
    errors = horizon.horizons(one, run.resampling)
    return {
        "examples": [] if run.history is None else trajectories(one, run.history, shown, run.floors, drawn, name),
        "calibration": calibration.calibration(one, drawn, name, run.resampling),
        "calibration_table": calibration.table(one, run.resampling),
        "horizon": horizon.by_horizon(one, errors, drawn, name),
        "horizon_table": horizon.table(one, errors),
    }


def _of_event(run: Run, one: Outcomes, shown: str, drawn: dict[str, Pen], name: str) -> dict:
    models, errors = [drawn[model] for model in one.forecasts], survival.horizons(one, run.resampling)
    return {
        "examples": survival.curves(one, shown, run.floors, drawn, name),
        "calibration": [survival.calibration(one, pen, f"{name}-{pen.index}", run.resampling) for pen in models],
        "calibration_table": survival.calibration_table(one, run.resampling),
        "horizon": horizon.by_horizon(one, errors, drawn, name),
        "horizon_table": horizon.table(one, errors),
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
    rows = [[Cell(item), *(Cell(str(counts.loc[item, status] or "")) for status in statuses)] for item in items]
    data = counts.loc[items, statuses].reset_index()
    return {
        "counts": Table("ledger", "Counts of the ledger", ("Item", *statuses), rows, data),
        "told": told.head(LONGEST).to_dict("records"),
        "total": len(told),
    }


def checks(certificate: Mapping | None) -> Table | None:
    """The checks of a run's certificate, where it has one."""
    if not certificate:
        return None
    rows = [(one["name"], "yes" if one["holds"] else "no", one["found"]) for one in certificate["checks"]]
    head = ("Check", "Holds", "Found")
    return Table(
        "certificate",
        "Checks of the certificate",
        head,
        [words(*row) for row in rows],
        pd.DataFrame(rows, columns=[name.lower() for name in head]),
        words=3,
    )


def _cost(run: Run, drawn: dict[str, Pen]) -> dict:
    costs = run.cost or {}
    return {
        "tables": cost.tables(costs),
        "roof": cost.roof(costs, drawn),
        "uncounted": cost.uncounted(costs),
        "device": cost.device(costs) or run.manifest["device"]["kind"],
    }


def _methods(written: list[methods.Part]) -> dict:
    """The paragraphs for readers, and as files for authors."""
    guideline = "[@collins2024]"
    entries = bibliography.mentioned([*(part.text for part in written), guideline])
    bibtex = "\n".join(entry.bibtex for entry in entries)
    plain = "\n\n".join(f"## {part.title}\n\n{part.text}" for part in written) + "\n"
    latex = "\n\n".join(
        f"\\paragraph{{{tables.escaped(part.title)}.}} {bibliography.as_latex(part.text, tables.escaped)}"
        for part in written
    )
    return {
        "parts": [
            (part, [bibliography.as_html(text, entries) for text in part.text.split("\n\n")]) for part in written
        ],
        "guideline": bibliography.as_html(guideline, entries),
        "references": entries,
        "bibtex": bibtex,
        "files": [
            ("methods.md", "text/markdown", plain),
            ("methods.tex", "text/x-tex", latex + "\n"),
            ("references.bib", "text/x-bibtex", bibtex),
        ],
    }


def _explorer(run: Run, drawn: dict[str, Pen]) -> dict:
    found = explorer.explorer(run.outcomes, run.history, [run.shown(one.target.name) for one in run.outcomes])
    if found is None:
        return {"explorer": None}
    places = {"pens": {pen.model: pen.index for pen in drawn.values()}}
    return {"explorer": found, "explorer_data": Markup(explorer.as_script(found | places))}


def _missing(run: Run) -> list[str]:
    parts = {
        "trajectories (history.csv)": run.history,
        "learning curves (metrics.jsonl)": run.learning,
        "the ledger (ledger.csv)": run.ledger,
        "participants (participants.json)": run.participants,
        "costs (cost.json)": run.cost,
        "the configuration (config.yaml)": run.config,
    }
    return [name for name, part in parts.items() if part is None]
