"""The leak certificate of a run: who was in which role, what was fitted on whom, and what was checked."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from framework.data.cohort.quoting import quoted
from framework.data.cohort.store import Cohort
from framework.data.queries.examples import Examples
from framework.data.splits.split import ROLES, Split
from framework.errors import UserError
from framework.evaluate.leakage.future_leaks import future_dependence
from framework.evaluate.leakage.probes import MEANINGS, Leak, twins
from framework.forecast.base import Fitted, Forecaster, Part
from framework.forecast.deep.pretrained import Pretrained, digests

FILE = "certificate.json"
Repeats = Sequence[Sequence[Split]]


def certificate(
    examples: Examples,
    known: Examples,
    repeats: Repeats,
    forecasters: Mapping[str, Forecaster],
    blind: Sequence[Mapping],
) -> dict:
    """What a reader needs to see that nothing of the test subjects, nor of the future, was learnt from.

    `known` is what was learnt from; `blind` is what `blindness` found of each forecaster.
    `framework.evaluate.leakage.probes` probes the fit itself.
    """
    splits = [split for repeat in repeats for split in repeat]
    parts = [(name, part) for name, one in forecasters.items() for part in one.parts()]
    unions = dict.fromkeys(part.roles for _, part in parts if len(part.roles) > 1)
    checks = [
        *_design(examples, known, splits),
        *blind,
        *_encoders(known, splits, parts),
    ]
    return {
        "holds": all(check["holds"] for check in checks),
        "checks": checks,
        "learnt_from": _learnt_from(examples.cohort, known.cohort),
        "fitted": [_part(name, part) for name, part in parts],
        "unrecorded": [name for name, one in forecasters.items() if not one.parts()],
        "folds": [
            {"repeat": r, "fold": k, **_fold(examples.subjects, split, unions)}
            for r, repeat in enumerate(repeats)
            for k, split in enumerate(repeat)
        ],
    }


def blindness(examples: Examples, split: Split, name: str, fitted: Fitted) -> dict:
    """Whether the forecasts of those whom it is tested on change with the future: a check of the certificate."""
    rows = np.flatnonzero(split.test & examples.asked.query.valid.any(1))
    seen = [Leak(one) for one in future_dependence(fitted, examples, rows)] if len(rows) else []
    otherwise = "forecasts stay bit-equal whatever comes after their origin"
    return _check(f"{name}: blind to the future", seen, otherwise if len(rows) else "nobody to be asked in this fold")


def write(told: Mapping, subjects: Sequence[str], repeats: Repeats, run: Path) -> None:
    """Write `certificate.json`, and `roles.csv`: a row a subject, a column a fold."""
    (run / FILE).write_text(json.dumps(told, indent=1))
    columns = [split.roles() for repeat in repeats for split in repeat]
    names = [f"repeat {r} fold {k}" for r, repeat in enumerate(repeats) for k in range(len(repeat))]
    with (run / "roles.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["subject", *names])
        rows.writerows(zip(map(quoted, subjects), *columns, strict=True))


def uphold(run: Path, accepted: Sequence[str]) -> None:
    """Raise UserError where a finished run's certificate does not hold, unless every failure is `accepted` by name."""
    unknown = sorted(set(accepted) - set(MEANINGS))
    if unknown:
        raise UserError(f"accept names {unknown[0]!r}, which is no leak; expected some of {list(MEANINGS)}")
    failed = [one for one in json.loads((run / FILE).read_text())["checks"] if not one["holds"]]
    failed = [one for one in failed if not set(one["leaks"]) <= set(accepted)]
    if failed:
        told = "; ".join(f"{one['name']}: {one['found']}" for one in failed)
        raise UserError(
            f"{run / FILE} does not hold: {told}; mend the design, or name in accept=[...] what is meant so"
        )


def _check(name: str, leaks: Sequence[Leak], otherwise: str) -> dict:
    names = [leak.name for leak in leaks]
    return {"name": name, "holds": not leaks, "found": "; ".join(map(str, leaks)) or otherwise, "leaks": names}


