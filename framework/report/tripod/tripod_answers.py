"""Answers of a run to the items of a reporting checklist; None where the run cannot know.

Each takes the run and the titles of the methods that were written of it.
"""

import re
from typing import assert_never

from framework.evaluate.leaderboard import Estimate
from framework.evaluate.terminal_table import bracketed, decimals, heading
from framework.report.exhibits import participants, subgroup_tables
from framework.report.finished_run import Run
from framework.report.methods.text import kind, listed, outcome
from framework.types import Categorical, Event, Number


def objective(run: Run, methods: set[str]) -> str:
    """Which models are developed, and what they forecast."""
    models = [model for model in run.models if model not in run.references]
    references = f", beside {listed(run.references)} as reference forecasts" if run.references else ""
    targets = listed([one.target.name for one in run.outcomes])
    evaluated = "their evaluation on subjects left out"
    return f"Development of {listed(models)}{references}, and {evaluated}, forecasting {targets}."


def source(run: Run, methods: set[str]) -> str:
    """The cohort."""
    data = run.manifest["data"]
    return f"{data['name']}: the same cohort for development and evaluation, fingerprint {data['fingerprint'][:16]}."


def dates(run: Run, methods: set[str]) -> str | None:
    """From when to when."""
    if not run.participants:
        return None
    days, longest = run.participants["dates"], run.participants["groups"][0]["longest"]
    when = f"Visits from {days[0]} to {days[1]}" if days else "Visits without dates"
    return f"{when}, up to {longest:.1f} years after the first."


def centres(run: Run, methods: set[str]) -> str | None:
    """How many sites or scanners."""
    groups = [v for v in (run.participants or {"variables": []})["variables"] if "group" in v["roles"] and v["levels"]]
    return "; ".join(f"{len(v['levels'])} levels of {v['name']}" for v in groups) or None


def eligibility(run: Run, methods: set[str]) -> str | None:
    """Whom the ingest left out, and why."""
    if run.ledger is None:
        return None
    out = run.ledger.loc[run.ledger["status"] == "excluded"]
    reasons = [f"{reason} ({count})" for reason, count in out["reason"].value_counts().head(5).items()]
    if not reasons:
        return "No subject of the source was excluded by the ingest."
    return f"Excluded by the ingest, with the commonest reasons: {'; '.join(reasons)}."


def preparation(run: Run, methods: set[str]) -> str:
    """Checks of every value."""
    found = run.certificate and next((c for c in run.certificate["checks"] if c["name"] == "two ids"), None)
    checked = "each value was checked against its variable's levels, or its bounds where declared, when it was ingested"
    return f"By the framework, alike for all subjects: {checked}." + (f" Twins: {found['found']}." if found else "")


def defined(run: Run, methods: set[str]) -> str:
    """The targets."""
    return f"Outcomes: {'; '.join(outcome(one, run) for one in run.outcomes)}."


def predictors(run: Run, methods: set[str]) -> str | None:
    """Each with its unit, role and description."""
    if not run.participants:
        return None
    described = [
        participants.label(v) + (f": {v['description']}" if v["description"] else "")
        for v in run.participants["variables"]
        if {"input", "future"} & set(v["roles"])
    ]
    return "; ".join(described) + "."


def size(run: Run, methods: set[str]) -> str:
    """How many there were."""
    counts = [
        f"{len(one.subjects)} subjects with {len(one.truth)} forecasts of {one.target.name}" for one in run.outcomes
    ]
    return f"As many as the cohort has: {listed(counts)}; the widths of the intervals show what they suffice for."


def missing(run: Run, methods: set[str]) -> str | None:
    """Variables with missing values."""
    if not run.participants:
        return None
    gaps = participants.missing(run.participants)
    return f"{f'Missing: {listed(gaps)}' if gaps else 'No value was missing'}. In the methods: Models."


def selected(run: Run, methods: set[str]) -> str | None:
    """The paragraph that describes models and the selection of hyperparameters."""
    where = "In the methods: Models" + ("; Hyperparameters selected by inner validation." if run.chosen else ".")
    return where if "Models" in methods else None


def clusters(run: Run, methods: set[str]) -> str | None:
    """Groups by which performance is reported."""
    by = _by(run)
    return f"Performance is reported by {listed(by)}." if by else None


def updating(run: Run, methods: set[str]) -> str | None:
    """Which models were corrected."""
    fitted = run.settings.get("fitted") or {}
    corrected = [name for name, node in fitted.items() if "Calibrated" in str(node.get("_target_"))]
    if (run.settings.get("intervals") or {}).get("calibrate"):
        corrected.append("predictive intervals of all models")
    if not corrected:
        return "No model was updated after the test."
    return (
        f"{listed(corrected)}: recalibrated on training and validation subjects held out for it; none after the test."
    )


def calculated(run: Run, methods: set[str]) -> str:
    """The command."""
    return f"By the program itself: `{run.manifest['command']}`; every forecast is in forecasts.zarr and forecasts/."


