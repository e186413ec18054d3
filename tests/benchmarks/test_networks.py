"""Our networks and their PyTorch peers compute the same function and the same gradients."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import networks
from benchmarks.cases import CASES

pytestmark = pytest.mark.long

SMALL = {
    "plain": replace(CASES["64³×4"], side=16, scans=3),
    "series": replace(CASES["series"], side=16, scans=6, visits=3),
    "resnet10": replace(CASES["resnet10"], side=32, scans=2),
}


@pytest.mark.parametrize("case", SMALL.values(), ids=SMALL)
def test_the_peer_computes_the_same(case):
    pytest.importorskip("torch", reason="PyTorch is a peer only: make peers")
    from benchmarks.peers import torch_networks as peers

    graph, params = nnx.split(networks.network(case, nnx.Rngs(0)))
    named = {"/".join(map(str, path)): np.asarray(value[...]) for path, value in nnx.to_flat_state(params)}
    inputs, truth = networks.batch(case)

    def objective(params):
        answer = nnx.merge(graph, params)(*inputs)
        return networks.loss(answer, truth), answer

    (value, answer), slopes = jax.jit(jax.value_and_grad(objective, has_aux=True))(params)
    module = peers.network(case)
    peers.load(module, named)
    theirs, their_truth = peers.batch(case, "cpu")
    their_answer = module(*theirs)
    their_value = peers.loss(their_answer, their_truth)
    their_value.backward()

    close(their_answer.detach().numpy(), answer)
    close(their_value.item(), value)
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    assert len(gradients) == len(named)
    for path, slope in nnx.to_flat_state(slopes):
        name = "/".join(map(str, path))
        close(np.asarray(gradients[peers.torch_name(name)]), peers.to_torch_layout(np.asarray(slope[...])))


def close(theirs, ours):
    ours = np.asarray(ours)
    assert np.abs(theirs - ours).max() <= 1e-3 * np.abs(ours).max() + 1e-7


def test_a_step_trains_and_donates():
    case = SMALL["plain"]
    step, start = networks.stepper(case)
    inputs, truth = networks.batch(case)
    state = start(jax.random.key(0))
    losses = []
    run = jax.jit(step, donate_argnums=(0, 1))
    for _ in range(3):
        *fresh, value = run(*state, inputs, truth)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
        state = fresh
        losses.append(float(value))
    assert losses[2] < losses[1] < losses[0]
