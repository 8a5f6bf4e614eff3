"""Modules for `flax.linen`; those that Flax has too are drop-ins.

They have Flax's names, fields, variables and checkpoints.
"""

from ._batch import BatchNorm as BatchNorm
from ._batch import GhostBatchNorm as GhostBatchNorm
from ._batch_variants import BatchGroupNorm as BatchGroupNorm
from ._batch_variants import BatchRenorm as BatchRenorm
from ._batch_variants import DomainBatchNorm as DomainBatchNorm
from ._batch_variants import EMABatchNorm as EMABatchNorm
from ._batch_variants import L1BatchNorm as L1BatchNorm
from ._batch_variants import MeanOnlyBatchNorm as MeanOnlyBatchNorm
from ._batch_variants import RecurrentBatchNorm as RecurrentBatchNorm
from ._batch_variants import SplitBatchNorm as SplitBatchNorm
from ._batch_variants import VirtualBatchNorm as VirtualBatchNorm
from ._instance import FilterResponseNorm as FilterResponseNorm
from ._instance import GroupNorm as GroupNorm
from ._instance import InstanceNorm as InstanceNorm
from ._kernels import SpectralNorm as SpectralNorm
from ._kernels import WeightNorm as WeightNorm
from ._kernels import WeightStandardization as WeightStandardization
from ._layer import LayerNorm as LayerNorm
from ._layer import RMSNorm as RMSNorm
from ._pointwise import DynamicTanh as DynamicTanh
