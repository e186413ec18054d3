"""The examination of a machine names what there is, and advises only where something is to be gained."""

import pytest

from framework import native
from framework.cli import doctor


@pytest.fixture
def found(tmp_path, monkeypatch):
    from framework.runs.execute import use_compilation_cache

    use_compilation_cache()
    return lambda: {one.name: one for one in doctor.findings(tmp_path / "runs")}


def test_it_names_devices_kernels_extras_and_disk(found):
    assert set(found()) >= {"devices", "C++ compiler", "convolutions", "extras", "compiled programs", "free disk"}


def test_without_a_compiler_it_says_what_to_install(found, monkeypatch):
    monkeypatch.setattr(native, "compiler", lambda: None)
    assert "install a C++ compiler" in found()["C++ compiler"].advice


def test_declined_kernels_are_named(found, monkeypatch):
    monkeypatch.setenv("PROGNAX_NATIVE", "0")
    assert "unset it" in found()["convolutions"].advice


def test_a_full_disk_is_named(found, monkeypatch):
    monkeypatch.setattr(doctor, "LOW", 1e18)
    assert "make room" in found()["free disk"].advice


def test_an_extra_that_is_not_there_is_listed(found, monkeypatch):
    monkeypatch.setattr(doctor, "EXTRAS", {"none": "no-such-package-at-all"})
    assert found()["extras"].value == "none (not installed: none)"
