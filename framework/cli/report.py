"""Report of a run or a sweep, drawn on request."""

from pathlib import Path

from omegaconf import DictConfig

from framework.errors import UserError
from framework.report import page, sweep_page
from framework.sweeps.job_log import JOBS, read_jobs


def report(config: DictConfig) -> None:
    """Draw the page of `config.run` or of `config.sweep`. Raise UserError where neither, or both, are named."""
    if (config.run is None) == (config.sweep is None):
        raise UserError("a report needs either run=<folder of a run> or sweep=<folder of a sweep>")
    if config.run is not None:
        print(f"report: {page.build(Path(config.run))}")
        return
    folder = Path(config.sweep)
    if not (folder / JOBS).exists():
        raise UserError(f"no sweep at {folder}; its last line named the folder: runs/sweeps/<time>")
    print(f"report: {sweep_page.build(folder, read_jobs(folder))}")
