"""Modules for `flax.nnx`; those that Flax has too are drop-ins.

They have Flax's names, arguments, states and checkpoints.
"""

from ._activations import FilterResponseNorm as FilterResponseNorm
from ._activations import GroupNorm as GroupNorm
from ._activations import InstanceNorm as InstanceNorm
from ._activations import LayerNorm as LayerNorm
from ._activations import RMSNorm as RMSNorm
from ._batch import BatchNorm as BatchNorm
from ._batch import GhostBatchNorm as GhostBatchNorm
from ._kernels import SpectralNorm as SpectralNorm
from ._kernels import WeightNorm as WeightNorm
from ._kernels import WeightStandardization as WeightStandardization
