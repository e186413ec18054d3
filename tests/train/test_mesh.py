"""Training shared by several devices, or by several processes, ends where one device ends.

The recurrent model stands for all: a mesh cuts arrays, whatever they hold. `python -m benchmarks.mesh` trains the CNN too.
"""

import json
import socket
from importlib import import_module
from pathlib import Path

import jax
import pytest

from framework.errors import UserError
from framework.train.mesh import DataParallel, FullyShardedDataParallel, Hosts
from tests.train.meshes import apart, end, start

GLOO = hasattr(import_module("jaxlib._jax"), "make_gloo_tcp_collectives")


@pytest.fixture(scope="module")
def eight(tmp_path_factory) -> Path:
    """What each mesh of eight devices learns in 20 steps, and what one device does."""
    folder = tmp_path_factory.mktemp("eight")
    end(start(8, str(folder), "gru,single", "gru,data", "gru,fsdp"))
    return folder


@pytest.mark.parametrize("mesh", ["data", "fsdp"])
def test_eight_devices_learn_what_one_does(eight, mesh):
    assert apart(eight / "gru,single.npz", eight / f"gru,{mesh}.npz") < 1e-5


def test_devices_share_batches_and_under_fsdp_parameters(eight):
    told = {mesh: json.loads((eight / f"{mesh}.json").read_text()) for mesh in ("single", "data", "fsdp")}
    assert told["single"] == {"batch": 1, "state": 1, "refused": None}
    assert told["data"]["batch"] == told["fsdp"]["batch"] == 1 / 8
    assert told["data"]["state"] == 1
    assert 1 / 8 <= told["fsdp"]["state"] < 1 / 4, "most parameters have an axis that divides by eight"
    assert "training.batch=12 is not divisible by 8 devices" in told["data"]["refused"]


class Four(FullyShardedDataParallel):
    @property
    def count(self) -> int:
        return 4


@pytest.mark.parametrize(
    ("batch", "parts", "told"),
    [
        (30, 1, "training.batch=30 is not divisible by 4 devices; use training.batch=28 or 32"),
        (3, 1, "training.batch=3 is not divisible by 4 devices; use training.batch=4"),
        (12, 2, "training.batch=12 in 2 parts is not divisible by 4 devices; use training.batch=8 or 16"),
    ],
)
def test_a_batch_that_cannot_be_shared_is_refused_with_the_sizes_that_can(batch, parts, told):
    with pytest.raises(UserError) as refused:
        Four(None).check(batch, parts)
    assert str(refused.value) == told
    Four(None).check(32, 2)


def test_an_array_is_split_along_its_longest_axis_that_divides_but_never_among_members():
    assert Four(None)._cut((8, 3, 12, 16, 30)) == [None, None, None, "data"]
    assert Four(None)._cut((8, 3)) == Four(None)._cut((8,)) == []


def test_more_devices_than_there_are_is_one_line():
    with pytest.raises(UserError, match=f"mesh.devices is 99; expected 1 to {jax.device_count()}"):
        DataParallel(99).check(8, 1)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ((None, 0, 0), "hosts.num_processes is 0; expected 1 or more"),
        (("host:1234", 2, 2), "hosts.process_id is 2; expected 0 to 1"),
        ((None, 2, 0), "hosts.coordinator_address is None; expected the address and port"),
        (("host", 2, 0), "hosts.coordinator_address is 'host'; expected the address and port"),
    ],
)
def test_hosts_that_cannot_meet_are_refused_before_they_try(settings, told):
    with pytest.raises(UserError, match=told):
        Hosts(*settings)


def test_a_coordinator_that_does_not_answer_is_one_line(monkeypatch):
    monkeypatch.setattr("framework.train.mesh.PATIENCE", 0.0)
    with pytest.raises(
        UserError, match=r"no process answers at hosts\.coordinator_address=localhost:1 .*start hosts.process_id=0"
    ):
        Hosts("localhost:1", 2, 1).join()


@pytest.mark.long
@pytest.mark.skipif(not GLOO, reason="jaxlib was built without gloo")
def test_two_processes_learn_what_one_does(eight, tmp_path):
    """Forecasts as well; each with two devices, interrupted half way, going on from their checkpoint."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    words = (str(tmp_path), "gru,fsdp", "--hosts", address)
    end(*(start(2, *words, number) for number in "01"))
    assert apart(eight / "gru,single.npz", tmp_path / "gru,fsdp.npz") < 1e-5
