"""A methods section as the run did it: what its files tell, each method with whom it is owed to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from framework.evaluate.metrics.registry import metrics_for
from framework.evaluate.outcomes import Outcomes
from framework.report.exhibits import participants
from framework.report.finished_run import Run
from framework.report.methods.method_phrases import clauses, vocabulary, wording
from framework.types import LEVELS, Categorical, Event, Number, Target

TASKS = {
    "future_visits": "of every later visit {origins} before it",
    "next_visit": "of the next visit {origins}",
    "current_visit": "of each visit's own outcomes, which were hidden from the inputs, {origins}",
}
PACKAGES = {
    "jax": "JAX [@bradbury2018]",
    "flax": "Flax [@heek2020]",
    "numpy": "NumPy [@harris2020]",
    "xarray": "xarray [@hoyer2017]",
}


@dataclass(frozen=True)
class Part:
    """A paragraph under its heading; [@key] mentions a reference."""

    title: str
    text: str


def section(run: Run) -> list[Part]:
    """The paragraphs that this run can fill; one of which it kept nothing is left out."""
    parts = {
        "Participants": _participants(run),
        "Outcomes and predictors": _outcomes(run),
        "Forecasts": _forecasts(run),
        "Partition": _partition(run),
        "Models": _models(run),
        "Measures": _measures(run),
        "Uncertainty and comparisons": _comparisons(run),
        "Safeguards against leakage": _safeguards(run),
        "Software": _software(run),
    }
    return [Part(title, text) for title, text in parts.items() if text]


def kinds(targets: Sequence[Target]) -> list[str]:
    """Which of numbers, classes and events there are."""
    found = {kind(target) for target in targets}
    return [each for each in ("numbers", "classes", "events") if each in found]


def kind(target: Target) -> str:
    """The name of a target's kind."""
    match target:
        case Number():
            return "numbers"
        case Categorical():
            return "classes"
        case Event():
            return "events"
        case _:
            assert_never(target)


def _participants(run: Run) -> str:
    data = run.manifest["data"]
    cohort = vocabulary().get(data["name"], [{"says": f"The cohort {data['name']}"}])[0]["says"]
    reader = (run.settings.get("data") or {}).get("reader")
    source = wording(reader) if reader else ""
    text = f"{cohort}{f', read from {source},' if source else ''} has {data['subjects']} subjects"
    text += f" with {data['visits']} visits"
    text += "".join(f", {count} {modality} scans" for modality, count in data["scans"].items()) + "."
    if run.participants:
        everybody = run.participants["groups"][0]
        text += f" Subjects were followed for a median of {everybody['followed'][0]:.1f} years over"
        text += f" {everybody['visits_each'][0]:g} visits, the longest for {everybody['longest']:.1f} years."
    if run.ledger is not None:
        out = [(run.accounted(item, "excluded"), item) for item in ("subject", "visit")]
        excluded = [f"{count} {item}{'s' * (count > 1)}" for count, item in out if count]
        text += f" The ingest excluded {listed(excluded)}."
    return text


def _outcomes(run: Run) -> str:
    described = "; ".join(outcome(one, run) for one in run.outcomes)
    schema = run.manifest.get("schema")
    if not schema:
        return f"Outcomes were {described}."
    hidden = (run.settings.get("data") or {}).get("hidden") or []
    variables = [v for v in (*schema["variables"], *schema["static"]) if v["name"] not in hidden]
    seen = [v["name"] for v in variables if "input" in v["roles"]]
    ahead = [v["name"] for v in variables if "future" in v["roles"]]
    never = [v["name"] for v in variables if "hindsight" in v["roles"]] + list(hidden)
    text = (
        f"Outcomes were {described}. "
        f"Candidate predictors were {listed([*seen, *(m['name'] for m in schema['modalities'])])}"
    )
    text += ", as observed up to the visit from which a forecast was made"
    text += (
        f"; {listed(ahead)} at the time forecast {'was' if len(ahead) == 1 else 'were'} taken as known."
        if ahead
        else "."
    )
    return text + (f" Never an input: {listed(never)}." if never else "")


