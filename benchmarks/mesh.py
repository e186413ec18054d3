"""Agreement of training on eight devices with training on one.

    python -m benchmarks.mesh

Eight forced devices of a CPU train the recurrent model on tables, and with a CNN on scans, for 20 steps with dropout,
sharding batches (data) or also parameters (fsdp). `ratio` is the tolerance, 1e-5, over the largest difference of any
parameter from training on one device: above 1 passes.
"""

import json
import tempfile
from pathlib import Path

from benchmarks.measure import RESULTS, commit, machine
from tests.train.meshes import STEPS, apart, end, start

DEVICES, TOLERANCE, LEAST = 8, 1e-5, 1e-12
MODELS, MESHES = ("gru", "cnn_gru"), ("data", "fsdp")


def main() -> None:
    """Train, compare and write the record."""
    with tempfile.TemporaryDirectory() as folder:
        cases = measure(Path(folder))
    worst = max(case["largest_difference"] for case in cases.values())
    result = {
        "benchmark": "mesh",
        "device": "cpu",
        "ratio": round(TOLERANCE / max(worst, LEAST), 3),
        "cases": cases,
        "devices": DEVICES,
        "steps": STEPS,
        "tolerance": TOLERANCE,
        "machine": machine(),
        "commit": commit(),
    }
    (RESULTS / "mesh.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


def measure(folder: Path) -> dict[str, dict]:
    """Return the largest difference of any parameter between each mesh and one device."""
    end(start(DEVICES, str(folder), *(f"{model},{mesh}" for model in MODELS for mesh in ("single", *MESHES))))
    return {
        f"{model}, {mesh}": {
            "largest_difference": apart(folder / f"{model},single.npz", folder / f"{model},{mesh}.npz")
        }
        for model in MODELS
        for mesh in MESHES
    }


if __name__ == "__main__":
    main()
