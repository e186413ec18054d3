"""The template's flows, grown once for all tests that need them."""

from importlib.util import find_spec

import jax
import pytest

from framework.data.simulate.anatomy import build


@pytest.fixture(scope="session")
def anatomy():
    if find_spec("nilearn") is None:
        pytest.skip("nilearn, which ships the MNI152 template, is not installed")
    name = "jax_disable_most_optimizations"
    chosen = jax.config.values[name]
    jax.config.update(name, False)  # this computes more than it compiles
    try:
        return build()
    finally:
        jax.config.update(name, chosen)
