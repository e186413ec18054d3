"""NIfTI files with one fault each: none is read as if it were whole."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from framework.data.ingest.scans.reading import Reading
from framework.data.ingest.scans.volume import read_volume
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


def changed(folder: Path, **fields: object) -> Path:
    """A whole uncompressed file of which header fields say something else."""
    file = saved(folder, image(), "v.nii")
    content = bytearray(file.read_bytes())
    header = nibabel.Nifti1Header(bytes(content[:348]))
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"vox_offset": np.inf}, "would start at byte inf"),
        ({"vox_offset": np.nan}, "would start at byte nan"),
        ({"vox_offset": 352.5}, "would start at byte 352.5"),
        ({"vox_offset": 1e9}, r"would start at byte 1e\+09"),
        ({"xyzt_units": 5}, "unit of length has the code 5"),
        ({"scl_slope": np.inf}, "to be scaled by inf and 0"),
        ({"scl_slope": 1, "scl_inter": np.nan}, "to be scaled by 1 and nan"),
        ({"bitpix": 32}, "its voxels are int16 and yet of 32 bits"),
        ({"datatype": 6}, "its voxels are of type 6"),
        ({"dim": [3, 11, 12, 12, 1, 1, 1, 1]}, "holds more than the 3520 bytes its header claims"),
        ({"dim": [3, 11, 12, 14, 1, 1, 1, 1]}, "cut short: it can hold 3784 bytes of the 4048"),
        ({"dim": [9, 11, 12, 13, 1, 1, 1, 1]}, "claims 9 axes"),
        ({"sform_code": 9}, "sform_code is 9; expected 0 to 5"),
        ({"qform_code": -1}, "qform_code is -1; expected 0 to 5"),
        ({"qform_code": 1, "quatern_b": 2}, "its quaternion is longer than 1"),
        ({"qform_code": 1, "pixdim": [3, 2, 2, 3, 1, 1, 1, 1]}, r"handedness \(pixdim\[0\]\) 3"),
        ({"srow_x": [np.inf, 0, 0, 0]}, "degenerate"),
        ({"magic": b"ni1"}, "no single-file NIfTI"),
        ({"sizeof_hdr": 349}, "does not begin with the length of its header"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused_in_one_line(tmp_path, fields, complaint, capfd):
    with pytest.raises(UserError, match=complaint) as caught:
        read_volume(changed(tmp_path, **fields))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")  # nibabel's own log stays silent


@pytest.mark.parametrize("fields", [{"scl_slope": 0}, {"scl_slope": np.nan, "scl_inter": np.nan}])
def test_no_slope_is_no_scaling(tmp_path, fields):
    np.testing.assert_array_equal(read_volume(changed(tmp_path, **fields)).voxels, VOXELS)


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_voxels_in_the_other_byte_order_are_read(tmp_path, name):
    made = nibabel.Nifti1Image(VOXELS, AFFINE, nibabel.Nifti1Header(endianness=">"))
    made.header.set_data_dtype(">i2")
    np.testing.assert_array_equal(read_volume(saved(tmp_path, made, name)).voxels, VOXELS)


def test_more_voxels_than_are_wanted_are_refused_unread(tmp_path):
    file = saved(tmp_path, image())
    with pytest.raises(UserError, match=r"1716 in all; at most 1000 are read \(data.reader.scans.voxels\)"):
        read_volume(file, Reading(voxels=1000))
    assert read_volume(file, Reading(voxels=1716)).voxels.size == 1716


def test_a_packed_file_is_told_by_its_content(tmp_path):
    saved(tmp_path, image()).rename(tmp_path / "w.nii")
    with pytest.raises(UserError, match="packed by gzip, though its name does not end in"):
        read_volume(tmp_path / "w.nii")
    (tmp_path / "w.nii").rename(tmp_path / "w.NII.GZ")
    np.testing.assert_array_equal(read_volume(tmp_path / "w.NII.GZ").voxels, VOXELS)
    saved(tmp_path, image(), "x.nii").rename(tmp_path / "x.nii.gz")
    with pytest.raises(UserError, match="no gzip file, though its name ends in"):
        read_volume(tmp_path / "x.nii.gz")


def test_what_is_no_regular_file_is_refused_unopened(tmp_path):
    os.mkfifo(tmp_path / "v.nii.gz")
    for path, kind in ((tmp_path / "v.nii.gz", "pipe"), (Path("/dev/zero"), "device"), (tmp_path, "folder")):
        with pytest.raises(UserError, match=f"it is a {kind}"):
            read_volume(path)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"orientation": "left"}, "scans.orientation 'left' is unknown"),
        ({"spatial_units": "cm"}, "scans.spatial_units 'cm' is unknown"),
        ({"nan": np.inf}, "scans.nan is inf"),
        ({"voxels": 0}, "scans.voxels is 0"),
    ],
)
def test_a_wrong_setting_is_refused(changed, complaint):
    with pytest.raises(UserError, match=complaint):
        Reading(**changed)


HOSTILE = """
import gzip, io, sys, resource
from pathlib import Path
import nibabel, numpy as np
from framework.data.ingest.scans.volume import read_volume
from framework.errors import UserError

part = io.BytesIO()
with gzip.GzipFile(fileobj=part, mode="wb", compresslevel=1) as stream:
    for _ in range(64):
        stream.write(bytes(2**20))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, file = peak(), Path(sys.argv[1])
for side, parts in ((1200, 27), (20, 64), (600, 1)):  # 1.7 GB of zeros; 4 GB behind a small volume; a claim of 216 MB
    header = nibabel.Nifti1Header()
    header.set_data_shape((side,) * 3)
    header.set_data_dtype(np.uint8)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    header.set_sform(np.eye(4), 1)
    file.write_bytes(gzip.compress(header.binaryblock + bytes(4)) + part.getvalue() * parts)
    try:
        read_volume(file)
    except UserError as error:
        print(error)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory as Linux keeps it")
def test_a_refusal_takes_little_memory(tmp_path):
    command = [sys.executable, "-c", HOSTILE, str(tmp_path / "v.nii.gz")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [line[:20] for line in said[:-1]] == ["its header claims (1", "it holds more than t", "cut short: it holds "]
    assert int(said[-1]) < 200_000  # kB
