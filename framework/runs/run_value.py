"""Value of a run, by which a search compares runs."""

from pathlib import Path


class RunValue(float):
    """Value of a job, with the folder of its run."""

    folder: Path | None = None

    @classmethod
    def of(cls, value: float, folder: Path) -> "RunValue":
        run_value = cls(value)
        run_value.folder = folder
        return run_value
