"""Detection of faults in the data before they are used: `python -m benchmarks.faults`.

Faults are put into intact data, one at a time, and the data are read as a user would read them. A fault is refused in
one line, or causes a warning, or changes nothing; it is silent if it changes a model's input without a message. A
traceback is always wrong. Parts:

- nifti: every bit of a NIfTI header, for six ways to write one scan, and every bit of a compressed one.
- store: in a cohort on disk, which is then read completely: a flipped bit, a file truncated, deleted, zeroed, extended
  or exchanged, an edited value, an element of an array rewritten with valid checksums.
- run: the same, and NaN or changed weights, in a run's folder that `predict` or `report` reads, in a prediction, in
  pretrained encoders, and in the states from which an interrupted run resumes.

With `--folder` the data and each outcome are kept there, and a stopped benchmark continues. The ratio is the share of
the faults that change or would change anything which are not silent. Parts that are not requested keep the cases of the
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
"""A part measures in its own folder; its cases are called `<part>, <name>` and count faults by outcome: bits (or
faults), refused, warned, harmless, slight, silent, traceback."""


def ratio(cases: Mapping[str, Mapping]) -> float:
    """Share of the faults that are not harmless which are reported, or change less than 1%."""
    harmful = sum(case["bits"] - case["harmless"] for case in cases.values())
    lost = sum(case["silent"] + case["traceback"] for case in cases.values())
    return 1 - lost / max(harmful, 1)


def main() -> None:
    """Measure the requested parts, print a line per case and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description="Detection of faults in the data.")
    parser.add_argument("--parts", nargs="+", choices=sorted(PARTS), default=sorted(PARTS))
    parser.add_argument(
        "--folder", type=Path, help="where data and outcomes are kept, so that a stopped benchmark continues"
    )
    args = parser.parse_args()
    file = measure.RESULTS / "faults-cpu.json"
    kept = json.loads(file.read_text())["cases"] if file.exists() else {}
    cases = {name: case for name, case in kept.items() if name.partition(",")[0] not in args.parts}
    for part in args.parts:
        with TemporaryDirectory() if args.folder is None else nullcontext(args.folder / part) as folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            cases |= PARTS[part](Path(folder))
    for name, case in cases.items():
        print(f"{name:32} " + "  ".join(f"{key} {value}" for key, value in case.items()), flush=True)
    environment = {"device": "cpu", "versions": {"nibabel": nibabel.__version__, "numpy": np.__version__}}
    measure.write(measure.record("faults", environment, cases) | {"ratio": ratio(cases)})


if __name__ == "__main__":
    main()
