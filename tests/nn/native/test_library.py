"""The native kernels: which are used, their own determinism, and that they can be declined."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from framework.nn.native import library

ASK = "from framework.nn.native import library; print(library.convolves(), library.normalises(), library.name())"
needs_kernels = pytest.mark.skipif(not library.convolves(), reason="the extra cpu or a C++ compiler is absent")


def asked(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **environment}, check=True
    )
    return done.stdout.strip()


def test_declined():
    assert asked(ASK, PROGNAX_NATIVE="0") == "False False xla"


def test_where_an_accelerator_does_the_work_nothing_is_loaded():
    assert asked(f"import jax; jax.default_backend = lambda: 'gpu'; {ASK}").startswith("False False")


@pytest.mark.skipif(not library.normalises(), reason="a C++ compiler is absent")
def test_without_onednn_normalisation_is_still_native():
    assert asked(ASK, PROGNAX_ONEDNN="0") == "False True xla"


@needs_kernels
def test_without_a_compiler_it_says_so(tmp_path):
    code = f"import os, sys; os.environ.pop('CXX', None); sys.stderr = sys.stdout; {ASK}"
    found = asked(code, PATH=str(tmp_path))
    assert found.splitlines() == [
        "no C++ compiler for the native kernels: XLA's are used; install g++",
        "False False xla",
    ]


@needs_kernels
def test_what_does_not_compile_is_an_error_and_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "convolution.cc").write_text("int main( {")
    monkeypatch.setattr(library, "HERE", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(RuntimeError, match="could not compile"):
        library.convolves.__wrapped__()
    assert not list((tmp_path / "prognax" / "native").iterdir())


STEP = """
import hashlib, jax, numpy as np
from framework.nn.conv import convolve
from framework.nn.norm import group_norm
rng = np.random.default_rng(0)
x, w = rng.normal(size=(2, 20, 20, 20, 3)).astype("f"), rng.normal(size=(3, 3, 3, 3, 16)).astype("f")
def loss(x, w, s): return (group_norm(convolve(x, w), s, s, 8, relu=True, pool=2) ** 2).sum()
found = jax.jit(jax.grad(loss, (0, 1, 2)))(x, w, np.ones(16, "f"))
print(hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in found)).hexdigest())
"""


@needs_kernels
def test_the_same_bits_every_time():
    assert asked(STEP) == asked(STEP)


@needs_kernels
def test_it_is_the_kernels_that_are_called_and_on_a_cpu_alone():
    from framework.nn.conv import convolve

    x, w = np.zeros((1, 4, 4, 4, 1), "f"), np.zeros((3, 3, 3, 1, 2), "f")
    gradient = jax.jit(jax.grad(lambda w: convolve(x, w, 1).sum()))
    for platform, native in (("cpu", True), ("cuda", False), ("tpu", False)):
        text = gradient.trace(w).lower(lowering_platforms=(platform,)).as_text()
        assert ("prognax_convolve_weights" in text) is native
        assert ("stablehlo.convolution" in text) is not native
