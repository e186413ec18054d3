"""How alike two people's scans are once what a copy may differ in is taken away: pose, mirror image, contrast, shading.

Every scan is brought to one pose, that of the mean scan, by Gauss-Newton steps over affine maps. What the mean scan
would change by under small moves, gains, powers and shadings is then projected out of it (tangent distance: Simard,
LeCun & Denker 1993), and differences count by how usual they are between scans. The mean is its own mirror image, so
that a scan's mirror image needs no pose of its own.
"""

from collections.abc import Iterator
from itertools import combinations_with_replacement, product

import numpy as np
from jaxtyping import Float, Int

FINE, POSED, SIDE = 32, 16, 8  # voxels a side that are read, that poses are found by, and that are compared
STEPS, ROUNDS = 6, 2
BLUR = 0.5  # of the lattice's spacing
WEAK = 0.05  # of the best-determined change: weaker ones (turns of a ball) are left alone
STRIDE, REACH = 0.15, 0.5  # of half a side: how far a step, and a pose, may lead
ENOUGH = 100  # voxels, below which a scan has no shape to know it by
BLOCK = 256  # scans that are compared with all others at once

Shape = tuple[int, int, int]


def reduced(voxels: Float[np.ndarray, "x y z c"]) -> Float[np.ndarray, "u v w"]:
    """A scan as small as poses are read from, its channels averaged."""
    small = voxels.mean(-1)
    for axis, n in enumerate(small.shape):
        by = -(-n // FINE)
        if by > 1:
            small = np.pad(small, [(0, -n % by if a == axis else 0) for a in range(3)])
            small = np.add.reduceat(small, np.arange(0, n, by), axis) / by
    return small.astype(np.float32)


def comparable(shape: tuple[int, ...]) -> bool:
    """Whether scans of this shape have voxels enough."""
    return int(np.prod(_lattice(shape, SIDE))) >= ENOUGH


def scan_similarity(
    scans: Float[np.ndarray, "s u v w"], owner: Int[np.ndarray, " s"], people: int
) -> Float[np.ndarray, "n n"]:
    """The logarithm of the distance between the two most alike scans of each two people, in any mirror image."""
    shape = _lattice(scans.shape[1:], SIDE)
    features = _read(_smooth(scans, SIDE), _poses(scans), shape)
    mean = _symmetric(features.mean(0), shape)
    features = _whitened(_without(features, _tangents(mean, shape)), shape)
    size, near = (features**2).sum(1), np.full((people, people), np.inf)
    for mirrored in _mirrors(features, shape):
        for start in range(0, len(features), BLOCK):
            some = slice(start, start + BLOCK)
            apart = size[some, None] + size - 2 * mirrored[some] @ features.T
            np.minimum.at(near, (owner[some, None], owner[None]), np.maximum(apart, 0))
    smallest = np.finfo(np.float32).eps * size.mean()  # nearer than rounding nothing can be
    return np.log(np.maximum(np.minimum(near, near.T), smallest)) / 2


def _lattice(shape: tuple[int, ...], side: int) -> Shape:
    x, y, z = (min(n, side) for n in shape[:3])
    return x, y, z


def _points(shape: Shape) -> Float[np.ndarray, "3 p"]:
    """The middles of a grid's voxels, each side from -1 to 1."""
    return np.stack(np.meshgrid(*((np.arange(n) + 0.5) * 2 / n - 1 for n in shape), indexing="ij")).reshape(3, -1)


def _smooth(scans: Float[np.ndarray, "s u v w"], side: int) -> Float[np.ndarray, "s u v w"]:
    """Without what is finer than a lattice of so many points a side."""
    from scipy.ndimage import gaussian_filter  # loaded after training: it takes long to import

    return gaussian_filter(scans, [0, *(BLUR * n / side if n > side else 0 for n in scans.shape[1:])])


def _poses(scans: Float[np.ndarray, "s u v w"]) -> Float[np.ndarray, "s 3 4"]:
    """The affine map that brings each scan to the pose of their mean; none where that makes it less like the mean."""
    shape, smooth = _lattice(scans.shape[1:], POSED), _smooth(scans, POSED)
    still = np.tile(np.eye(3, 4), (len(scans), 1, 1))
    poses, plain = still, _read(smooth, still, shape)
    features = plain
    for _ in range(ROUNDS):
        mean, poses, features = _symmetric(features.mean(0), shape), still, plain
        solve = np.linalg.pinv(_tangents(mean, shape, 1), WEAK)
        for _ in range(STEPS):
            gain, move = np.split(features @ solve.T, [5], axis=1)
            move = (move / np.maximum(gain[:, 1:2], 0.3)).reshape(-1, 3, 4)
            poses = _stepped(poses, np.clip(move, -STRIDE, STRIDE))
            features = _read(smooth, poses, shape)
        lost = (np.abs(poses - still) > REACH).any((1, 2)) | (_error(features, mean) > _error(plain, mean))
        poses, features = np.where(lost[:, None, None], still, poses), np.where(lost[:, None], plain, features)
    return poses


def _stepped(poses: Float[np.ndarray, "s 3 4"], move: Float[np.ndarray, "s 3 4"]) -> Float[np.ndarray, "s 3 4"]:
    """Poses after what remains has been found: seen(u) = mean(u + shift + turn u), undone before the pose."""
    back = np.linalg.inv(np.eye(3) + move[:, :, 1:])
    turn = poses[:, :, :3] @ back
    return np.concatenate([turn, poses[:, :, 3:] - turn @ move[:, :, :1]], axis=2)


def _read(
    scans: Float[np.ndarray, "s u v w"], poses: Float[np.ndarray, "s 3 4"], shape: Shape
) -> Float[np.ndarray, "s p"]:
    """Scans where their poses lead the lattice's points; beyond the edge is background (0)."""
    from scipy.ndimage import map_coordinates  # loaded after training: it takes long to import

    points, size = _points(shape), np.array(scans.shape[1:])[:, None]
    features = np.empty((len(scans), points.shape[1]), np.float32)
    for place, (scan, pose) in enumerate(zip(scans, poses, strict=True)):
        at = ((pose[:, :3] @ points + pose[:, 3:] + 1) * size - 1) / 2
        at[size[:, 0] == 1] = 0
        features[place] = map_coordinates(scan, at, order=1, mode="constant")
    return features


def _error(features: Float[np.ndarray, "s p"], mean: Float[np.ndarray, " p"]) -> Float[np.ndarray, " s"]:
    """One less the correlation with the mean."""
    own, other = _unit(features), _unit(mean[None])[0]
    return 1 - own @ other


def _unit(features: Float[np.ndarray, "s p"]) -> Float[np.ndarray, "s p"]:
    features = features - features.mean(1, keepdims=True)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _tangents(mean: Float[np.ndarray, " p"], shape: Shape, degree: int = 2) -> Float[np.ndarray, "p g"]:
    """Tangents: what small changes add to the mean scan: gain and shading first, then an affine map's twelve numbers.

    With `degree` 2 the square and the cube of the intensities, and shading of second degree, come before the map.
    """
    points = _points(shape)
    shades = [mean * u for u in points]
    if degree == 2:
        shades += [mean**2, mean**3, *(mean * a * b for a, b in combinations_with_replacement(points, 2))]
    along = [
        np.asarray(np.gradient(mean.reshape(shape), 2 / n, axis=axis)).ravel() if n > 1 else np.zeros_like(mean)
        for axis, n in enumerate(shape)
    ]
    moves = [slope * u for slope in along for u in (np.ones_like(mean), *points)]
    return np.stack([np.ones_like(mean), mean, *shades, *moves], axis=1)


def _without(features: Float[np.ndarray, "s p"], tangents: Float[np.ndarray, "p g"]) -> Float[np.ndarray, "s p"]:
    """The part of each scan that no small change of the mean explains."""
    scaled = tangents / np.maximum(np.linalg.norm(tangents, axis=0), 1e-12)
    basis, size, _ = np.linalg.svd(scaled, full_matrices=False)
    basis, own = basis[:, size > 1e-4 * size[0]], _unit(features)
    return own - (own @ basis) @ basis.T


def _whitened(features: Float[np.ndarray, "s p"], shape: Shape) -> Float[np.ndarray, "s p"]:
    """Directions in which scans differ much count less, none more than a direction of average spread."""
    spread = np.sum([one.T @ one for one in _mirrors(features, shape)], axis=0)
    value, vector = np.linalg.eigh(spread / max(np.trace(spread) / len(spread), 1e-30))
    return features @ ((vector / np.sqrt(np.maximum(value, 0) + 1)) @ vector.T)


def _symmetric(mean: Float[np.ndarray, " p"], shape: Shape) -> Float[np.ndarray, " p"]:
    return np.mean([one[0] for one in _mirrors(mean[None], shape)], axis=0)


def _mirrors(features: Float[np.ndarray, "s p"], shape: Shape) -> Iterator[Float[np.ndarray, "s p"]]:
    """All mirror images, each scan's own first."""
    for turned in product(*((1, -1) if n > 1 else (1,) for n in shape)):
        cut = tuple(slice(None, None, step) for step in turned)
        yield features.reshape(-1, *shape)[:, *cut].reshape(features.shape)
