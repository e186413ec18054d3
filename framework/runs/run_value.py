"""The value that a run hands to whatever searches for the best one."""

from pathlib import Path


class Ran(float):
    """The value of a job, which knows the folder of its run."""

    folder: Path | None = None

    @classmethod
    def of(cls, value: float, folder: Path) -> "Ran":
        made = cls(value)
        made.folder = folder
        return made
