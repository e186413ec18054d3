"""Is a fault in the data found before it is used? `python -m benchmarks.faults`.

Faults are put into whole data, one at a time, and the data are read as a user would read them. A fault is refused in
one line, or warned of, or it changes nothing; silent is one that changes what a model is given and about which nothing
was said. A traceback is never right. Parts:

- nifti: every bit of a NIfTI header, for six ways to write one scan, and every bit of a packed one.
- store: a bit flipped, a file cut, gone, zeroed, longer, exchanged for another, a value edited, an element of an array
  written anew with checksums that hold, in a cohort on disk; then all of it is read.
- run: the same, and weights that are NaN or others, in a run's folder, of which a forecast or a report is asked; in a
  prediction, in pretrained encoders, and in what an interrupted run goes on from.

With `--folder` what was made and each outcome is kept there, and a benchmark that was stopped goes on. The ratio is the
share of faults that change anything, or would, which are not silent. Parts that are not asked for keep the cases of the
last record. Writes results/faults-cpu.json.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel
import numpy as np

from benchmarks import measure, nifti_faults, run_faults, store_faults

PARTS: Mapping[str, Callable[[Path], dict[str, dict]]] = {
    "nifti": nifti_faults.measure,
    "store": store_faults.measure,
    "run": run_faults.measure,
}
"""A part measures in a folder of its own; its cases are called `<part>, <what>` and count faults by outcome: bits (or
faults), refused, warned, harmless, slight, silent, traceback."""


def ratio(cases: Mapping[str, Mapping]) -> float:
    """The share of faults that are not harmless of which a user hears, or which change less than 1%."""
    harmful = sum(case["bits"] - case["harmless"] for case in cases.values())
    lost = sum(case["silent"] + case["traceback"] for case in cases.values())
    return 1 - lost / max(harmful, 1)


def main() -> None:
    """The parts that are asked for, a line a case, and the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description="Faults put in, and found or not.")
    parser.add_argument("--parts", nargs="+", choices=sorted(PARTS), default=sorted(PARTS))
    parser.add_argument("--folder", type=Path, help="where to keep what was made; to go on from")
    given = parser.parse_args()
    asked = given.parts
    file = measure.RESULTS / "faults-cpu.json"
    kept = json.loads(file.read_text())["cases"] if file.exists() else {}
    cases = {name: case for name, case in kept.items() if name.partition(",")[0] not in asked}
    for part in asked:
        with TemporaryDirectory() if given.folder is None else nullcontext(given.folder / part) as folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            cases |= PARTS[part](Path(folder))
    for name, case in cases.items():
        print(f"{name:32} " + "  ".join(f"{key} {value}" for key, value in case.items()), flush=True)
    environment = {"device": "cpu", "versions": {"nibabel": nibabel.__version__, "numpy": np.__version__}}
    measure.write(measure.record("faults", environment, cases) | {"ratio": ratio(cases)})


if __name__ == "__main__":
    main()