def outcome(one: Outcomes, run: Run) -> str:
    """One target as a methods section has it."""
    target = one.target
    match target:
        case Number():
            unit, levels = "" if one.units is None else f"{one.units}, ", ", ".join(f"{100 * p:.0f}" for p in LEVELS)
            return f"{target.name} ({unit}forecast by its {levels}% quantiles)"
        case Categorical():
            event = "" if target.positive is None else f"; the event is {target.levels[target.positive]}"
            event += " or beyond" if target.positive is not None and target.ordered and len(target.levels) > 2 else ""
            return f"{target.name} ({', '.join(target.levels)}{event})"
        case Event():
            event = ((run.settings.get("data") or {}).get("events") or {}).get(target.name)
            what, years = f": {wording(event)}" if event else "", listed([f"{h:g}" for h in target.horizons])
            return f"{target.name} (time to event{what}; survival at {years} years)"
        case _:
            assert_never(target)


def _forecasts(run: Run) -> str:
    counts = listed([f"{len(one.truth)} of {one.target.name} ({len(one.subjects)} subjects)" for one in run.outcomes])
    origins = run.settings.get("origins")
    events = all(isinstance(one.target, Event) for one in run.outcomes)  # which are asked about at the origin itself
    asked = "{origins}" if events else TASKS.get(run.settings.get("task", ""), "")
    where = asked.format(origins=wording(origins) if origins else "from each visit")
    seen = "Each saw the visits up to its origin and nothing later."
    return f"Forecasts were made {where + ', ' if where else ''}{counts}. {seen}"


def _partition(run: Run) -> str:
    split = run.settings.get("split")
    if not isinstance(split, Mapping) or not run.outcomes:
        return ""
    repeats = len(run.outcomes[0].fold)
    text = wording(split)
    if run.settings.get("repeats") is None:
        text += f", of which one ({split.get('fold', 0)}) was tested"
    elif repeats > 1:
        text += f", {repeats} times over with other seeds"
    fewer = {model: len(made) for model, made in run.outcomes[0].forecasts.items() if len(made) < repeats}
    if fewer:
        text += f" ({listed([f'{model} in the first {count} alone' for model, count in fewer.items()])})"
    text += ". Whole subjects were assigned, each tested by models that had never seen it"
    share = split.get("validation")
    return text + (f"; {share:.0%} of the subjects not tested were set aside to validate by." if share else ".")


def _models(run: Run) -> str:
    """The models; clauses that several models share come once, before those of each model."""
    fitted = run.settings.get("fitted")
    if not fitted:
        return ""
    of: dict[str, list[str]] = {}
    for name, node in fitted.items():
        for clause in dict.fromkeys(clauses(node, kinds([one.target for one in run.outcomes]))):
            of.setdefault(clause, []).append(name)
    shared: dict[tuple[str, ...], list[str]] = {}
    for clause, names in of.items():
        shared.setdefault(tuple(names), []).append(clause)
    each = [f"{listed(names)}: {'; '.join(some)}." for names, some in shared.items()]
    return "\n\n".join([*each, *_intervals(run), _gaps(run)])


def _intervals(run: Run) -> list[str]:
    """How predictive intervals of numbers came about; nothing where none was forecast."""
    numbers = [one.target for one in run.outcomes if isinstance(one.target, Number)]
    settings = run.settings.get("intervals")
    if not numbers or not settings:
        return []
    text = f"{wording(settings)}."
    bounds = [f"{target.name} {list(target.bounds)}" for target in numbers if target.bounds != (None, None)]
    if bounds:
        text += f" Forecasts were kept within bounds ({'; '.join(bounds)})."
    logs = [target.name for target in numbers if target.scale == "log"]
    if logs:
        text += f" The logarithm of {listed(logs)} was modelled; forecasts are in original units."
    text += " Beyond the longest horizon seen in training, widths grow in proportion to the horizon."
    beyond = {one.target.name: int(one.beyond.any(0).sum()) for one in run.outcomes if one.target in numbers}
    some = [f"{count} of {name}" for name, count in beyond.items() if count]
    return [text + (f" There were {listed(some)} beyond it." if some else "")]


