"""Faults of NIfTI headers: some bits here, all of them in the record."""

import json

import pytest

from benchmarks import faults, measure
from benchmarks.nifti_faults import HEADER, KINDS, OUTCOMES, Trial, field_of, flips, outcome

UNSEEN = {  # written once in such a header, or smaller than the differences between scans: the list in framework/DESIGN.md
    "sform and qform": {"scl_inter": 1},
    "sform and qform, oblique": {"srow_x": 1},
    "sform alone": {"scl_inter": 1, "srow_x": 1, "srow_y": 1, "srow_z": 1},
    "qform alone": {"scl_inter": 1, "pixdim": 20},
    "computed tomography": {"scl_inter": 1},
    "packed": {},
}
EVERY = 53  # bits; a number that is prime, so that all bits of a byte take turns


@pytest.mark.parametrize("kind", KINDS)
def test_no_fault_of_a_header_is_silent_but_those_listed(tmp_path, kind):
    found = list(flips(KINDS[kind], tmp_path, EVERY if not KINDS[kind].packed else 4 * EVERY))
    assert {field for field, one in found if one == "silent"} <= set(UNSEEN[kind])
    assert "traceback" not in {one for _, one in found}
    assert [one for _, one in found].count("refused") > 3


def test_a_silent_fault_is_counted_as_silent(tmp_path):
    """A qform without sform has its voxel sizes once: here twice as large along one axis."""
    import nibabel
    import numpy as np

    from framework.data.ingest.scans.regridding import Grid

    kind, whole, broken = KINDS["qform alone"], tmp_path / "whole.nii", tmp_path / "broken.nii"
    kind.save(whole)
    trial = Trial(tmp_path, Grid((16, 16, 16), (12.0, 12.0, 12.0)), ())
    expected = trial.network_input(whole)
    content = bytearray(whole.read_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]))
    header["pixdim"][1] *= 2
    broken.write_bytes(header.binaryblock + bytes(content[348:]))
    assert outcome(trial, broken, expected) == "silent"
    header["pixdim"][1] = np.nan
    broken.write_bytes(header.binaryblock + bytes(content[348:]))
    assert outcome(trial, broken, expected) == "refused"
    assert outcome(trial, whole, expected) == "harmless"


def test_any_other_error_is_a_traceback(tmp_path, monkeypatch):
    kind, whole = KINDS["sform alone"], tmp_path / "whole.nii"
    kind.save(whole)

    class Broken:
        def network_input(self, file):
            raise KeyError("code")

    assert outcome(Broken(), whole, None) == "traceback"


def test_the_record_holds_every_bit():
    record = json.loads((measure.RESULTS / "faults-cpu.json").read_text())
    assert {f"nifti, {name}" for name in KINDS} <= set(record["cases"])
    for name, case in record["cases"].items():
        assert case["bits"] == sum(case[one] for one in OUTCOMES)
        assert name == "nifti, packed" or not name.startswith("nifti") or case["bits"] == 8 * HEADER
        assert case["traceback"] == 0
        assert not name.startswith("nifti") or case["silent_by_field"] == UNSEEN[name.partition(", ")[2]]
    assert record["ratio"] == pytest.approx(faults.ratio(record["cases"]))


def test_bytes_have_names():
    assert [field_of(byte) for byte in (0, 40, 76, 112, 280, 348)] == [
        "sizeof_hdr",
        "dim",
        "pixdim",
        "scl_slope",
        "srow_x",
        "extension",
    ]
