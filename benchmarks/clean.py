"""False alarms of the readers on clean cohorts: `python -m benchmarks.clean`.

A hundred clean simulated cohorts in the format of every reader (table, nifti, bids, tadpole), each with its own
conventions: ids, dates, units of time, decimal marks, missing codes, visit codes, ages, deaths, sites, column order.
What was read is compared with the simulated truth. Writes results/clean-cpu.json: the numbers of cohorts with a
warning, an error or a wrong value, all of which should be 0.
"""

import argparse
import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from benchmarks import measure
from framework.data.cohort.store import Cohort
from framework.data.ingest.base import Reader, ingest
from framework.data.ingest.bids import Bids
from framework.data.ingest.nifti import Nifti
from framework.data.ingest.table import Table
from framework.tadpole.reader import Tadpole

READERS = ("table", "nifti", "bids", "tadpole")
GRID = {"shape": [5, 5, 5], "spacing": [40.0, 40.0, 40.0]}
FORMATS = ("", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y%m%d", "%d %b %Y")
PER_YEAR = {"days": 365.25, "weeks": 365.25 / 7, "months": 12.0, "years": 1.0}
STAGES = ("well", "mild", "ill")


@dataclass(frozen=True)
class Person:
    """True days and measurements of one subject."""

    start: date
    days: tuple[int, ...]
    scores: tuple[float | None, ...]
    volumes: tuple[float | None, ...]
    stages: tuple[str, ...]
    age: float
    sex: str
    site: str
    death: int | None  # days after the first visit

    @property
    def years(self) -> np.ndarray:
        """Times of the visits."""
        return np.array(self.days) / 365.25

    def dates(self) -> list[date]:
        return [self.start + timedelta(days=day) for day in self.days]


def simulate_people(rng: np.random.Generator, most: int = 40) -> list[Person]:
    """Simulate 8 to `most` subjects with 1 to 6 visits about half a year or a year apart."""
    return [person(rng) for _ in range(int(rng.integers(8, most + 1)))]


def person(rng: np.random.Generator) -> Person:
    """Simulate a subject with a slow decline; a tenth of the measurements is missing."""
    count = int(rng.integers(1, 7))
    gap = int(rng.choice([182, 365]))
    days = tuple(0 if j == 0 else j * gap + int(rng.integers(-25, 26)) for j in range(count))
    level, rate = rng.normal(26, 2), abs(rng.normal(1, 0.7))
    scores = [float(np.clip(round(level - rate * day / 365.25 + rng.normal(0, 0.7)), 0, 30)) for day in days]
    volumes = [round(40 + 2 * rate * day / 365.25 + rng.normal(0, 5), 2) for day in days]
    missing = rng.random((2, count)) < 0.1
    return Person(
        start=date(2004, 1, 1) + timedelta(days=int(rng.integers(0, 3000))),
        days=days,
        scores=tuple(None if missing[0, j] else score for j, score in enumerate(scores)),
        volumes=tuple(None if missing[1, j] and j else volume for j, volume in enumerate(volumes)),
        stages=tuple(STAGES[min(2, int(max(0, 27 - score) // 3))] for score in scores),
        age=round(rng.uniform(55, 88), 1),
        sex=str(rng.choice(["F", "M"])),
        site=str(rng.choice(["north", "south", "west"])),
        death=days[-1] + int(rng.integers(30, 1500)) if rng.random() < 0.3 else None,
    )


def ids(rng: np.random.Generator, count: int) -> list[str]:
    """Draw ids in one of the formats of studies."""
    kind = int(rng.integers(0, 6))
    numbers = rng.permutation(np.arange(1, 3 * count))[:count]
    return [
        [
            f"{n}",
            f"{n:04}",
            f"S{n:03}",
            f"{1 + n % 4}-{n:03}",
            f"{int(rng.integers(16**8)):08x}",
            f"ADNI_{n:03}_S_{1000 + n}",
        ][kind]
        for n in numbers
    ]


def number(value: float | None, missing: str, decimal: str = ".") -> str:
    """Format a number as a cell."""
    return missing if value is None else f"{value:g}".replace(".", decimal)


def text(rows: Sequence[Mapping[str, str]], separator: str, rng: np.random.Generator) -> str:
    """Format rows as a table with a random order of columns."""
    names = [str(name) for name in rng.permutation(list(rows[0]))]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, delimiter=separator, lineterminator=str(rng.choice(["\n", "\r\n"])))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def table(rng: np.random.Generator, folder: Path, people: Sequence[Person], names: Sequence[str], **more: Any) -> Table:
    """Write a long table, with `more` columns by visit; return its reader."""
    units = str(rng.choice([*PER_YEAR, "date", "date", "date"]))
    form = str(rng.choice(FORMATS)) if units == "date" else ""
    decimal, missing = str(rng.choice([".", ","])), str(rng.choice(["", "NA", "-4", "999", "-4.0"]))
    suffix, coded, at_zero = str(rng.choice([".csv", ".tsv"])), bool(rng.random() < 0.5), bool(rng.random() < 0.5)
    separator = "\t" if suffix == ".tsv" else ";" if decimal == "," else ","

    def when(one: Person, days: int) -> str:
        if units == "date":
            at = one.start + timedelta(days=days)
            return at.strftime(form) if form else at.isoformat()
        return f"{days / 365.25 * PER_YEAR[units]:.6f}".replace(".", decimal)

    rows = [
        {
            "subject": name,
            "when": when(one, day),
            "code": f"m{round(day / 30.4375 / 6) * 6:02}" if coded else f"v{j}",
            "score": number(one.scores[j], missing, decimal),
            "volume": number(one.volumes[j], missing, decimal),
            "stage": one.stages[j],
            "age": number(one.age if at_zero else round(one.age + day / 365.25, 1), missing, decimal),
            "sex": one.sex,
            "site": one.site,
            "death": "" if one.death is None else when(one, one.death),
            **{column: cells[i][j] for column, cells in more.items()},
        }
        for i, (name, one) in enumerate(zip(names, people, strict=True))
        for j, day in enumerate(one.days)
    ]
    order = rng.permutation(len(rows))
    (folder / f"visits{suffix}").write_text(text([rows[i] for i in order], separator, rng), newline="")
    age = {"roles": ["input", "future"], "units": "years", "per_year": 1, "baseline_plus_elapsed": at_zero}
    return Table(
        str(folder / f"visits{suffix}"),
        "subject",
        {"column": "when", "units": units, "format": form},
        "code",
        variables={
            "score": {"roles": ["input", "target"], "units": "points"},
            "volume": {"units": "mL"},
            "stage": {"levels": list(STAGES), "ordered": True},
            "age": age,
        },
        static={
            "sex": {"levels": ["F", "M"]},
            "site": {"levels": ["north", "south", "west"], "roles": ["group"]},
            "death": {"is_event_time": True, "roles": ["hindsight"]},
        },
        missing=[code for code in (missing,) if code],
        decimal=decimal,
        separator=separator,
    )


def save(file: Path, rng: np.random.Generator) -> None:
    """Write a small scan of a head in a common orientation."""
    file.parent.mkdir(parents=True, exist_ok=True)
    across = np.linspace(-1, 1, 10)
    inside = sum(axis**2 for axis in np.meshgrid(across, across, across, indexing="ij")) < 0.6
    voxels = np.where(inside, rng.integers(300, 1000, inside.shape), rng.integers(0, 20, inside.shape)).astype(np.int16)
    signs = rng.choice([-1.0, 1.0], 2)
    affine = np.diag([20 * signs[0], 20 * signs[1], 20, 1.0])
    affine[:3, 3] = [-90 * signs[0], -90 * signs[1], -90]
    image = nibabel.Nifti1Image(voxels, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, file)


def nifti(rng: np.random.Generator, folder: Path, people: Sequence[Person], names: Sequence[str]) -> Nifti:
    """Write a table and a folder of scans, without those of the second visits; return its reader."""
    files = [[f"{i:03}/{j}.nii.gz" if j != 1 else "" for j in range(len(one.days))] for i, one in enumerate(people)]
    for name in (name for row in files for name in row if name):
        save(folder / name, rng)
    return Nifti(str(folder), table(rng, folder, people, names, T1w=files), {"T1w": GRID})


def bids(rng: np.random.Generator, folder: Path, people: Sequence[Person], names: Sequence[str]) -> Bids:
    """Write a BIDS folder whose sessions are numbers, months or dates; return its reader."""
    labels = [f"sub-{''.join(filter(str.isalnum, name))}" for name in names]
    kind, prefixed = int(rng.integers(0, 3)), bool(rng.random() < 0.5)
    for name, one in zip(labels, people, strict=True):
        months = [round(day / 30.4375 / 6) * 6 for day in one.days]
        sessions = [
            [f"ses-{j + 1:02}", f"ses-M{months[j]:03}", f"ses-{at:%Y%m%d}"][kind] for j, at in enumerate(one.dates())
        ]
        for session in sessions:
            save(folder / name / session / "anat" / f"{name}_{session}_T1w.nii.gz", rng)
        rows = zip(sessions, one.days, one.scores, strict=True)
        lines = [f"{session}\t{days}\t{number(score, 'n/a')}" for session, days, score in rows]
        (folder / name / f"{name}_sessions.tsv").write_text(
            "\n".join(["session_id\tdays_since_first\tscore", *lines]) + "\n"
        )
    rows = [
        {"participant_id": name if prefixed else name[4:], "sex": one.sex, "age": f"{one.age:g}"}
        for name, one in zip(labels, people, strict=True)
    ]
    (folder / "participants.tsv").write_text(text(rows, "\t", rng), newline="")
    return Bids(
        str(folder),
        {"T1w": GRID},
        {"column": "days_since_first", "units": "days"},
        variables={
            "score": {"roles": ["input", "target"], "units": "points"},
            "age": {"baseline_plus_elapsed": True, "per_year": 1, "units": "years"},
        },
        static={"sex": {"levels": ["F", "M"]}},
        missing=["n/a"],
    )


def tadpole(rng: np.random.Generator, folder: Path, people: Sequence[Person], names: Sequence[str]) -> Tadpole:
    """Write a table of the challenge with all visits or each subject's last; return its reader."""
    changes = {"well": "NL", "mild": "MCI", "ill": "Dementia"}
    last = bool(rng.random() < 0.5)  # as in D3: each subject's last visit alone
    rows = []
    for i, one in enumerate(people):
        for j, (day, at) in enumerate(zip(one.days, one.dates(), strict=True)):
            months = round(day / 30.4375 / 6) * 6
            if last and j + 1 < len(one.days):
                continue
            rows.append(
                {
                    "RID": f"{i + 2}.0" if last else str(i + 2),
                    "VISCODE": "bl" if j == 0 else f"m{months:02}",
                    "EXAMDATE": at.isoformat(),
                    "DX": changes[one.stages[j]],
                    "AGE": f"{one.age:g}",
                    "PTGENDER": {"F": "Female", "M": "Male"}[one.sex],
                    "PTEDUCAT": str(12 + i % 6),
                    "ADAS13": number(one.scores[j], "-4"),
                    "MMSE": "28",
                    "Ventricles": number(None if one.volumes[j] is None else 1000 * float(one.volumes[j] or 0), ""),
                    **{name: "9000" for name in ("Hippocampus", "WholeBrain", "Entorhinal", "Fusiform", "MidTemp")},
                    "ICV": "1500000",
                }
            )
    (folder / "TADPOLE.csv").write_text(text(rows, ",", rng))
    age = {"column": "AGE", "units": "years", "per_year": 1, "baseline_plus_elapsed": True, "origin": "EXAMDATE_bl"}
    return Tadpole(
        str(folder / "TADPOLE.csv"),
        {
            "diagnosis": {"roles": ["input", "target"], "levels": ["CN", "MCI", "AD"], "ordered": True},
            "score": {"column": "ADAS13", "units": "points"},
            "Ventricles_ICV": {"units": "fraction of intracranial volume"},
            "age": age | {"roles": ["input", "future"]},
            "date": {"column": "EXAMDATE", "roles": ["date"]},
        },
        {"sex": {"column": "PTGENDER", "levels": ["Female", "Male"]}},
    )


def clean(kind: str, seed: int, folder: Path) -> tuple[Reader, dict[str, Person]]:
    """Write a clean cohort into a folder; return its reader and the truth by subject."""
    rng = np.random.default_rng([READERS.index(kind), seed])
    people = simulate_people(rng, 12 if kind in ("nifti", "bids") else 40)
    names = ids(rng, len(people))
    reader = {"table": table, "nifti": nifti, "bids": bids, "tadpole": tadpole}[kind](rng, folder, people, names)
    if kind == "bids":
        names = [f"sub-{''.join(filter(str.isalnum, name))}" for name in names]
    if kind == "tadpole":
        names = [str(i + 2) for i in range(len(people))]
    return reader, dict(zip(names, people, strict=True))


def wrong_values(cohort: Cohort, truth: Mapping[str, Person]) -> list[str]:
    """List what differs between a cohort and the truth."""
    found = []
    score, age = (cohort.column(name) for name in ("score", "age"))
    if set(cohort.subjects) != set(truth):
        found.append("subjects")
    for i, subject in enumerate(cohort.subjects):
        one, count = truth[subject], int(cohort.valid[i].sum())
        first = len(one.days) - count  # above 0 in a table of last visits
        years = one.years[first:] - one.years[first]
        if not np.allclose(cohort.times[i, :count], years, atol=1e-4):
            found.append(f"{subject}: times")
        if not np.allclose(cohort.values[i, :count, age], one.age + one.years[first:], atol=0.3):
            found.append(f"{subject}: age")
        read = np.where(cohort.observed[i, :count, score], cohort.values[i, :count, score], np.nan)
        if not np.allclose(read, [np.nan if s is None else s for s in one.scores[first:]], equal_nan=True):
            found.append(f"{subject}: score")
    return found


def ingest_clean(kind: str, seed: int) -> dict[str, Any]:
    """Ingest one clean cohort; return its warnings, error and wrong values."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "source").mkdir()
        reader, truth = clean(kind, seed, Path(folder) / "source")
        try:
            cohort = ingest(reader, f"{folder}/store")
        except Exception as error:  # counted as a false alarm
            return {"reader": kind, "seed": seed, "error": f"{type(error).__name__}: {error}"}
        warnings = cohort.manifest["provenance"]["warnings"]
        return {"reader": kind, "seed": seed, "warnings": warnings, "wrong": wrong_values(cohort, truth)}


def main() -> None:
    """Ingest all cohorts and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clean", description="False alarms on clean cohorts.")
    parser.add_argument("--cohorts", type=int, default=100, help="of each reader")
    args = parser.parse_args()
    cases = {}
    for kind in READERS:
        found = [ingest_clean(kind, seed) for seed in range(args.cohorts)]
        cases[kind] = {key: sum(bool(case.get(key)) for case in found) for key in ("warnings", "error", "wrong")}
        cases[kind] |= {"cohorts": args.cohorts, "inside": not any(cases[kind].values())}
        print(f"{kind:10}", *(f"{key} {value}" for key, value in cases[kind].items()))
        for case in found:
            if case.get("warnings") or case.get("error") or case.get("wrong"):
                print("  ", case)
    ratio = float(np.mean([case["inside"] for case in cases.values()]))
    measure.write(
        measure.record("clean", {"device": "cpu", "versions": {"numpy": np.__version__}}, cases) | {"ratio": ratio}
    )


if __name__ == "__main__":
    main()
