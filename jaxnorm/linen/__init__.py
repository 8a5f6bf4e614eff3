"""Modules for `flax.linen`; those that Flax has too are drop-ins.

They have Flax's names, fields, variables and checkpoints.
"""

from ._batch_norm import BatchNorm as BatchNorm
from ._ghost_batch_norm import GhostBatchNorm as GhostBatchNorm
from ._group_norm import GroupNorm as GroupNorm
from ._instance_norm import InstanceNorm as InstanceNorm
from ._layer_norm import LayerNorm as LayerNorm
from ._rms_norm import RMSNorm as RMSNorm
from ._spectral_norm import SpectralNorm as SpectralNorm
from ._weight_norm import WeightNorm as WeightNorm
from ._weight_standardization import WeightStandardization as WeightStandardization
