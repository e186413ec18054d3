"""Phrases for the classes of a configuration in a methods section: the clauses of `methods.yaml`, filled in."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from math import prod
from typing import Any

import yaml

FORECAST, OUTPUTS = "framework.forecast", "framework.nn.outputs"
NETWORKS = (f"{FORECAST}.deep.forecaster.Deep", f"{FORECAST}.ensembles.crossfit.of_network")
CANDIDATES, REFERENCE = f"{FORECAST}.tabular.selection.Candidates", f"{FORECAST}.references.LastVisit"
FOR = {"classifier": "classes", "classes": "classes", "regressor": "numbers", "numbers": "numbers"}
SETTING = re.compile(r"\{(\w+)\}")


@cache
def vocabulary() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The phrases of each class, of which the first whose `when` fits is taken."""
    text = files("framework.report.methods").joinpath("methods.yaml").read_text(encoding="utf-8")
    return {name: said if isinstance(said, list) else [{"says": said}] for name, said in yaml.safe_load(text).items()}


def wording(node: Mapping, kind: str | None = None) -> str:
    """The clause of one node of a configuration; a class without a phrase is given by its name."""
    known = dict(node)
    if "grid" in node:
        known["candidates"] = prod(len(values) for values in node["grid"].values())
    return SETTING.sub(lambda match: _value(known.get(match[1])), fitting(node, kind)["says"])


def fitting(node: Mapping, kind: str | None = None) -> Mapping[str, Any]:
    """The entry of the vocabulary that fits a node's settings and the kind of target it is `for`."""
    name, known = node["_target_"], {**node, "for": kind}
    some = vocabulary().get(name, [{"says": f"{name.rsplit('.', 1)[-1]} ({name})"}])
    return next(one for one in some if all(known.get(key) == value for key, value in one.get("when", {}).items()))


def clauses(node: Any, kinds: Sequence[str], kind: str | None = None) -> Iterator[str]:
    """The clauses of a configuration, from the outside in; `kinds` are those of the targets."""
    if isinstance(node, list):
        for child in node:
            yield from clauses(child, kinds, kind)
    if not isinstance(node, Mapping):
        return
    if node.get("_target_") == CANDIDATES:
        yield _candidates(node, kind)
        return
    if "_target_" in node:
        said = wording(node, kind)
        if said and not (node["_target_"] == REFERENCE and list(kinds) == ["events"]):
            yield said
        yield from _answers(node, kinds)
        if node.get("pretrained"):
            rest = ", then frozen" if node.get("frozen", True) else ""
            yield f"encoders pretrained by reconstructing the scans of training subjects [@hinton2006]{rest}"
    for name, child in node.items():
        own = FOR.get(name, kind)
        if own is None or own in kinds:
            yield from _of(name, list(clauses(child, kinds, own)), child, kinds, own)


def _of(name: str, said: list[str], child: Any, kinds: Sequence[str], kind: str | None) -> Iterator[str]:
    """The clauses of a child, with what it is for."""
    if name == "members":
        parts = [f"{member} ({', '.join(clauses(one, kinds, kind))})" for member, one in child.items()]
        yield "its members " + "; ".join(parts)
    elif name in FOR and said:
        yield f"for {FOR[name]} {said[0]}"
        yield from said[1:]
    else:
        yield from said


def _candidates(node: Mapping, kind: str | None) -> str:
    count = prod(len(values) for values in node["grid"].values())
    said = f"{wording(node['estimator'], kind)} ({count} candidate setting{'s' * (count != 1)})"
    if node.get("standardize"):
        said += ", features standardised on the training subjects, missing values mean-imputed"
        said += " beside an indicator" if node.get("missing_indicators") else ""
    return said


def _answers(node: Mapping, kinds: Sequence[str]) -> Iterator[str]:
    """The output of a network for each kind of target, and of a reference forecast for an event."""
    if node["_target_"] in NETWORKS:
        classes = "OrdinalOutput" if node.get("ordinal") else "ClassOutput"
        of = {"numbers": "QuantileOutput", "classes": classes, "events": "HazardOutput"}
        for kind in kinds:
            yield wording({"_target_": f"{OUTPUTS}.{of[kind]}"})
    if node["_target_"] == REFERENCE and "events" in kinds:
        of_event = (
            f"{FORECAST}.references.Expected"
            if node.get("trend")
            else "framework.baselines.survival.kaplan_meier.Curve"
        )
        yield wording({"_target_": of_event})


def _value(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
