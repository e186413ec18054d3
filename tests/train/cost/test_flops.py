"""Counts against closed forms."""

from math import prod

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax import lax

from framework.nn import conv, norm
from framework.nn.conv import convolve
from framework.nn.encoders.plain import Plain
from framework.nn.layers import Dense
from framework.train.cost.flops import bytes_made, work_of


def shape(*size: int, dtype: str = "float32") -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(size, dtype)


def flops(function, *args) -> int:
    return work_of(function, *args).flops


@pytest.fixture(params=[True, False], ids=["native kernels", "without"])
def native(request, monkeypatch) -> None:
    """Counting never runs a kernel, so both forms can be traced on any machine."""
    for module in (conv, norm):
        monkeypatch.setattr(module.library, "convolves", lambda: request.param)
        monkeypatch.setattr(module.library, "normalises", lambda: request.param)


def squared(function):
    return lambda *args: jnp.square(function(*args)).sum()


def test_dense_layer():
    layer = Dense(7, 5, rngs=nnx.Rngs(0))
    assert flops(lambda x: layer(x), shape(3, 7)) == 2 * 3 * 7 * 5


def test_dense_gradients_are_two_products_more():
    both = jax.grad(squared(jnp.matmul), (0, 1))
    assert flops(both, shape(3, 7), shape(7, 5)) == 3 * 2 * 3 * 7 * 5
    weights_alone = jax.grad(squared(lambda w, x: x @ w))
    assert flops(weights_alone, shape(7, 5), shape(3, 7)) == 2 * 2 * 3 * 7 * 5


CONVOLUTIONS = [
    ((2, 9, 8, 7, 3), (3, 3, 3, 3, 4), 1, None, (9, 8, 7)),
    ((2, 9, 8, 7, 3), (3, 3, 3, 3, 4), 2, None, (5, 4, 4)),
    ((2, 9, 8, 7, 3), (3, 3, 3, 3, 4), 1, 0, (7, 6, 5)),
    ((1, 8, 8, 8, 4), (2, 2, 2, 4, 4), 2, 0, (4, 4, 4)),
    ((2, 9, 8, 3), (5, 5, 3, 4), 1, None, (9, 8)),
    ((2, 9, 8, 3), (3, 3, 3, 4), 2, None, (5, 4)),
]


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("x", "w", "stride", "padding", "out"), CONVOLUTIONS)
def test_convolution(x, w, stride, padding, out):
    """2 · outputs · taps · channels in, whatever form it runs in; each gradient is a product as large."""

    def run(x, w):
        return convolve(x, w, stride, padding)

    plain = 2 * x[0] * prod(out) * prod(w)
    assert flops(run, shape(*x), shape(*w)) == plain
    assert flops(jax.grad(squared(run), (0, 1)), shape(*x), shape(*w)) == 3 * plain
    assert flops(jax.grad(squared(run), 1), shape(*x), shape(*w)) == 2 * plain
    models = shape(3, *x), shape(3, *w)
    assert flops(jax.vmap(run), *models) == 3 * plain
    assert flops(jax.vmap(run, (None, 0)), shape(*x), models[1]) == 3 * plain
    assert flops(jax.vmap(jax.grad(squared(run), (0, 1))), *models) == 9 * plain


@pytest.mark.usefixtures("native")
def test_training_a_cnn():
    """The image needs no gradient, so the first layer has one product fewer."""
    graph, params = nnx.split(Plain((8, 16), 4, 5, grid=(8, 8, 8, 1), rngs=nnx.Rngs(0)))
    step = jax.grad(lambda params, x: jnp.square(nnx.merge(graph, params)(x)).sum())
    first, second, dense = 2 * 2 * 512 * 27 * 8, 2 * 2 * 64 * 27 * 8 * 16, 2 * 2 * 16 * 5
    done = work_of(step, params, shape(2, 8, 8, 8, 1))
    assert done.flops == 2 * first + 3 * second + 3 * dense
    assert done.uncounted == ()


def test_types_are_told_apart():
    done = work_of(lambda x, y: (x @ x, y @ y), shape(4, 4, dtype="bfloat16"), shape(8, 8))
    assert done.by_type == {"bfloat16": 128, "float32": 1024}