def _design(examples: Examples, known: Examples, splits: list[Split]) -> Iterator[dict]:
    leaks, alike = twins(examples, splits)
    found = {leak.name: leak for leak in leaks}
    compared = "; ".join(alike.compared) or "too little to compare"
    for name, otherwise in (
        ("two ids", "no two subjects in different roles share visits that chance would not make alike"),
        ("duplicate voxels", "no two subjects in different roles share a scan"),
        ("near duplicates", f"no two subjects in different roles are as near as changed copies are: {compared}"),
    ):
        yield _check(name, [found[name]] if name in found else [], otherwise)
    query, visit = examples.asked.query, examples.asked.visit
    events = bool(examples.layout.events)  # which are asked about at the origin itself
    early = np.asarray(query.valid) & (visit < query.origin + (examples.ask != "now" and not events))
    yield _check(
        "questions", [Leak("later visits", f"{early.sum()} questions")] if early.any() else [], _asked(examples)
    )
    if known is not examples and examples.about is not None:
        late = known.cohort.valid & examples.about
        leak = [Leak("training", f"{late.sum()} visits are both learnt from and asked about")] if late.any() else []
        yield _check("the future", leak, "no visit that is asked about was there to learn from, of anybody")


def _asked(examples: Examples) -> str:
    query, count = examples.asked.query, int(examples.asked.query.valid.sum())
    origins = len({(i, int(query.origin[i, q])) for i, q in zip(*np.nonzero(query.valid), strict=True)})
    where = {"now": "at its origin", "next": "about the next visit"}.get(examples.ask, "later than its origin")
    return f"{count} questions from {origins} origins ({type(examples.origins).__name__.lower()}), each {where}"


def _encoders(known: Examples, splits: list[Split], parts: Sequence[tuple[str, Part]]) -> Iterator[dict]:
    """Whom the pretrained encoders have seen, by id and by scan."""
    cohort = known.cohort
    tested = {int(row) for split in splits for row in np.flatnonzero(split.test)}
    for name, part in parts:
        if part.run is not None:
            seen = Pretrained.read(part.run).seen
            scans = {scan for own in seen.values() for scan in own}
            met = [r for r in tested if cohort.subjects[r] in seen or scans & set(digests(cohort, r))]
            leak = [Leak("encoder", f"{len(met)} subjects, such as {cohort.subjects[met[0]]!r}")] if met else []
            yield _check(f"{name}: {part.name}", leak, f"trained on {len(seen)} subjects, none of them tested")


def _learnt_from(cohort: Cohort, known: Cohort) -> dict:
    visits, of = int(known.valid.sum()), int(cohort.valid.sum())
    return {"fingerprint": known.fingerprint, "subjects": len(cohort.subjects), "visits": visits, "of": of}


def _part(model: str, part: Part) -> dict:
    told = {"model": model, "part": part.name}
    if part.run is None:
        return {**told, "on": " + ".join(part.roles)}
    seen = Pretrained.read(part.run).seen
    return {**told, "on": f"{part.run} ({len(seen)} subjects)", "sha256": digest(seen)}


def _fold(subjects: Sequence[str], split: Split, unions: Iterable[tuple[str, ...]]) -> dict:
    told: dict[str, object] = {}
    for roles in [*((role,) for role in ROLES), *unions]:
        rows = np.flatnonzero(np.any([getattr(split, role) for role in roles], axis=0))
        told[" + ".join(roles)] = {"subjects": len(rows), "sha256": digest(subjects[int(row)] for row in rows)}
    return {**told, "out": dict(Counter(split.out.values()))} if split.out else told


def digest(subjects: Iterable[str]) -> str:
    """The first 16 digits of the SHA-256 over sorted ids, a line each."""
    return hashlib.sha256("\n".join(sorted(subjects)).encode()).hexdigest()[:16]
