"""Nothing is said of scans that are as they should be: made-up ones of many orientations, and real ones."""

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest

from framework.data.ingest.base import ingest
from framework.data.ingest.bids import Bids
from tests.scans import GRID, ball, made, middle, save

SHARED = Path(__file__).parents[4] / "shared" / "data"
ORDERS = list(permutations(range(3)))
FORMS = {
    "both": (1, 1, np.int16),
    "aligned": (2, 1, np.uint8),
    "itk": (1, 2, np.float32),
    "sform": (1, 0, np.float64),
    "qform": (0, 1, np.int32),
}


def turned(rng: np.random.Generator) -> np.ndarray:
    """A small rotation, as of an oblique scan."""
    angles = np.deg2rad(rng.uniform(-15, 15, 3))
    made = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[i, j, i, j], [i, j, j, i]] = np.cos(angle), np.cos(angle), -np.sin(angle), np.sin(angle)
        made = turn @ made
    return made


def stored(voxels: np.ndarray, order: tuple[int, ...], signs: tuple[int, ...], oblique: np.ndarray):
    """The same head stored along other axes: voxels, and the affine that says so."""
    axes = np.zeros((3, 3))
    for new, (old, sign) in enumerate(zip(order, signs, strict=True)):
        axes[old, new] = 4.0 * sign
    flipped = np.flip(voxels.transpose(order), [i for i, sign in enumerate(signs) if sign < 0])
    affine = np.eye(4)
    affine[:3, :3] = oblique @ axes
    affine[:3, 3] = (-30, 12, 55)
    return flipped, affine


@pytest.mark.parametrize("forms", FORMS)
def test_orientations_obliqueness_and_types(tmp_path, capsys, forms):
    rng = np.random.default_rng(len(forms))
    signs = list(product((1, -1), repeat=3))
    files, (*codes, kind) = [], FORMS[forms]
    for number in range(4):
        noise = rng.integers(0, 12, (48,) * 3)
        head = (ball((20, 0, 0), radius=60) // 5 + noise).astype(kind)
        voxels, affine = stored(head, ORDERS[rng.integers(6)], signs[rng.integers(8)], turned(rng))
        files.append(f"{number}.nii.gz")
        save(
            tmp_path / files[-1],
            voxels,
            sform=(affine if codes[0] else None, codes[0]),
            qform=(affine if codes[1] else None, codes[1]),
        )
    cohort, entries = made(tmp_path, files)
    assert entries == []
    assert capsys.readouterr().err == ""
    for visit in range(4):
        np.testing.assert_allclose(np.linalg.norm(middle(cohort, 0, visit)), 20, atol=4)
        right = cohort.voxels("T1w", 0, visit)
        assert right[9:].sum() > right[:7].sum()


def test_computed_tomography(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for number, (pad, slope, inter) in enumerate(((-1000, 1, 0), (-1024, 1, -1024), (-3024, 1, 0), (-2000, 1, -1024))):
        hu = np.where(ball(radius=70) > 0, 40, -1000) + rng.integers(-10, 10, (48,) * 3)
        hu[:2] = pad
        save(tmp_path / f"{number}.nii", (hu - inter).astype(np.int16), scl_slope=slope, scl_inter=inter)
    cohort, entries = made(tmp_path, [f"{n}.nii" for n in range(4)], grid={"units": "HU"})
    assert entries == []
    assert capsys.readouterr().err == ""
    for visit in range(4):
        assert cohort.voxels("T1w", 0, visit)[8, 8, 8, 0] == pytest.approx(40, abs=5)


def test_scans_of_other_gains(tmp_path, capsys):
    """Scanners and converters scale as they like; arbitrary units mean that it is no matter."""
    rng, files = np.random.default_rng(0), []
    for number, gain in enumerate((1, 0.02, 70, 1)):
        head = gain * (ball(radius=60) + np.abs(rng.normal(0, 20, (48,) * 3)))
        image = nibabel.Nifti1Image(head.astype(np.float32), np.diag([4.0, 4, 4, 1]))
        image.set_data_dtype(np.int16 if number % 2 else np.float32)  # int16 is scaled by slope and intercept
        files.append(f"{number}.nii.gz")
        nibabel.save(image, tmp_path / files[-1])
    _, entries = made(tmp_path, files)
    assert entries == []
    assert capsys.readouterr().err == ""


@pytest.mark.long  # as they are by default: test_bids
@pytest.mark.skipif(not (SHARED / "ms-longitudinal").exists(), reason="needs ../shared/data/ms-longitudinal")
def test_real_patients_centred_on_the_foreground(tmp_path, capsys):
    grid = {"shape": [32, 32, 32], "spacing": [6, 6, 6], "centre": "foreground"}
    reader = Bids(
        str(SHARED / "ms-longitudinal"),
        {name: grid for name in ("T1w", "T2w", "FLAIR")},
        {"column": "days_since_first", "units": "days"},
    )
    cohort = ingest(reader, str(tmp_path / "c"))
    assert sum(int(table.sum()) for table in cohort.present.values()) == 11
    assert capsys.readouterr().err == ""


IBSI = SHARED / "ibsi"


@pytest.mark.skipif(not IBSI.exists(), reason="needs ../shared/data/ibsi")
def test_real_phantoms(tmp_path, capsys):
    """One is of one value throughout, and says so; the smallest needs a grid of its size."""
    phantoms = sorted((IBSI / "ibsi_2_digital_phantom/nifti").glob("*/image/*.nii.gz"))
    assert len(phantoms) == 9
    for phantom in phantoms:
        (tmp_path / phantom.name).symlink_to(phantom)
    names = [phantom.name for phantom in phantoms]
    cohort, entries = made(tmp_path, names, subject=None, on_error="exclude", grid={"spacing": [8.0, 8.0, 8.0]})
    assert [(entry.subject, entry.status) for entry in entries] == [("empty", "excluded")]
    assert "it is empty" in entries[0].reason
    assert len(cohort.subjects) == 8
    for name, path, grid in (
        ("ct", "ibsi_1_ct_radiomics_phantom/nifti/image/phantom.nii.gz", {"units": "HU"}),
        ("small", "ibsi_1_digital_phantom/nifti/image/phantom.nii.gz", {"shape": [5, 4, 4], "spacing": [2.0] * 3}),
    ):
        (tmp_path / f"{name}.nii.gz").symlink_to(IBSI / path)
        assert made(tmp_path, [f"{name}.nii.gz"], grid=GRID | grid)[1] == []
    assert capsys.readouterr().err == ""
