import numpy as np
import pytest

from framework.data.cohort.store import verify
from framework.data.ingest import ingest
from framework.data.ingest.cifar10 import CLASSES, TEST, TRAIN, Cifar10
from framework.data.splits.split import ById
from framework.errors import UserError
from tests.cohorts import named

IMAGES = 30


def write_files(folder, images=IMAGES, seed=0):
    """Files of the official format: each class a colour of its own, in noise; returns what was drawn."""
    rng = np.random.default_rng(seed)
    colours = np.random.default_rng(7).integers(40, 215, (10, 3))
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for name in (*TRAIN, TEST):
        labels = rng.integers(0, 10, images)
        pixels = colours[labels][:, :, None, None] + rng.normal(0, 25, (images, 3, 32, 32))
        pixels = np.clip(pixels, 0, 255).astype(np.uint8)
        records = np.concatenate([labels[:, None].astype(np.uint8), pixels.reshape(images, -1)], 1)
        (folder / name).write_bytes(records.tobytes())
        drawn[name] = labels, pixels
    return drawn


def test_images_labels_and_parts_come_through(tmp_path):
    drawn = write_files(tmp_path / "files")
    cohort = ingest(Cifar10(str(tmp_path / "files"), IMAGES), str(tmp_path / "store"))
    assert len(cohort.subjects) == 6 * IMAGES
    assert cohort.subjects[0] == "train-00000"
    assert cohort.subjects[-1] == f"test-{IMAGES - 1:05}"
    labels = np.concatenate([drawn[name][0] for name in (*TRAIN, TEST)])
    np.testing.assert_array_equal(cohort.values[:, 0, cohort.column("class")], labels)
    pixels = np.concatenate([drawn[name][1] for name in (*TRAIN, TEST)])
    for place in (0, IMAGES + 3, 6 * IMAGES - 1):
        voxels = cohort.voxels("image", place, 0)
        assert voxels.shape == (32, 32, 1, 3)
        for row, column, colour in ((0, 0, 0), (5, 20, 1), (31, 2, 2)):  # x is the column, y the row
            assert voxels[column, row, 0, colour] == np.float32(pixels[place, colour, row, column] / np.float32(255))
    assert list(verify(cohort.path, str(tmp_path / "files"))) == []
    with (tmp_path / "files" / TEST).open("r+b") as file:
        file.seek(5)
        file.write(b"\x00\x01\x02")
    assert list(verify(cohort.path, str(tmp_path / "files"))) == [
        f"clinical variables: source file {TEST} changed since ingest"
    ]


def test_colours_keep_their_scale(tmp_path):
    """They have a unit: no image is stretched to a scale of its own."""
    from framework.data.batches.normalise import scaled

    write_files(tmp_path / "files")
    cohort = ingest(Cifar10(str(tmp_path / "files"), IMAGES), str(tmp_path / "store"))
    np.testing.assert_array_equal(scaled(cohort, "image", 4, 0), cohort.voxels("image", 4, 0))


def test_the_official_test_images_are_the_test_fold(tmp_path):
    images = named([f"train-{i:05}" for i in range(50)] + [f"test-{i:05}" for i in range(10)])
    split = ById("test*", 0.1, 0, 0).one(images)
    np.testing.assert_array_equal(split.test, np.arange(60) >= 50)
    assert split.validation.sum() == 5
    assert ById("test*", 0.0, 0, 0).one(images).train.sum() == 50
    with pytest.raises(UserError, match=r"matches 0 of 60 subjects; .* 'train-00000'"):
        ById("held-out*", 0.0, 0, 0).one(images)


def break_size(folder):
    file = folder / "data_batch_3.bin"
    file.write_bytes(file.read_bytes()[:-7])


def break_class(folder):
    file = folder / TEST
    file.write_bytes(b"\x0b" + file.read_bytes()[1:])


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (break_size, rf"data_batch_3.bin has {IMAGES * 3073 - 7} bytes; expected {IMAGES * 3073} .*download it again"),
        (lambda folder: (folder / "data_batch_5.bin").unlink(), "no data_batch_5.bin in .*set data.path"),
        (break_class, r"test_batch.bin: image 0 has class 11; expected 0 to 9"),
    ],
    ids=["truncated", "missing", "class"],
)
def test_what_is_broken_is_told_in_one_line_and_nothing_is_left(tmp_path, breaks, says):
    write_files(tmp_path / "files")
    breaks(tmp_path / "files")
    with pytest.raises(UserError, match=says) as told:
        ingest(Cifar10(str(tmp_path / "files"), IMAGES), str(tmp_path / "store"))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "store").exists()


def test_the_ten_classes():
    assert len(set(CLASSES)) == 10
