"""CIFAR-10, from its official binary files: 60,000 small photographs, each a subject with one visit.

Krizhevsky (2009), Learning multiple layers of features from tiny images. A record is one byte for the class and
3 × 32 × 32 bytes: red, green, blue, each row by row from the top.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from framework.data.cohort.ledger import Ledger
from framework.data.cohort.schema import Modality, Scan, Schema, Subject, Variable, Visit
from framework.data.cohort.store import sha256_file
from framework.data.ingest.base import Ingested, Reader
from framework.data.ingest.tables.table_file import locate
from framework.errors import UserError

TRAIN, TEST = tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE, RECORD = 32, 1 + 3 * 32 * 32
TOGETHER = 64  # images in a shard: some 800 kB of voxels


class Cifar10(Reader):
    """The six files of `images` records each in the folder `path`.

    Subjects are called train-00000 on and test-00000 on. x runs to the right and y downwards; a voxel is its colour
    from 0 to 1.
    """

    def __init__(self, path: str | None, images: int = 10_000):
        self.path, self.images = path, images
        # "of full scale" is a unit: colours are not brought to a scale of each image's own
        image = Modality("image", (SIDE, SIDE, 1), (1.0, 1.0, 1.0), channels=3, units="of full scale")
        self.schema = Schema((Variable("class", ("target",), levels=CLASSES),), (), (image,))

    def files(self) -> dict[str, Path]:
        root = locate(self.path)
        for name in (*TRAIN, TEST):
            self._whole(root / name)
        return {name: root / name for name in (*TRAIN, TEST)}

    def read(self) -> Ingested:
        self.files()
        root = locate(self.path)
        ledger = Ledger()
        sources = {name: sha256_file(str(root / name)) for name in (*TRAIN, TEST)}
        return Ingested(self.schema, self._subjects(root, ledger), ledger, sources, TOGETHER)

    def _whole(self, file: Path) -> None:
        """Refuse a file that is missing or cut short before any is read."""
        if not file.is_file():
            raise UserError(
                f"no {file.name} in {file.parent}; expected the folder of CIFAR-10's binary version "
                f"({TRAIN[0]} to {TRAIN[-1]}, {TEST}): set data.path to it"
            )
        size = file.stat().st_size
        if size != self.images * RECORD:
            raise UserError(
                f"{file} has {size} bytes; expected {self.images * RECORD} ({self.images} images of {RECORD} bytes): "
                "download it again"
            )

    def _subjects(self, root: Path, ledger: Ledger) -> Iterator[Subject]:
        for part, names in (("train", TRAIN), ("test", (TEST,))):
            for place, name in enumerate(names):
                for number, (label, voxels) in enumerate(_records(root / name), place * self.images):
                    subject = f"{part}-{number:05}"
                    ledger.add(subject, "", "subject", "used")
                    ledger.add(subject, "image", "visit", "used")
                    visit = Visit("image", 0.0, {"class": CLASSES[label]}, {"image": Scan(voxels)})
                    yield Subject(subject, (visit,))


def _records(file: Path) -> Iterator[tuple[int, Float[np.ndarray, "x y 1 3"]]]:
    """The class and the voxels of each image. Raises UserError where a class is none of the ten."""
    table = np.fromfile(file, np.uint8).reshape(-1, RECORD)
    labels: Int[np.ndarray, " n"] = table[:, 0].astype(int)
    wrong = np.flatnonzero(labels >= len(CLASSES))
    if len(wrong):
        raise UserError(
            f"{file}: image {wrong[0]} has class {labels[wrong[0]]}; expected 0 to {len(CLASSES) - 1}: "
            "this is no file of CIFAR-10, or it is damaged; download it again"
        )
    for label, record in zip(labels, table, strict=True):
        colours = record[1:].reshape(3, SIDE, SIDE)  # colour, row, column
        yield int(label), (colours.transpose(2, 1, 0)[:, :, None] / np.float32(255)).astype(np.float32)
