"""From a cohort's schema and the study's choice of targets to the layout that shapes the programs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from framework.data.cohort.schema import Schema, Variable
from framework.data.queries.events import EventDefinition
from framework.errors import UserError
from framework.types import RESOLUTION, Categorical, Column, Event, Layout, Measured, Number


def layout(
    schema: Schema,
    targets: Sequence[str],
    hidden: Sequence[str] = (),
    events: Mapping[str, EventDefinition] | None = None,
    resolution: float = RESOLUTION,
) -> Layout:
    """Resolve roles to columns; `hidden` variables are kept from the inputs although their role allows them.

    A target may name one of the `events`. Raises UserError for a target the cohort does not have or that is hindsight,
    for an event it cannot tell, and for an unknown hidden name.
    """
    events = {name: event for name, event in (events or {}).items() if name in targets}
    for name, event in events.items():
        event.check(name, schema)
        if name in [v.name for v in schema.variables]:
            raise UserError(f"{name!r} is an event and a variable of the cohort; name the event otherwise")
    _known(schema, [name for name in targets if name not in events], "target")
    _known(schema, hidden, "hidden variable")
    if not targets:
        raise UserError(
            "no target is named; give data.targets=[...], some of " + str([v.name for v in schema.variables])
        )
    for name in targets:
        if name not in events and "hindsight" in schema.variable(name).roles:
            raise UserError(
                f"target {name!r} has the role hindsight: it is known only afterwards; choose another target"
            )
    places = list(enumerate(schema.variables))
    seen = {v.name for v in schema.variables if {"input", "future"} & set(v.roles)} - set(hidden)
    return Layout(
        inputs=tuple(_column(i, v) for i, v in places if v.name in seen),
        static=tuple(_column(i, v) for i, v in enumerate(schema.static) if "input" in v.roles and v.name not in hidden),
        known=tuple(_column(i, v) for i, v in places if "future" in v.roles and v.name in seen),
        targets=tuple(
            Event(name, tuple(events[name].horizons)) if name in events else _measured(schema, name, name in seen)
            for name in targets
        ),
        modalities=tuple(m.name for m in schema.modalities if m.name not in hidden),
        grids=tuple((*m.shape, m.channels) for m in schema.modalities if m.name not in hidden),
        resolution=resolution,
    )


def without(layout: Layout, hidden: Sequence[str]) -> Layout:
    """The layout of a model that does not see these variables and modalities, whatever others see.

    What is known ahead is part of the queries, which are the same for all, and cannot be hidden from one model.
    Raises UserError for such a name, and for one that is no input.
    """
    ahead = {column.name for column in layout.known}
    have = [column.name for column in (*layout.inputs, *layout.static) if column.name not in ahead]
    have += layout.modalities
    for name in hidden:
        if name not in have:
            raise UserError(f"model.hidden names {name!r}, which is no input to hide; expected some of {have}")

    def kept(columns: Sequence[Column]) -> tuple[Column, ...]:
        return tuple(column for column in columns if column.name not in hidden)

    scans = [(m, grid) for m, grid in zip(layout.modalities, layout.grids, strict=True) if m not in hidden]
    return Layout(
        inputs=kept(layout.inputs),
        static=kept(layout.static),
        known=layout.known,
        targets=tuple(
            t if isinstance(t, Event) else replace(t, seen=t.seen and t.name not in hidden) for t in layout.targets
        ),
        modalities=tuple(modality for modality, _ in scans),
        grids=tuple(grid for _, grid in scans),
        resolution=layout.resolution,
    )


def _known(schema: Schema, names: Sequence[str], what: str) -> None:
    have = [v.name for v in schema.variables]
    if what != "target":
        have += [v.name for v in schema.static] + [m.name for m in schema.modalities]
    for name in names:
        if name not in have:
            raise UserError(f"{what} {name!r} is not in the cohort; it has {have}")


def _column(index: int, variable: Variable) -> Column:
    return Column(variable.name, index, len(variable.levels), variable.per_year, variable.ordered, variable.scale)


def _measured(schema: Schema, name: str, seen: bool) -> Measured:
    variable = schema.variable(name)
    index = schema.variables.index(variable)
    if variable.levels:
        return Categorical(name, index, variable.levels, variable.ordered, variable.positive_from, seen)
    return Number(name, index, variable.units, seen, variable.bounds, variable.scale)
