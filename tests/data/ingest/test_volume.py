"""NIfTI files with one fault each: none is read as if it were whole."""

import gzip

import nibabel
import numpy as np
import pytest

from framework.data.ingest.volume import read_volume
from framework.errors import UserError

VOXELS = np.random.default_rng(0).integers(0, 1000, (11, 12, 13)).astype(np.int16)
AFFINE = np.array([[-2.0, 0, 0, 10], [0, -2, 0, 20], [0, 0, 3, -5], [0, 0, 0, 1]])


def image(voxels: np.ndarray = VOXELS, affine: np.ndarray = AFFINE, kind=nibabel.Nifti1Image) -> nibabel.Nifti1Image:
    return kind(voxels, affine)


def saved(folder, made, name="v.nii.gz"):
    nibabel.save(made, folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_whole_file_is_read(tmp_path, name, kind):
    volume = read_volume(saved(tmp_path, image(kind=kind), name))
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert volume.voxels.dtype == np.float32
    assert len(volume.sha256) == 64


def test_scaling_units_and_a_fourth_axis_of_one(tmp_path):
    made = image(VOXELS[..., None], AFFINE / 1000)
    made.header.set_slope_inter(0.5, 3)
    made.header.set_xyzt_units("meter")
    volume = read_volume(saved(tmp_path, made))
    assert volume.voxels.shape == VOXELS.shape
    np.testing.assert_allclose(volume.affine[:3], AFFINE[:3], rtol=1e-6)


def test_no_flipped_bit_passes_unseen(tmp_path):
    file = saved(tmp_path, image())
    whole, rng = file.read_bytes(), np.random.default_rng(1)
    for _ in range(200):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        file.write_bytes(content)
        try:
            volume = read_volume(file)
        except UserError:
            continue
        # a flip in the name or date that gzip keeps changes no voxel
        np.testing.assert_array_equal(volume.voxels, VOXELS)
        np.testing.assert_allclose(volume.affine, AFFINE)


def test_a_small_file_that_claims_much_is_refused_before_memory_is(tmp_path):
    header = nibabel.Nifti1Header()
    header.set_data_shape((32000, 32000, 32000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(4)))
    with pytest.raises(UserError, match="claims"):
        read_volume(tmp_path / "v.nii.gz")


def test_a_header_without_voxels_is_no_volume(tmp_path):
    """The .hdr of an .hdr/.img pair, renamed: read as a volume, its own header would be the voxels."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((4, 4, 4))
    (tmp_path / "v.nii").write_bytes(header.binaryblock + bytes(1000))
    with pytest.raises(UserError, match="within its header"):
        read_volume(tmp_path / "v.nii")


def test_a_bomb_is_not_unpacked(tmp_path):
    whole = saved(tmp_path, image(), "v.nii").read_bytes()
    (tmp_path / "v.nii.gz").write_bytes(gzip.compress(whole + bytes(2**22)))
    with pytest.raises(UserError, match="more than"):
        read_volume(tmp_path / "v.nii.gz")


@pytest.mark.parametrize(
    ("voxels", "affine", "complaint"),
    [
        (np.zeros((4, 4, 4, 2), np.float32), np.eye(4), "one 3-D volume"),
        (np.zeros((4, 4), np.float32), np.eye(4), "one 3-D volume"),
        (np.full((4, 4, 4), np.nan, np.float32), np.eye(4), "64 of its voxels are NaN"),
        (np.zeros((4, 4, 4), np.complex64), np.eye(4), "real numbers"),
        (np.zeros((4, 4, 4), np.float32), np.diag([1.0, 1, 0, 1]), "affine"),
        (
            np.zeros((4, 4, 4), np.float32),
            np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]),
            "affine",
        ),
        (np.zeros((4, 4, 4), np.float32), None, "oriented"),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path, voxels, affine, complaint):
    made = nibabel.Nifti1Image(voxels, np.eye(4))
    made.header.set_data_shape(voxels.shape)
    made.header["vox_offset"], made.header["magic"] = 352, b"n+1"
    if affine is None:
        made.header["sform_code"] = made.header["qform_code"] = 0
    else:
        made.header["sform_code"], made.header["srow_x"], made.header["srow_y"], made.header["srow_z"] = 1, *affine[:3]
    content = made.header.binaryblock + bytes(4) + voxels.tobytes(order="F")
    (tmp_path / "v.nii").write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        read_volume(tmp_path / "v.nii")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "no NIfTI"), (b"hello" * 200, "."), (None, "cut short"), ("absent", "No such file")],
)
def test_an_unreadable_file_says_why(tmp_path, content, complaint):
    file = saved(tmp_path, image(), "v.nii")
    if content is None:
        file.write_bytes(file.read_bytes()[:-10])
    elif content == "absent":
        file.unlink()
    else:
        file.write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        read_volume(file)
