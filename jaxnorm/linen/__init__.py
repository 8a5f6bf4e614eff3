"""Modules for `flax.linen`; those that Flax has too are drop-ins.

They have Flax's names, fields, variables and checkpoints.
"""

from ._batch import BatchNorm as BatchNorm
from ._batch import GhostBatchNorm as GhostBatchNorm
from ._instance import FilterResponseNorm as FilterResponseNorm
from ._instance import GroupNorm as GroupNorm
from ._instance import InstanceNorm as InstanceNorm
from ._kernels import SpectralNorm as SpectralNorm
from ._kernels import WeightNorm as WeightNorm
from ._kernels import WeightStandardization as WeightStandardization
from ._layer import LayerNorm as LayerNorm
from ._layer import RMSNorm as RMSNorm
from ._layer_variants import AddLayerNorm as AddLayerNorm
from ._layer_variants import AddRMSNorm as AddRMSNorm
from ._layer_variants import GatedRMSNorm as GatedRMSNorm
from ._layer_variants import PixelNorm as PixelNorm
from ._layer_variants import PolyNorm as PolyNorm
from ._layer_variants import PositionalNorm as PositionalNorm
from ._layer_variants import PRMSNorm as PRMSNorm
from ._layer_variants import QKNorm as QKNorm
from ._layer_variants import ScaleNorm as ScaleNorm
from ._pointwise import DynamicTanh as DynamicTanh
