"""Residual networks against flax's own layers, and by their shape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from framework.nn.encoders.resnet import Block, Convolution, ResNet
from tests.contracts.recipes import config


def flax_norm(norm, x):
    layer = nnx.GroupNorm(x.shape[-1], num_groups=norm.groups, epsilon=1e-5, rngs=nnx.Rngs(0))
    nnx.update(layer, nnx.State({"scale": nnx.Param(norm.scale[...]), "bias": nnx.Param(norm.bias[...])}))
    return jax.nn.relu(layer(x))


def flax_conv(conv, x):
    size = conv.weights.shape[:-2]
    pads = [(k // 2, k // 2) for k in size]
    layer = nnx.Conv(
        *conv.weights.shape[-2:],
        kernel_size=size,
        strides=conv.stride,
        padding=pads,
        use_bias=False,
        rngs=nnx.Rngs(0),
    )
    layer.kernel[...] = conv.weights[...]
    return layer(x)


def unsettled(module, seed: int = 0):
    """The module with all its parameters moved, so that none is 0 or 1."""
    graph, state = nnx.split(module)
    rng = np.random.default_rng(seed)
    return nnx.merge(graph, jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), state))


@pytest.mark.parametrize(("stride", "wide", "first"), [(1, 4, True), (1, 4, False), (2, 8, False)])
def test_a_block_is_the_pre_activation_unit(stride, wide, first):
    block = unsettled(Block(4, wide, 2, 2, stride, first=first, rngs=nnx.Rngs(0)))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 7, 6, 4)), jnp.float32)
    active = x if first else flax_norm(block.before, x)
    kept = x if (stride, wide) == (1, 4) else flax_conv(block.shortcut, active)
    expected = kept + flax_conv(block.two, flax_norm(block.between, flax_conv(block.one, active)))
    np.testing.assert_allclose(block(x), expected, rtol=1e-4, atol=1e-4)


def test_without_its_last_convolution_a_block_is_the_identity():
    block = Block(4, 4, 2, 3, 1, first=False, rngs=nnx.Rngs(0))
    block.two.weights[...] = 0 * block.two.weights[...]
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 4, 3, 4)), jnp.float32)
    np.testing.assert_array_equal(block(x), x)


@pytest.mark.parametrize(("name", "layers"), [("resnet10", 10), ("resnet18", 18)])
def test_it_has_as_many_layers_as_its_name_says(name, layers):
    settings = {k: v for k, v in config(f"model/encoder={name}").model.encoder.items() if not k.startswith("_")}
    built = nnx.eval_shape(lambda: ResNet(**settings, grid=(32, 32, 1), rngs=nnx.Rngs(0)))
    convolutions = [m for _, m in nnx.iter_modules(built) if isinstance(m, Convolution)]
    shortcuts = [block.shortcut for block in built.blocks if block.shortcut is not None]
    assert len(convolutions) - len(shortcuts) + 1 == layers
    assert [block.two.weights.shape[-1] for block in built.blocks][-1] == 8 * settings["width"]
    assert len(shortcuts) == 3