def _gaps(run: Run) -> str:
    gaps = participants.missing(run.participants) if run.participants else []
    which = f" ({'; '.join(gaps)})" if gaps else ""
    stayed = "stayed missing until a model dealt with them as described here; none was filled in before the split"
    return f"Missing values{which} {stayed}."


def _measures(run: Run) -> str:
    said = dict.fromkeys(wording({"_target_": _path(m)}) for one in run.outcomes for m in metrics_for(one.target))
    heads = [f"{run.metrics(one.target.name)[0][0].metric} of {one.target.name}" for one in run.outcomes]
    measured = f"Measured were {listed(list(said))}; scores are means over the repeats."
    return f"The headline measures were {listed(heads)}. {measured}"


def _comparisons(run: Run) -> str:
    shown = [metric for one in run.outcomes for metric in metrics_for(one.target)]
    text = f"""Intervals are 95% bootstrap intervals from {run.resamples} resamples of the subjects [@davison1997],
        bias-corrected and accelerated [@efron1987], with t quantiles for few subjects [@hesterberg2015]; those of
        calibration, of errors by horizon, of subgroups and of differences are made in the same way, from the same
        resamples."""
    if folded := list(dict.fromkeys(metric.name for metric in shown if not metric.smooth)):
        text += f" Of {listed(folded)}, distances from an ideal, intervals are percentiles."
    text += " Each interval reaches to its estimate."
    if run.widened > 1:
        text += f""" Models of different folds share training subjects, which resamples of tested subjects do not
            show: ends lie {run.widened:.2f} times as far from the estimate, as the corrected variance of folds asks
            [@nadeau2003]."""
    else:
        text += " They take the fitted model as given."
    text += """ Differences between models are paired on the same resamples; all pairs are held to a family-wise error
        of 5% [@holm1979] and shown as compact letters [@piepho2004]."""
    if any(d.over_folds is not None for row in run.rows for d in row.differences.values()):
        text += """ Differences of the headline measures to the reference forecasts were also tested over the folds by a
            t-test corrected for the training subjects that folds share [@nadeau2003; @bouckaert2004]."""
    if run.groups:
        text += """ Subgroups were compared with all other subjects, all of a target and model held to one error rate
            [@holm1979]."""
    return " ".join(text.split())


def _safeguards(run: Run) -> str:
    if not run.certificate:
        return ""
    checks = run.certificate["checks"]
    failed = [check["name"] for check in checks if not check["holds"]]
    verdict = "all passed" if not failed else f"all passed but {listed(failed)}"
    unrecorded = run.certificate["unrecorded"]
    but = f", except for {listed(unrecorded)}, which does not record it" if unrecorded else ""
    return (
        f"The run's certificate lists what was fitted on which subjects in each fold{but}. "
        f"{len(checks)} checks for leakage were run, among them for subjects under two ids, for duplicate scans "
        f"and for forecasts that change with what comes after their origin; {verdict}."
    )


def _software(run: Run) -> str:
    versions = run.manifest["versions"]
    used = [f"{title} {versions[name]}" for name, title in PACKAGES.items() if name in versions]
    device = run.manifest["device"]
    text = f"Prognax {versions['prognax']}" if "prognax" in versions else "Prognax"
    text += f" (commit {run.manifest['commit'][:12]})" if run.manifest["commit"] else ""
    text += f" with {listed(used)}, configured by Hydra [@yadan2019], under Python {run.manifest['python']}"
    text += f" on {device['count']} × {device['kind']}"
    seed = run.settings.get("seed")
    return text + (f"; seed {seed}." if seed is not None else ".")


def listed(words: Sequence[str]) -> str:
    """ "a, b and c"."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"


def _path(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
