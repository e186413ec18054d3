"""Training scans varied in ways that leave the anatomy what it is, on the device, inside the step."""

from framework.image.augment.base import Transform
from framework.image.augment.compose import Compose
from framework.image.augment.intensity import BiasField, Cutout, Gamma, Noise
from framework.image.augment.space import Affine, Elastic, Flip, Shift

__all__ = ["Affine", "BiasField", "Compose", "Cutout", "Elastic", "Flip", "Gamma", "Noise", "Shift", "Transform"]
