"""The PyTorch peers of the benchmark of heads compute the same functions."""

import jax
import numpy as np
import pytest
from flax import nnx

from benchmarks import heads

LENGTH = 5


def filled(model, params) -> None:
    """Give PyTorch's model our parameters: its products with state and with input are one of ours."""
    torch = pytest.importorskip("torch")
    dense = {"out": params["head"]["cell"]["out"], "dense": params["dense"]}
    cell = {name: value for name, value in params["head"]["cell"].items() if name != "out"}
    for module, named in ((model, dense), (model.cell, cell)):
        for name, value in named.items():
            ours = {"decay": "input_decay", "offset": "input_offset"}
            if hasattr(value, "keys"):
                weight, bias = (torch.from_numpy(np.array(value[part][...])) for part in ("weight", "bias"))
                layer = getattr(module, name)
                layer.weight.data, layer.bias.data = weight[: layer.in_features].T, bias
                if len(weight) > layer.in_features:
                    getattr(module, f"{name}_state").weight.data = weight[layer.in_features :].T
            else:
                theirs = {there: here for here, there in ours.items()}.get(name, name)
                getattr(module, theirs).data = torch.from_numpy(np.array(value[...]))


@pytest.mark.parametrize("name", ["gru_d", "minimal_rnn"])
def test_the_loops_over_time_agree_with_our_heads(name):
    torch = pytest.importorskip("torch", reason="PyTorch is a peer only: make peers")
    from benchmarks.peers import heads as peers

    model = heads.Regression(name, rngs=nnx.Rngs(0))
    sequence, query, truth = heads.example(LENGTH)
    cell, width = (peers.GRUD, heads.FEATURES) if name == "gru_d" else (peers.MinimalRNN, heads.FEATURES + heads.TOKEN)
    theirs = peers.Regression(cell(), width)
    filled(theirs, nnx.split(model)[1])
    x, observed, times, _ = (torch.from_numpy(part) for part in heads.inputs(LENGTH))
    gaps = torch.diff(times, dim=1, prepend=times[:, :1])
    loss = theirs(x * observed, observed.float(), gaps, torch.from_numpy(np.array(truth)))
    expected = np.square(np.asarray(jax.jit(model)(sequence, query)) - truth).mean()
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)


def test_cases_name_every_head_there_is():
    assert {case.split()[0] for case in heads.CASES} == set(heads.HEADS) >= set(heads.PEERS)
    contender = heads.contenders("step", f"mean_pool T={LENGTH}")
    contender.calls["prognax"]()
    assert contender.facts["parameters"] > 0
