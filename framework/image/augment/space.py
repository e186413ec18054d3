"""Where things lie: flips, shifts, turns, smooth bends. Lengths are shares of a side, so that grids of different
resolution over one field of view move alike.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from framework.errors import UserError
from framework.image.augment.base import Transform
from framework.types import Arr, Scans

UNFOLDED = 0.40  # of the spacing of control points: Choi & Lee 2000, injectivity of cubic B-spline deformations
either_way = partial(jax.random.uniform, minval=-1, maxval=1)


@dataclass(frozen=True)
class Flip(Transform):
    """Left and right (x) change places with a `probability`."""

    probability: float = 0.5
    same: str = field(default="subject", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        self._within(0.0, 1.0, probability=self.probability)

    def __call__(self, scans: Scans, key: Key[Array, ""]) -> Float[Array, "n x y z c"]:
        flips = self.draw(jax.random.uniform, scans, key) < self.probability
        return jnp.where(flips[:, None, None, None, None], jnp.flip(scans.voxels, 1), scans.voxels)


@dataclass(frozen=True)
class Shift(Transform):
    """Whole-voxel shifts up to `voxels` an axis: nothing is interpolated; what comes in is background (0)."""

    voxels: int
    same: str = field(default="subject", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        self._within(0.0, voxels=float(self.voxels))

    def __call__(self, scans: Scans, key: Key[Array, ""]) -> Float[Array, "n x y z c"]:
        by = self.draw(partial(jax.random.randint, minval=-self.voxels, maxval=self.voxels + 1), scans, key, (3,))
        reach = [self.voxels if n > 1 else 0 for n in scans.voxels.shape[1:4]]
        padded = jnp.pad(scans.voxels, [(0, 0), *((r, r) for r in reach), (0, 0)])

        def cut(voxels: Float[Array, "u v w c"], start: Array) -> Float[Array, "x y z c"]:
            return jax.lax.dynamic_slice(voxels, (*start, 0), scans.voxels.shape[1:])

        return jax.vmap(cut)(padded, jnp.clip(by + jnp.array(reach), 0, 2 * jnp.array(reach)))


class Warp(Transform):
    """A transform that says where each voxel of the varied scan is read in the given one."""

    def __call__(self, scans: Scans, key: Key[Array, ""]) -> Float[Array, "n x y z c"]:
        return sample(scans, [(self, key)])

    @abstractmethod
    def leads(self, points: Float[Array, "#n 3 x y z"], scans: Scans, key: Key[Array, ""]) -> Float[Array, "n 3 x y z"]:
        """Where in the given scan what lies at `points` of the varied one is to be read: voxels from the centre."""


@dataclass(frozen=True)
class Affine(Warp):
    """Rotation up to `rotation` degrees about each axis, growth by up to `scale` either way, translation by up to
    `translation` of a side along each; linear interpolation, background (0) beyond the edge.

    Voxels count as cubes. An image is turned in its plane alone.
    """

    rotation: float = 0.0
    scale: float = 0.0
    translation: float = 0.0
    same: str = field(default="subject", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        self._within(0.0, rotation=self.rotation, scale=self.scale, translation=self.translation)

    def leads(self, points: Float[Array, "#n 3 x y z"], scans: Scans, key: Key[Array, ""]) -> Float[Array, "n 3 x y z"]:
        draws = self.draw(either_way, scans, key, (7,))
        angles, growth = jnp.deg2rad(self.rotation) * draws[:, :3], jnp.exp(jnp.log1p(self.scale) * draws[:, 3])
        matrix = jax.vmap(rotation)(angles) / growth[:, None, None]
        return move(points, matrix, self.translation * draws[:, 4:])


@dataclass(frozen=True)
class Elastic(Warp):
    """A smooth bend: a lattice of `cells` a side whose points move up to `size` of a side along each axis, joined by
    cubic B-splines. Raises UserError where the bend could fold.
    """

    size: float
    cells: int = 4
    same: str = field(default="subject", kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        self._within(0.0, size=self.size)
        self._within(1.0, cells=float(self.cells))
        if self.size > UNFOLDED / self.cells:
            raise UserError(
                f"Elastic.size is {self.size} with {self.cells} cells, which may fold; "
                f"expected at most {UNFOLDED / self.cells:g}, or fewer cells"
            )

    def leads(self, points: Float[Array, "#n 3 x y z"], scans: Scans, key: Key[Array, ""]) -> Float[Array, "n 3 x y z"]:
        shape = scans.voxels.shape[1:4]
        drawn = self.draw(either_way, scans, key, (3, *(self.cells + 3 if n > 1 else 1 for n in shape)))
        return points + self.size * jnp.array(shape)[:, None, None, None] * bend(drawn, shape)


def sample(scans: Scans, warps: Sequence[tuple[Warp, Key[Array, ""]]]) -> Float[Array, "n x y z c"]:
    """The scans after all warps, read once. A bend is laid over the varied scan's own voxels."""
    shape = scans.voxels.shape[1:4]
    points = jnp.stack(jnp.meshgrid(*(jnp.arange(n) - (n - 1) / 2 for n in shape), indexing="ij"))[None]
    for warp, key in reversed(warps):
        points = warp.leads(points, scans, key)
    return gather(scans.voxels, [points[:, axis] + (n - 1) / 2 for axis, n in enumerate(shape)])


