"""Scans of one modality held against each other, once all were read: what no scan shows by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

CENTRE = "data.grid.centre=foreground centres every scan on what is bright"
SHIFT = 20.0  # mm between two visits of one subject
OFFSET, ARBITRARY = 0.02, 0.05  # of the range of values: in a unit; where gain and noise are anybody's


@dataclass(frozen=True)
class Seen:
    """One scan: where the foreground lies on the grid (mm from its centre), where its values begin and end, by
    which slope and intercept they were scaled."""

    subject: str
    visit: str
    modality: str
    centre: Float[np.ndarray, "3"]
    low: float
    high: float
    scaling: tuple[float, float]
    arbitrary: bool


@dataclass(frozen=True)
class Warned:
    """One thing to warn of, and of what kind it is."""

    kind: str
    subject: str
    visit: str
    modality: str
    reason: str


def compare(scans: Sequence[Seen]) -> Iterator[Warned]:
    """Warnings: a head that lies elsewhere than at the first visit, values scaled otherwise than siblings'."""
    by_modality: dict[str, list[Seen]] = {}
    for scan in scans:
        by_modality.setdefault(scan.modality, []).append(scan)
    for group in by_modality.values():
        yield from _moved(group)
        yield from _scaled_otherwise(group)


def _moved(scans: Sequence[Seen]) -> Iterator[Warned]:
    first: dict[str, Seen] = {}
    for scan in scans:
        before = first.setdefault(scan.subject, scan)
        shift = float(np.linalg.norm(scan.centre - before.centre))
        if shift > SHIFT:
            yield Warned(
                "moved", scan.subject, scan.visit, scan.modality,
                f"what is bright lies {shift:.0f} mm from where it lay at visit {before.visit!r}, as if the field of "
                f"view had moved; {CENTRE}",
            )  # fmt: skip


def _scaled_otherwise(scans: Sequence[Seen]) -> Iterator[Warned]:
    """Scans whose header scales otherwise than others' and whose values then begin, or end, elsewhere than theirs."""
    if len({scan.scaling for scan in scans}) < 2:
        return
    for scan in scans:
        own = [other for other in scans if other.subject == scan.subject and other is not scan]
        others = own or [other for other in scans if other is not scan]
        if not others or any(_alike(scan, other) for other in others):
            continue
        nearest = min(others, key=lambda other: _apart(scan, other))
        yield Warned(
            "scaling", scan.subject, scan.visit, scan.modality,
            f"its header scales by {scan.scaling[0]:g} and adds {scan.scaling[1]:g}, to values from {scan.low:g} to "
            f"{scan.high:g}; at visit {nearest.visit!r} of {nearest.subject!r} they go from {nearest.low:g} to "
            f"{nearest.high:g}: check scl_slope and scl_inter, or replace the file",
        )  # fmt: skip


def _alike(one: Seen, other: Seen) -> bool:
    """Whether two scans are scaled alike (in arbitrary units a gain means nothing) or begin at the same value."""
    if one.arbitrary:
        return one.scaling[1] == other.scaling[1] or _apart(one, other) <= ARBITRARY
    return one.scaling == other.scaling or _apart(one, other) <= OFFSET


def _apart(one: Seen, other: Seen) -> float:
    """How far apart two scans' values begin: arbitrary ones each by their own range, since their gain means nothing."""
    if one.arbitrary:
        return abs(one.low / (one.high or 1) - other.low / (other.high or 1))
    return abs(one.low - other.low) / max(one.high - one.low, other.high - other.low)
