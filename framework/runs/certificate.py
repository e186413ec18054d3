"""Leak certificate of a run: the role of each subject, the subjects that each part was fitted on, and the checks."""

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


def build_certificate(
    examples: Examples,
    train_examples: Examples,
    repeats: Repeats,
    forecasters: Mapping[str, Forecaster],
    future_checks: Sequence[Mapping],
) -> dict:
    """Collect the evidence that neither test subjects nor the future entered the training.

    `train_examples` were trained on; `future_checks` holds the result of `check_future_dependence` for each forecaster.
    `framework.evaluate.leakage.probes` probes the fit itself.
    """
    splits = [split for repeat in repeats for split in repeat]
    parts = [(name, part) for name, forecaster in forecasters.items() for part in forecaster.parts()]
    unions = dict.fromkeys(part.roles for _, part in parts if len(part.roles) > 1)
    checks = [
        *_split_checks(examples, train_examples, splits),
        *future_checks,
        *_encoder_checks(train_examples, splits, parts),
    ]
    return {
        "holds": all(check["holds"] for check in checks),
        "checks": checks,
        "training_data": _training_data(examples.cohort, train_examples.cohort),
        "fitted": [_component(name, part) for name, part in parts],
        "unrecorded": [name for name, forecaster in forecasters.items() if not forecaster.parts()],
        "folds": [
            {"repeat": r, "fold": k, **_fold(examples.subjects, split, unions)}
            for r, repeat in enumerate(repeats)
            for k, split in enumerate(repeat)
        ],
    }


def check_future_dependence(examples: Examples, split: Split, name: str, fitted: Fitted) -> dict:
    """Check whether the forecasts of test subjects change with their future."""
    rows = np.flatnonzero(split.test & examples.eval_queries.query.valid.any(1))
    leaks = [Leak(leak) for leak in future_dependence(fitted, examples, rows)] if len(rows) else []
    passed = "forecasts are bit-equal whatever follows their origin" if len(rows) else "no query in this fold"
    return _check_entry(f"{name}: independent of the future", leaks, passed)