def rotation(angles: Float[Array, " 3"]) -> Float[Array, "3 3"]:
    """The matrix of rotations about x, then y, then z (radians)."""
    turned = jnp.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        turn = jnp.eye(3).at[jnp.array([i, j, i, j]), jnp.array([i, j, j, i])].set(jnp.stack([cos, cos, -sin, sin]))
        turned = jnp.matmul(turn, turned, precision="highest")
    return turned


def move(
    points: Float[Array, "#n 3 x y z"], matrix: Float[Arr, "n 3 3"], translation: Float[Arr, "n 3"]
) -> Float[Array, "n 3 x y z"]:
    """`matrix` · (point − translation), translations in shares of a side; nothing leaves an image's plane."""
    shape = points.shape[2:]
    flat = np.array([n == 1 for n in shape])
    matrix = jnp.where(flat[:, None] | flat[None], jnp.eye(3), matrix)
    by = translation * jnp.array(np.where(flat, 0, shape))
    return jnp.einsum("ned,ndxyz->nexyz", matrix, points - by[:, :, None, None, None], precision="highest")


def bend(lattice: Float[Array, "n 3 *points"], shape: Sequence[int]) -> Float[Array, "n 3 x y z"]:
    """The displacement at every voxel, by uniform cubic B-splines over a lattice that begins one cell outside."""
    x, y, z = (_splines(n, points) for n, points in zip(shape, lattice.shape[2:], strict=True))
    lattice = jnp.einsum("ndijk,xi->ndxjk", lattice, x, precision="highest")
    lattice = jnp.einsum("ndxjk,yj->ndxyk", lattice, y, precision="highest")
    return jnp.einsum("ndxyk,zk->ndxyz", lattice, z, precision="highest")


def gather(voxels: Float[Arr, "n x y z c"], points: Sequence[Float[Array, "n x y z"]]) -> Float[Array, "n x y z c"]:
    """Linear interpolation at voxel coordinates, over axes longer than one voxel.

    One gather a corner over all scans laid end to end, in which XLA fuses indices and weights: on a CPU faster than
    `map_coordinates` under vmap, and than all corners laid side by side and gathered at once.
    """
    axes = [axis for axis in range(3) if voxels.shape[axis + 1] > 1]
    padded = jnp.pad(voxels, [(0, 0), *((1, 1) if axis in axes else (0, 0) for axis in range(3)), (0, 0)])
    shape = padded.shape[1:4]
    below = {a: jnp.clip(jnp.floor(points[a]).astype(int) + 1, 0, shape[a] - 2) for a in axes}
    share = {a: jnp.clip(points[a] + 1 - below[a], 0, 1)[..., None] for a in axes}
    start = prod(shape) * jnp.arange(len(voxels))[:, None, None, None]
    flat, total = padded.reshape(-1, voxels.shape[-1]), jnp.zeros(())
    for corner in product((0, 1), repeat=len(axes)):
        index, weight = start, jnp.ones(())
        for step, axis in zip(corner, axes, strict=True):
            index = index + (below[axis] + step) * prod(shape[axis + 1 :])
            weight = weight * (share[axis] if step else 1 - share[axis])
        total = total + weight * flat.at[index].get(mode="promise_in_bounds")
    return jnp.broadcast_to(total, voxels.shape)


def _splines(n: int, points: int) -> Float[np.ndarray, "n p"]:
    """Weights of the points of a lattice at each of n voxels: the cubic B-spline basis."""
    if points == 1:
        return np.ones((n, 1), np.float32)  # an image bends in its plane, alike throughout its one slice
    place = np.linspace(0, points - 3, n)
    away = np.abs(place[:, None] - np.arange(-1, points - 1))
    near, far = (4 - 6 * away**2 + 3 * away**3) / 6, np.maximum(2 - away, 0) ** 3 / 6
    return np.where(away < 1, near, far).astype(np.float32)
