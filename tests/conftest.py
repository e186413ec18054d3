"""What all tests share: compiled programs are kept between processes and runs, and none of it in the user's cache."""

import gc
import os
from pathlib import Path

import pytest
from absl import logging
from hypothesis import settings

from framework import logs
from tests.memory import release_programs

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # the suite compiles more than it computes
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")  # the older emitters compile in half the time

gc.set_threshold(
    200_000, 20, 20
)  # what is imported and compiled stays; to look through it again and again is lost time

# the same examples on every machine, however slow it is
settings.register_profile("prognax", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("prognax")


def pytest_collection_finish():
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def programs_are_let_go_before_they_are_too_many():
    yield
    release_programs()


@pytest.fixture(autouse=True)
def messages_are_shown():
    """As under a command at its default level, whatever level a test before gave them."""
    logs.configure()


@pytest.fixture(scope="session", autouse=True)
def absl_leaves_its_stream_open():
    """Hydra closes every log handler there is, and absl's closes its stream with it, which here is pytest's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.PythonHandler, "close", lambda self: None)
        yield
