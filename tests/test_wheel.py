"""The wheel has what the commands need, and works from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("framework", "experiments", "conf")
COHORT = ["data=rhythm", "data.subjects=8"]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with what an installation would put into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    done = subprocess.run([*command, "-w", str(folder)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("prognax-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-P", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_it_has_three_packages_and_the_namespace_of_hydra(site):
    [info] = site.glob("prognax-*.dist-info")
    assert {entry.name for entry in site.iterdir()} == {*PACKAGES, "hydra_plugins", info.name}
    assert not (site / "hydra_plugins" / "__init__.py").exists()
    assert "prognax = experiments.__main__:main" in (info / "entry_points.txt").read_text()


def test_it_has_every_file_of_the_packages(site):
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a working tree of git")
    files = {file.removeprefix("framework/plugins/") for file in listed.stdout.split() if (ROOT / file).exists()}
    packed = {
        str(file.relative_to(site)) for file in site.rglob("*") if file.is_file() and "dist-info" not in str(file)
    }
    assert packed == files


def test_its_commands_work_in_an_empty_folder(site, tmp_path):
    where = run(site, tmp_path, "-c", "import conf, experiments, framework; print(framework.__file__, conf.__file__)")
    assert all(place.startswith(str(site)) for place in where.stdout.split()), where
    usage = run(site, tmp_path, "-m", "experiments", "--help")
    assert usage.stdout.startswith("usage: prognax <task>"), usage
    read = run(site, tmp_path, "-m", "experiments", "ingest", *COHORT)
    assert read.returncode == 0, read.stderr
    words = ["model=slope", "split.folds=2", "resamples=100", "intervals=as_forecast"]
    made = run(site, tmp_path, "-m", "experiments", "forecast", *COHORT, *words)
    assert made.returncode == 0, made.stderr
    [report] = (tmp_path / "runs" / "forecast").glob("*/report.html")
    assert report.stat().st_size > 10_000
    assert {entry.name for entry in tmp_path.iterdir()} == {"cohorts", "runs"}