def write(certificate: Mapping, subjects: Sequence[str], repeats: Repeats, run: Path) -> None:
    """Write `certificate.json`, and `roles.csv` with a row for each subject and a column for each fold."""
    (run / FILE).write_text(json.dumps(certificate, indent=1))
    columns = [split.roles() for repeat in repeats for split in repeat]
    names = [f"repeat {r} fold {k}" for r, repeat in enumerate(repeats) for k in range(len(repeat))]
    with (run / "roles.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["subject", *names])
        rows.writerows(zip(map(quoted, subjects), *columns, strict=True))


def raise_on_leaks(run: Path, allowed: Sequence[str]) -> None:
    """Raise UserError where a check of the certificate failed, unless all its leaks are `allowed` by their ids."""
    unknown = sorted(set(allowed) - set(MEANINGS))
    if unknown:
        raise UserError(f"allow_leaks: got {unknown[0]!r}, which is not a leak; expected ids of {list(MEANINGS)}")
    failed = [check for check in json.loads((run / FILE).read_text())["checks"] if not check["holds"]]
    failed = [check for check in failed if not set(check["leaks"]) <= set(allowed)]
    if failed:
        findings = "; ".join(f"{check['name']}: {check['found']}" for check in failed)
        ids = sorted({leak for check in failed for leak in check["leaks"]} | set(allowed))
        raise UserError(
            f"{run / FILE} has failed checks: {findings}; fix the design, or allow the leaks: "
            f"'allow_leaks=[{','.join(ids)}]'"
        )


def _check_entry(name: str, leaks: Sequence[Leak], passed: str) -> dict:
    names = [leak.name for leak in leaks]
    return {"name": name, "holds": not leaks, "found": "; ".join(map(str, leaks)) or passed, "leaks": names}


def _split_checks(examples: Examples, train_examples: Examples, splits: list[Split]) -> Iterator[dict]:
    leaks, similarity = twins(examples, splits)
    leak_of = {leak.name: leak for leak in leaks}
    compared = "; ".join(similarity.compared) or "too little to compare"
    for name, passed in (
        ("two ids", "no two subjects in different roles share visits beyond chance"),
        ("duplicate voxels", "no two subjects in different roles share a scan"),
        ("near duplicates", f"no two subjects in different roles are as similar as altered copies: {compared}"),
    ):
        found = leak_of.get(name.replace(" ", "_"))
        yield _check_entry(name, [] if found is None else [found], passed)
    query, visit = examples.eval_queries.query, examples.eval_queries.visit
    events = bool(examples.layout.events)  # queried at the origin itself
    early = np.asarray(query.valid) & (visit < query.origin + (examples.task != "current_visit" and not events))
    yield _check_entry(
        "queries", [Leak("later_visits", f"{early.sum()} queries")] if early.any() else [], _describe_queries(examples)
    )
    if train_examples is not examples and examples.about is not None:
        late = train_examples.cohort.valid & examples.about
        leak = [Leak("training", f"{late.sum()} visits are both trained on and queried")] if late.any() else []
        yield _check_entry("the future", leak, "no queried visit of any subject was available for training")


def _describe_queries(examples: Examples) -> str:
    query, count = examples.eval_queries.query, int(examples.eval_queries.query.valid.sum())
    origins = len({(i, int(query.origin[i, q])) for i, q in zip(*np.nonzero(query.valid), strict=True)})
    times = {"current_visit": "at its origin", "next_visit": "about the next visit"}
    time = times.get(examples.task, "later than its origin")
    return f"{count} queries from {origins} origins ({type(examples.origins).__name__.lower()}), each {time}"


def _encoder_checks(train_examples: Examples, splits: list[Split], parts: Sequence[tuple[str, Part]]) -> Iterator[dict]:
    """Yield checks that no pretrained encoder was trained on a test subject, by id and by scan."""
    cohort = train_examples.cohort
    tested = {int(row) for split in splits for row in np.flatnonzero(split.test)}
    for name, part in parts:
        if part.run is not None:
            seen = Pretrained.read(part.run).seen
            scans = {scan for digests_of_subject in seen.values() for scan in digests_of_subject}
            shared = [r for r in tested if cohort.subjects[r] in seen or scans & set(digests(cohort, r))]
            leak = (
                [Leak("encoder", f"{len(shared)} subjects, such as {cohort.subjects[shared[0]]!r}")] if shared else []
            )
            yield _check_entry(f"{name}: {part.name}", leak, f"trained on {len(seen)} subjects, none of them tested")


def _training_data(cohort: Cohort, train_cohort: Cohort) -> dict:
    visits, total = int(train_cohort.valid.sum()), int(cohort.valid.sum())
    return {"fingerprint": train_cohort.fingerprint, "subjects": len(cohort.subjects), "visits": visits, "of": total}


def _component(model: str, part: Part) -> dict:
    component = {"model": model, "part": part.name}
    if part.run is None:
        return {**component, "on": " + ".join(part.roles)}
    seen = Pretrained.read(part.run).seen
    return {**component, "on": f"{part.run} ({len(seen)} subjects)", "sha256": digest_ids(seen)}


def _fold(subjects: Sequence[str], split: Split, unions: Iterable[tuple[str, ...]]) -> dict:
    fold: dict[str, object] = {}
    for roles in [*((role,) for role in ROLES), *unions]:
        rows = np.flatnonzero(np.any([getattr(split, role) for role in roles], axis=0))
        fold[" + ".join(roles)] = {"subjects": len(rows), "sha256": digest_ids(subjects[int(row)] for row in rows)}
    return {**fold, "out": dict(Counter(split.out.values()))} if split.out else fold


def digest_ids(subjects: Iterable[str]) -> str:
    """Return the first 16 digits of the SHA-256 over sorted ids, a line each."""
    return hashlib.sha256("\n".join(sorted(subjects)).encode()).hexdigest()[:16]
