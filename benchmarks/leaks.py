"""Sensitivity and specificity of the leak search: `python -m benchmarks.leaks`.

- honest: a hundred designs without a leak, given to every probe and to the search for duplicate subjects and scans:
  user-defined forecasters, last visit, slope and ridge on tables, on `rhythm`, on tables in TADPOLE's format and on
  simulated scans, with folds, folds by stratum, by site and by date, 20 to 60 subjects each.
- planted: one leak in an honest design, by name; a case passes if this leak, and no other, is reported.
- copies: subjects of the simulated cohort duplicated under other ids, with changed scans: how many the search reports
  where all are copied, and where two are. The full `model/augment=standard` is reported, not gated.

The ratio is the share of gated cases that pass. The planted leaks are defined with the tests
(`tests/evaluate/leakage/plants.py`). Writes results/leaks-<device>.json.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import numpy as np
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from jaxtyping import Float

from benchmarks import measure
from framework.data.batches.normalise import scaled
from framework.data.cohort.store import Cohort, exists, open_cohort
from framework.data.ingest import ingest
from framework.data.ingest.atrophy import Atrophy
from framework.data.ingest.rhythm import Rhythm
from framework.data.queries.examples import Examples
from framework.data.queries.layout import layout
from framework.data.splits.split import KFold, Splitter
from framework.data.splits.temporal import Temporal
from framework.evaluate.leakage.gap_test import copied
from framework.evaluate.leakage.probes import leaks
from framework.evaluate.leakage.scan_similarity import reduced, scan_similarity
from framework.forecast.base import Forecaster
from framework.forecast.references import LastVisit
from framework.image.augment import Affine, BiasField, Compose, Elastic, Flip, Gamma, Noise
from framework.types import Scans
from tests.evaluate.leakage import plants
from tests.evaluate.leakage.test_probes import PLANTED, twin
from tests.tadpole import tables as tadpole

KEY = jax.random.key(0)
Design = tuple[str, Forecaster, Examples, Splitter]
CHANGES: Mapping[str, Sequence] = {
    "mirrored": [Flip(1.0)],
    "noised": [Noise(0.15)],
    "gamma": [Gamma(0.4)],
    "shaded": [BiasField(0.1, 2)],
    "turned 3 degrees, grown 3%": [Affine(3.0, 0.03, 0.02)],
    "turned 10 degrees, grown 10%": [Affine(10.0, 0.1, 0.05)],
    "bent by 3%": [Elastic(0.03)],
    "mirrored, turned 5 degrees, shaded, gamma, noised": [
        Flip(0.5), Affine(5.0, 0.05, 0.03), BiasField(0.1, 2), Gamma(0.2), Noise(0.05),
    ],
}  # fmt: skip


class CohortSubset(Cohort):
    """Subjects of a cohort that share its scans on disk."""

    whole: Cohort
    rows: Sequence[int]

    @staticmethod
    def of(cohort: Cohort, rows: Sequence[int]) -> "CohortSubset":
        columns = {field.name: getattr(cohort, field.name) for field in fields(Cohort)}
        tables = ("times", "values", "observed", "static", "static_observed")
        columns |= {name: columns[name][np.asarray(rows)] for name in tables}
        columns["manifest"] = {**cohort.manifest, "subjects": [cohort.manifest["subjects"][row] for row in rows]}
        subset = CohortSubset(**columns)
        subset.__dict__.update(whole=cohort, rows=rows)
        return subset

    def voxels(self, modality: str, subject: int, visit: int) -> Float[np.ndarray, "x y z c"]:
        return self.whole.voxels(modality, self.rows[subject], visit)


def designs(atrophy: Cohort, rhythm: Cohort, adni: Cohort) -> Iterator[Design]:
    """Yield a hundred honest designs; each depends on its number alone."""
    with initialize_config_module("conf", version_base="1.3"):
        ridge = instantiate(compose("forecast", ["model=ridge"]).model, _convert_="all")
    cohorts = {
        "rhythm": (rhythm, ["activity"], []),
        "adni": (adni, ["ADAS13", "diagnosis"], []),
        "atrophy": (atrophy, ["cognition"], ["flair"]),
    }
    for number in range(40):
        rng = np.random.default_rng(number)
        subjects = int(rng.integers(20, 60))
        forecaster: Forecaster = LastVisit(bool(number % 2)) if number % 4 == 0 else plants.Own(tells=bool(number % 2))
        yield "own", forecaster, plants.study(made=plants.cohort(1000 + number, subjects)), KFold(3, 0.25, 0, number)
    for number in range(60):
        name, rng = ("rhythm", "adni", "atrophy")[number % 3], np.random.default_rng(number)
        cohort, targets, hidden = cohorts[name]
        rows = np.sort(rng.permutation(len(cohort.subjects))[: int(rng.integers(30, 60))])
        subset = CohortSubset.of(cohort, rows.tolist())
        task = "next_visit" if name == "rhythm" else "future_visits"
        examples = Examples(subset, layout(subset.schema, targets, hidden), task)
        model = (LastVisit(False), LastVisit(True), ridge)[number // 3 % 3]
        yield name, model, examples, _split(name, number)


def _split(name: str, number: int) -> Splitter:
    with initialize_config_module("conf", version_base="1.3"):
        site = instantiate(compose("forecast", ["split=site"]).split, _convert_="all")
    plain = KFold(4, 0.2, 0, number)
    other = {
        "rhythm": plain,
        "adni": Temporal("2010-06-01", 3, 0.2, 0, number),
        "atrophy": site if number % 4 == 0 else KFold(4, 0.2, 0, number, ("diagnosis",)),
    }
    return other[name] if number % 2 == 0 else plain


def alarms(honest: Iterator[Design]) -> tuple[dict[str, dict], list[str]]:
    """Count designs and false alarms by cohort; return the messages of the alarms too."""
    cases, messages = dict[str, dict](), []
    for number, (name, forecaster, examples, splitter) in enumerate(honest):
        split = splitter.one(examples.cohort)
        found = leaks(forecaster, examples, split, KEY, splitter.known)
        case = cases.setdefault(f"honest, {name}", {"designs": 0, "alarms": 0})
        case["designs"] += 1
        case["alarms"] += bool(found)
        messages += [f"{number} {name} {type(splitter).__name__} {type(forecaster).__name__}: {leak}" for leak in found]
        print(f"{number:3} {name:8} {'; '.join(map(str, found)) or 'nothing'}", flush=True)
    return {name: case | {"inside": not case["alarms"]} for name, case in cases.items()}, messages


def planted() -> dict[str, dict]:
    """Search for every planted leak by name."""
    cases = {}
    for name, plant in PLANTED:
        found = sorted({leak.name for leak in leaks(plants.Own(**plant), plants.study(), plants.split(), KEY)})
        arguments = ", ".join(f"{key}={value}" for key, value in plant.items())
        cases[f"planted, {name} ({arguments})"] = {"found": found, "inside": found == [name]}
    for kind, name in (("person", "two_ids"), ("scan", "duplicate_voxels")):
        study = plants.study(made=twin(kind))
        found = sorted({leak.name for leak in leaks(LastVisit(True), study, plants.split(), KEY)})
        cases[f"planted, {name}"] = {"found": found, "inside": found == [name]}
    return cases


def copies(cohort: Cohort, subjects: int = 60) -> dict[str, dict]:
    """Count changed copies that are found among subjects with one scan each, and false findings."""
    rows = np.flatnonzero(cohort.present["t1"].any(1))[:subjects]
    scans = np.stack([scaled(cohort, "t1", int(r), int(cohort.present["t1"][r].argmax())) for r in rows])
    with initialize_config_module("conf", version_base="1.3"):
        standard = instantiate(compose("forecast", ["model/augment=standard"]).model.augment, _convert_="all")
    cases = {}
    for name, transform in {
        **{name: Compose(changes) for name, changes in CHANGES.items()},
        "standard": standard,
    }.items():
        changed = np.asarray(transform(_packed(scans), jax.random.key(3)).voxels)
        case = {}
        for label, count in (("all", len(scans)), ("two", 2)):
            small = np.stack([reduced(scan) for scan in [*scans, *changed[:count]]])
            right, wrong = _count_found(small, len(scans))
            case |= {f"of_{label}": right / count, f"wrong_of_{label}": wrong}
        gate = {} if name == "standard" else {"inside": bool(case["of_all"] >= 0.5 and case["wrong_of_all"] <= 1)}
        cases[f"copies, {name}"] = case | gate
    return cases


def _packed(scans: Float[np.ndarray, "n x y z c"]) -> Scans:
    count = np.arange(len(scans))
    return Scans(scans, count, np.zeros_like(count), np.ones(len(scans), bool))


def _count_found(small: Float[np.ndarray, "s u v w"], subjects: int) -> tuple[int, int]:
    found = copied(scan_similarity(small, np.arange(len(small)), len(small)))
    right = sum(copy.subject % subjects in {other % subjects for other in copy.others} for copy in found)
    return right, len(found) - right


def _cohort(path: Path, make: Callable[[], Any]) -> Cohort:
    return open_cohort(str(path)) if exists(str(path)) else ingest(make(), str(path))


def _adni(path: Path) -> Cohort:
    """Write 120 subjects in TADPOLE's format and ingest them."""
    with TemporaryDirectory() as folder, initialize_config_module("conf", version_base="1.3"):
        tadpole.write(Path(folder), 120, 7)
        data = compose("forecast", ["data=tadpole", f"data.path={folder}/TADPOLE_D1_D2.csv"]).data
        return _cohort(path, lambda: instantiate(data.reader, _convert_="all"))


