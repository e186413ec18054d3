"""FLOPs and memory traffic of a program, counted from its jaxpr: the mathematics, not the form that it runs in.

FLOPs are those of products and convolutions, two a multiply-add, as is the custom for the share of a machine's peak
(Chowdhery et al. 2022, appendix B); everything else is counted as traffic alone. A loop counts as often as it runs,
which XLA's own cost analysis does not do, and of a choice by platform the default is counted, whichever is taken: a
foreign kernel stands beside a plain form (`lax.platform_dependent`), and the plain form says what is computed. What is
done again because it was not kept (rematerialisation) counts again.

Bytes are an estimate of what has to pass through memory: products, convolutions, reductions and loops read and write
arrays, whatever is elementwise is fused into its consumer, and an operand of a product or a result is written once.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, jaxprs_in_params
from jax.interpreters.partial_eval import dce_jaxpr
from jaxtyping import PyTree

SLICES = {"slice", "dynamic_slice", "gather"}  # read no more than they give
VIEWS = {"reshape", "transpose", "squeeze", "expand_dims", "copy", "sharding_constraint", "broadcast_in_dim"}
PASSES = ("reduce", "arg", "cum", "sort", "select_and_", "top_k", "approx_top_k")  # first letters: read all, write
OPAQUE = {"ffi_call", "pallas_call", "custom_call", "pure_callback", "io_callback", "fft", "ragged_dot_general"}
OPAQUE |= {"cholesky", "lu", "qr", "eigh", "svd", "triangular_solve"}


@dataclass(frozen=True)
class Work:
    """Work of one call of a program: FLOPs by the type of the operands, bytes through memory, and the names of
    operations whose FLOPs are not counted.
    """

    by_type: Mapping[str, int]
    bytes: int
    uncounted: tuple[str, ...] = ()

    @property
    def flops(self) -> int:
        return sum(self.by_type.values())


def work_of(function: Callable, *args: PyTree) -> Work:
    """Return the work of a call of `function` with these arguments (arrays, or their shapes)."""
    return work(jax.make_jaxpr(function)(*args))


@lru_cache(8)  # of the same program, asked again for every job of a sweep
def work(program: ClosedJaxpr) -> Work:
    """Return the work of one call; values that are never used are left out, as the compiler does."""
    needed, _ = dce_jaxpr(program.jaxpr, [True] * len(program.jaxpr.outvars), instantiate=True)
    tally = _Tally()
    for made in tally.run(needed, [_Array(var.aval) for var in needed.invars]):
        tally.store(made)
    return Work(dict(tally.flops), tally.bytes, tuple(sorted(tally.uncounted)))


class _Array:
    """An array in memory (`sources` None), or a formula over arrays that are, with the bytes read of each."""

    def __init__(self, aval: Any, sources: "dict[_Array, int] | None" = None):
        self.size = prod(aval.shape) * getattr(aval.dtype, "itemsize", 4) if hasattr(aval, "shape") else 0
        self.sources = sources

    @property
    def read(self) -> "dict[_Array, int]":
        return {self: self.size} if self.sources is None else self.sources


def bytes_made(function: Callable, *args: PyTree) -> int:
    """Bytes of all values that a program makes, loops once: more than it ever holds at a time."""
    return _bytes(jax.make_jaxpr(function)(*args).jaxpr)


def _bytes(jaxpr: Jaxpr) -> int:
    inner = [one for equation in jaxpr.eqns for one in jaxprs_in_params(equation.params)]
    made = sum(_Array(variable.aval).size for equation in jaxpr.eqns for variable in equation.outvars)
    return made + sum(map(_bytes, inner))


class _Tally:
    """Runs a jaxpr on arrays without values and adds up what that takes."""

    def __init__(self):
        self.flops: Counter[str] = Counter()
        self.bytes = 0
        self.uncounted: set[str] = set()
        self._times = 1

    def run(self, program: Jaxpr, args: Sequence[_Array]) -> list[_Array]:
        held = dict(zip([*program.constvars, *program.invars], [*map(_fresh, program.constvars), *args], strict=True))

        def look(atom: Any) -> _Array:
            return _Array(atom.aval, {}) if isinstance(atom, Literal) else held[atom]

        for equation in program.eqns:
            made = self._equation(equation, [look(atom) for atom in equation.invars])
            held.update(zip(equation.outvars, made, strict=True))
        return [look(atom) for atom in program.outvars]

    def store(self, array: _Array) -> None:
        """Have a formula computed and written."""
        if array.sources is not None:
            self._move(*array.sources.values(), array.size)
            array.sources = None

    def _equation(self, equation: Any, args: list[_Array]) -> list[_Array]:
        name, params, outs = equation.primitive.name, equation.params, equation.outvars
        if name == "scan":
            body = params["jaxpr"]
            body = body.jaxpr if isinstance(body, ClosedJaxpr) else body
            return self._loop(equation, body, args, params["length"], _constants(equation, body))
        if name == "while":
            return self._while(equation, args)
        if name == "cond":
            return self.run(self._branch(params), args[1:])
        if name in ("dot_general", "conv_general_dilated"):
            return self._product(equation, args)
        if name == "dynamic_update_slice" or name.startswith("scatter"):
            return self._update(outs, args, args[2 if name.startswith("scatter") else 1])
        if name in OPAQUE or name.startswith(PASSES):
            self.uncounted |= {name} & OPAQUE
            return self._pass(outs, args)
        if name in VIEWS and args[0].size == outs[0].aval.size * outs[0].aval.dtype.itemsize:
            return args[:1]
        if (inner := _inner(equation)) is not None:
            with self._repeated(params["mesh"].size if name == "shard_map" else 1):
                return self.run(inner, args)
        if any(jaxprs_in_params(params)):
            self.uncounted.add(name)
        return [self._formula(out, args, name in SLICES) for out in outs]

    def _formula(self, out: Any, args: list[_Array], part: bool) -> _Array:
        sources: dict[_Array, int] = {}
        made = _Array(out.aval, sources)
        for arg in args:
            for source, size in arg.read.items():
                sources[source] = max(sources.get(source, 0), min(size, made.size) if part else size)
        return made

    def _product(self, equation: Any, args: list[_Array]) -> list[_Array]:
        for arg in args:
            self.store(arg)
        kind = str(equation.invars[0].aval.dtype)
        self.flops[kind] += self._times * FLOPS[equation.primitive.name](equation)
        return self._pass(equation.outvars, args)

    def _pass(self, outs: Sequence[Any], args: list[_Array]) -> list[_Array]:
        made = [_fresh(out) for out in outs]
        self._move(*(size for arg in args for size in arg.read.values()), *(out.size for out in made))
        return made

    def _update(self, outs: Sequence[Any], args: list[_Array], update: _Array) -> list[_Array]:
        """In place: only what is put in moves."""
        self.store(args[0])
        self._move(*update.read.values(), update.size)
        return [_fresh(out) for out in outs]

    def _loop(self, equation: Any, body: Jaxpr, args: list[_Array], length: int, whole: int) -> list[_Array]:
        for arg in args:
            self.store(arg)
        with self._repeated(length):
            inside = [*args[:whole], *map(_fresh, body.invars[whole:])]
            for made in self.run(body, inside):
                self.store(made)
        return [_fresh(out) for out in equation.outvars]

    def _while(self, equation: Any, args: list[_Array]) -> list[_Array]:
        """Count a loop of unknown length once, and list it as uncounted where it has FLOPs."""
        before = self.flops.total()
        consts = equation.params["cond_nconsts"]
        body = equation.params["body_jaxpr"].jaxpr
        made = self._loop(equation, body, args[consts:], 1, equation.params["body_nconsts"])
        if self.flops.total() > before:
            self.uncounted.add("while")
        return made

    def _branch(self, params: Mapping[str, Any]) -> Jaxpr:
        """The default of a choice by platform; else the branch that takes most."""
        branches = [branch.jaxpr for branch in params["branches"]]
        platforms = params.get("branches_platforms")
        if platforms and None in platforms:
            return branches[platforms.index(None)]

        def cost(branch: Jaxpr) -> tuple[int, int]:
            alone = _Tally()
            alone.run(branch, [_fresh(var) for var in branch.invars])
            return alone.flops.total(), alone.bytes

        return max(branches, key=cost)

    @contextmanager
    def _repeated(self, times: int):
        outer, self._times = self._times, self._times * times
        yield
        self._times = outer

    def _move(self, *sizes: int) -> None:
        self.bytes += self._times * sum(sizes)


def _fresh(var: Any) -> _Array:
    return _Array(var.aval)


def _constants(scan: Any, body: Jaxpr) -> int:
    """How many arguments every turn of a scan reads whole. JAX keeps no such number under one name in all versions, but
    what is scanned over, or collected, has an axis more outside than inside, and what is carried has not.
    """

    def alike(outer: Sequence[Any], inner: Sequence[Any]) -> int:
        return sum(one.aval.ndim == other.aval.ndim for one, other in zip(outer, inner, strict=True))

    return alike(scan.invars, body.invars) - alike(scan.outvars, body.outvars)


def _inner(equation: Any) -> Jaxpr | None:
    """The program that an equation calls with its own arguments: jit, checkpoint, custom derivatives."""
    for param in equation.params.values():
        inner = param.jaxpr if isinstance(param, ClosedJaxpr) else param
        if isinstance(inner, Jaxpr) and len(inner.invars) == len(equation.invars):
            return inner
    return None


def _dot(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    return 2 * equation.outvars[0].aval.size * prod(equation.invars[0].aval.shape[axis] for axis in contracted)


def _convolution(equation: Any) -> int:
    """Every output meets every tap, padded or not; where the input is the smaller side, as in the gradient of a
    stride, every input does.
    """
    (x, w), y = (var.aval.shape for var in equation.invars), equation.outvars[0].aval.shape
    lhs, rhs, out = equation.params["dimension_numbers"]
    places = min(prod(x[axis] for axis in lhs[2:]), prod(y[axis] for axis in out[2:]))
    return 2 * y[out[0]] * y[out[1]] * places * w[rhs[1]] * prod(w[axis] for axis in rhs[2:])


FLOPS = {"dot_general": _dot, "conv_general_dilated": _convolution}