def balance(run: Run, methods: set[str]) -> str | None:
    """The shares of the classes."""
    described = []
    for one in run.outcomes:
        if one.levels:
            shares = [f"{level} {(one.truth == k).mean():.0%}" for k, level in enumerate(one.levels)]
            described.append(f"{one.target.name}: {', '.join(shares)}")
    weights = re.search(r"class_weight: (?!null)", run.config or "")
    weighted = "Some models weigh classes (class_weight)." if weights else "No class was drawn more often or weighted."
    return f"Shares of the classes: {'; '.join(described)}. {weighted}" if described else None


def fair(run: Run, methods: set[str]) -> str | None:
    """The comparison between groups."""
    by = _by(run)
    if not by:
        return None
    compared = f"Performance in subgroups by {listed(by)}, each against all others with a correction for multiplicity"
    return f"{compared}; no model was fitted to be fair."


def output(run: Run, methods: set[str]) -> str:
    """The parts of a forecast."""
    given = {"events": "survival at each horizon", "classes": "a probability for each class", "numbers": "quantiles"}
    kinds = dict.fromkeys(kind(one.target) for one in run.outcomes)
    called = " Where a class has to be called it is the most probable one." if "classes" in kinds else ""
    return f"{listed([given[each] for each in kinds]).capitalize()}; no risk groups are formed.{called}"


def apart(run: Run, methods: set[str]) -> str | None:
    """How tested and other subjects differ."""
    same = "Both parts come from one cohort and differ by the partition alone (in the methods: Partition)."
    return same if "Partition" in methods else None


def code(run: Run, methods: set[str]) -> str:
    """Commit, versions, where the rest stands."""
    commit = run.manifest["commit"]
    versions = ", ".join(f"{name} {version}" for name, version in run.manifest["versions"].items())
    where = f"Commit {commit} of the framework" if commit else "The framework, not under version control"
    return f"{where}; {versions}; the command and the configuration are under Reproduce."


def flow(run: Run, methods: set[str]) -> str:
    """Subjects and visits, from the cohort to the test."""
    tested = run.manifest["test_subjects"]
    text = f"{run.manifest['data']['subjects']} subjects in the cohort, {tested} of them tested"
    if run.ledger is not None:
        for status in ("used", "excluded"):
            text += f"; {status}: {run.accounted('subject', status)} subjects, {run.accounted('visit', status)} visits"
    return text + "."


def described(run: Run, methods: set[str]) -> str | None:
    """Where participants are described."""
    table = "In the table of participants: follow-up, variables when first seen, missing values."
    return table if run.participants else None


def compared(run: Run, methods: set[str]) -> str | None:
    """The same by role, where there is one split."""
    several = run.participants and len(run.participants["groups"]) > 1
    return "See the table of participants, by train, validation and test." if several else None


def analysed(run: Run, methods: set[str]) -> str:
    """Subjects, forecasts and events of each target."""

    def events(one) -> str:
        match one.target:
            case Number():
                return ""
            case Categorical(positive=positive):
                return "" if positive is None else f", {int((one.truth >= positive).sum())} events"
            case Event():
                return f", {int((one.truth[:, 1] < float('inf')).sum())} events"
            case _:
                assert_never(one.target)

    counts = [f"{o.target.name}: {len(o.subjects)} subjects, {len(o.truth)} forecasts{events(o)}" for o in run.outcomes]
    return "; ".join(counts) + "."


def specified(run: Run, methods: set[str]) -> str:
    """Whether the models themselves were kept."""
    kept = "fitted models were not kept (experiments.forecast keeps them)"
    if run.kept:
        kept = "the fitted models are under models/ and applied by experiments.predict"
    return f"Configuration and code make the models again, on the same machine to the bit; {kept}."


def performance(run: Run, methods: set[str]) -> str:
    """The headline metric of the model shown."""
    described = []
    for one in run.outcomes:
        rows = run.metrics(one.target.name)[0]
        best = next(row for row in rows if row.model == run.shown(one.target.name))
        value = bracketed(Estimate(best.value, best.low, best.high), decimals(rows))
        described.append(f"{one.target.name}: {heading(best)} {value} ({best.model})")
    return f"{'; '.join(described)}; all metrics of all models, calibration and errors by horizon are in the tables."


def heterogeneity(run: Run, methods: set[str]) -> str | None:
    """Which subgroups stand out."""
    groups = [group for group in run.groups if group.by in _by(run)]
    if not groups:
        return None
    odd = dict.fromkeys(f"{g.by} {g.level} ({g.target})" for g in groups if subgroup_tables.apart(g))
    if not odd:
        return "No subgroup differs from the remaining subjects by any model, as far as these subjects show."
    return f"Subgroups that differ from the remaining subjects by some model: {listed(list(odd))}."


def _by(run: Run) -> list[str]:
    """The variables that define subgroups of subjects."""
    return list(dict.fromkeys(group.by for group in run.groups if group.by != "years ahead"))