def main() -> None:
    """Run every case, print a line each and write the record."""
    args = _arguments()
    with TemporaryDirectory() as temporary:
        folder = Path(args.cohorts or temporary)
        atrophy = _cohort(folder / "atrophy", lambda: Atrophy(args.scanned, 5))
        rhythm = _cohort(folder / "rhythm", lambda: Rhythm(100, 3))
        cases = {**planted(), **copies(atrophy)}
        honest, messages = alarms(designs(atrophy, rhythm, _adni(folder / "adni")))
        cases |= honest
    for name, case in cases.items():
        verdict = "" if "inside" not in case else "passed" if case["inside"] else "FAILED"
        shown = "  ".join(f"{key} {value}" for key, value in case.items() if key != "inside")
        print(f"{name:60} {shown}  {verdict}")
    gated = [case["inside"] for case in cases.values() if "inside" in case]
    environment = {"device": jax.devices()[0].device_kind, "versions": {"jax": jax.__version__}}
    measure.write(measure.record("leaks", environment, cases, said=messages) | {"ratio": float(np.mean(gated))})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.leaks", description="Sensitivity and specificity of the leak search."
    )
    parser.add_argument("--cohorts", help="folder that keeps the simulated cohorts")
    parser.add_argument("--scanned", type=int, default=60, help="subjects with scans")
    return parser.parse_args()


if __name__ == "__main__":
    main()
