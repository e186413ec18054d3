"""The head and the encoder that the documentation shows, in this framework and in a package of one's own: fitted, then applied."""

import importlib
import re
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from framework.config.targets import find_target
from tests.experiments.conftest import call, runs_of

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text()
MODULES = {"Fade": "framework.nn.heads.fade", "Blocks": "framework.nn.encoders.blocks"}
SMALL = (
    *(
        "training.steps=2",
        "training.eval_every=2",
        "model.width=4",
        "model.head.cell.features=4",
        "model.encoder.parts=2",
    ),
    *("resamples=100", "split.folds=3", "intervals=as_forecast", "report=false"),
)


def shown(kind: str, mark: str) -> str:
    """The page's block of code that holds a mark."""
    return next(text for text in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.S) if mark in text)


def scans(folder: Path, subjects: int, seed: int) -> Path:
    """A folder of small volumes that a table of visits names."""
    folder.mkdir()
    rng, lines = np.random.default_rng(seed), ["subject,visit,time,T1w,score"]
    for i in range(subjects):
        for j in range(2):
            voxels = rng.integers(0, 1000, (14, 15, 12)).astype(np.int16)
            nibabel.save(nibabel.Nifti1Image(voxels, np.diag([5.0, 5.0, 5.0, 1.0])), folder / f"{i}-{j}.nii.gz")
            lines.append(f"s{seed}{i},{j},{j},{i}-{j}.nii.gz,{rng.normal():.3f}")
    (folder / "visits.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(params=["framework", "mypackage"])
def extended(request, tmp_path, monkeypatch):
    """The page's files laid where it says; what a user adds to a command, and the package that brings them."""
    before = set(sys.modules)
    for name, where in MODULES.items():
        module = where if request.param == "framework" else f"mypackage.{where.rpartition('.')[2]}"
        place = tmp_path / "code" / f"{module.replace('.', '/')}.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(shown("python", f"class {name}("))
        group = "head" if name == "Fade" else "encoder"
        file = tmp_path / "studies" / "model" / group / f"{name.lower()}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(shown("yaml", f".{name}\n").replace(f"{where}.{name}", f"{module}.{name}"))
    if request.param == "framework":
        for package in ("framework", "framework.nn", "framework.nn.heads", "framework.nn.encoders"):
            found = importlib.import_module(package)
            monkeypatch.setattr(
                found, "__path__", [*found.__path__, str(tmp_path / "code" / package.replace(".", "/"))]
            )
    else:
        (tmp_path / "code" / "mypackage" / "__init__.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path / "code")
    importlib.invalidate_caches()
    trust = ["trust=[mypackage]"] if request.param == "mypackage" else []
    yield ["--config-dir", str(tmp_path / "studies"), "model/head=fade", "model/encoder=blocks"], trust
    for name in set(sys.modules) - before:
        if name.startswith("mypackage") or name in MODULES.values():
            del sys.modules[name]


def test_the_head_and_the_encoder_of_the_readme_are_fitted_and_applied(extended, tmp_path, monkeypatch):
    chosen, trust = extended
    monkeypatch.chdir(tmp_path)
    old, new = scans(tmp_path / "old", 6, 1), scans(tmp_path / "new", 2, 2)
    data = [
        *("data=nifti", f"data.path={old}", "data.grid.shape=[4,4,4]", "data.grid.spacing=[18,18,18]"),
        *("+data.reader.visits.variables.score={roles: [input, target]}", "data.targets=[score]"),
    ]
    if trust:
        told = call("forecast", *chosen, *data, *SMALL)
        assert told.code == 1
        assert told.err[-1].startswith("error: model.")
        assert "'trust=[mypackage]'" in told.err[-1]
        assert not [name for name in sys.modules if name.startswith("mypackage")]
    told = call("forecast", *chosen, *data, *SMALL, *trust)
    assert told.code == 0, told.err
    [run] = runs_of(tmp_path, "forecast")
    words = [f"run={run}", f"data.path={new}", "ahead=[1]"]
    if trust:
        for name in [name for name in sys.modules if name.startswith("mypackage")]:
            del sys.modules[name]
        told = call("predict", *words)
        assert told.code == 1
        assert "'trust=[mypackage]'" in told.err[-1]
        assert not [name for name in sys.modules if name.startswith("mypackage")]
    told = call("predict", *words, *trust)
    assert told.code == 0, told.err
    assert "s20" in told.out


def test_a_head_is_found_by_its_file_alone(extended):
    """No list anywhere has to be edited."""
    _, trust = extended
    name = "mypackage.fade.Fade" if trust else "framework.nn.heads.fade.Fade"
    assert find_target(name, "model.head.cell", ("mypackage",) if trust else ()).__module__ == name.rpartition(".")[0]