def rolled(x: jax.Array) -> jax.Array:
    return lax.scan(lambda c, _: (jnp.tanh(c @ c), None), x, None, length=7)[0]


def test_a_scan_counts_as_often_as_it_runs():
    once = 2 * 16**3
    assert flops(rolled, shape(16, 16)) == 7 * once
    assert flops(jax.grad(squared(rolled)), shape(16, 16)) == 3 * 7 * once
    assert flops(jax.vmap(rolled), shape(5, 16, 16)) == 5 * 7 * once
    assert flops(lambda x: lax.map(rolled, x), shape(3, 16, 16)) == 3 * 7 * once
    assert flops(lambda x: lax.fori_loop(0, 4, lambda _, c: rolled(c), x), shape(16, 16)) == 4 * 7 * once


def test_xla_counts_a_scan_once():
    """Why this module is there; the day that this fails it may not be needed any more."""
    told = jax.jit(rolled).lower(shape(16, 16)).compile().cost_analysis()["flops"]
    assert told < 2 * 2 * 16**3


def test_sees_through_what_wraps_a_function():
    @jax.custom_vjp
    def product(x):
        return x @ x

    product.defvjp(lambda x: (product(x), x), lambda x, g: (g @ x.T + x.T @ g,))
    once = 2 * 4**3
    assert flops(product, shape(4, 4)) == once
    assert flops(jax.grad(squared(product)), shape(4, 4)) == 3 * once
    assert flops(jax.jit(jax.checkpoint(product)), shape(4, 4)) == once
    kept, again = (jax.grad(squared(lambda x, f=f: f(jnp.sin(f(x))))) for f in (product, jax.checkpoint(product)))
    assert flops(again, shape(4, 4)) >= flops(kept, shape(4, 4)) == 6 * once
    either = flops(lambda x: lax.cond(x.sum() > 0, lambda x: x @ x @ x, lambda x: x @ x, x), shape(4, 4))
    assert either == 2 * once


def test_what_nobody_uses_is_not_computed():
    assert flops(lambda x: (x @ x, x + 1)[1], shape(4, 4)) == 0
    assert flops(jax.grad(lambda w, x: (x @ w).sum()), shape(4, 4), shape(4, 4)) == 2 * 4**3


def foreign(x: jax.Array) -> jax.Array:
    return jax.ffi.ffi_call("somewhere_else", jax.ShapeDtypeStruct(x.shape, x.dtype))(x)


def test_what_cannot_be_counted_is_named():
    assert work_of(foreign, shape(4, 4)).uncounted == ("ffi_call",)
    beside = work_of(lambda x: lax.platform_dependent(x, cpu=foreign, default=lambda x: x @ x), shape(4, 4))
    assert (beside.flops, beside.uncounted) == (128, ())
    endless = work_of(lambda x: lax.while_loop(lambda c: c.sum() > 0, lambda c: c @ c, x), shape(4, 4))
    assert (endless.flops, endless.uncounted) == (128, ("while",))


@pytest.mark.parametrize(
    ("function", "args", "passes"),
    [
        (jnp.matmul, 2, 3),
        (lambda x: jnp.tanh(x) * 2 + x, 1, 2),  # fused: read once, written once
        (lambda x: x.T, 1, 0),
        (lambda x, y: jnp.tanh(x) @ y, 2, 5),  # the operand is written first
        (lambda x, y: jnp.tanh(x @ y), 2, 5),
        (lambda x: lax.scan(lambda c, _: (c + 1, None), x, None, length=3)[0], 1, 6),
        (lambda x: x[:32] + 1, 1, 1),  # half read, half written
    ],
)
def test_bytes(function, args, passes):
    assert work_of(function, *[shape(64, 64)] * args).bytes == passes * 64 * 64 * 4


def test_a_reduction_is_read_and_what_follows_reads_again():
    whole, one = 64 * 64 * 4, 64 * 4
    done = work_of(lambda x: x - x.max(1, keepdims=True), shape(64, 64))
    assert done.bytes == whole + one + (whole + one + whole)


def test_all_bytes_that_are_made_are_counted_loops_once():
    def function(x):
        return jax.lax.scan(lambda carry, _: (carry + 1, None), x * 2, length=9)[0]

    assert bytes_made(function, jnp.ones(10)) == 3 * 40
