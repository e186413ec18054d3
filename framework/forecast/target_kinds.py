"""Which targets a forecaster answers, where it answers events alone or all but these."""

from dataclasses import replace

from framework.errors import UserError
from framework.types import Layout


def without_events(layout: Layout, who: str) -> Layout:
    """The layout with the targets that are classes or numbers. Raises UserError where there are none."""
    if not layout.measured:
        raise UserError(
            f"{who} forecasts classes and numbers; for {layout.targets[0].name}, an event, take cox or a net"
        )
    return replace(layout, targets=layout.measured)


def events_alone(layout: Layout, who: str) -> Layout:
    """The layout with the targets that are events. Raises UserError where there are none."""
    if not layout.events:
        names = [target.name for target in layout.targets]
        raise UserError(f"{who} forecasts events, and {names} are none; name one of data.events in data.targets")
    return replace(layout, targets=layout.events)
