"""Modules for `flax.nnx`; those that Flax has too are drop-ins.

They have Flax's names, arguments, states and checkpoints.
"""

from ._batch import BatchNorm as BatchNorm
from ._batch import GhostBatchNorm as GhostBatchNorm
from ._instance import FilterResponseNorm as FilterResponseNorm
from ._instance import GroupNorm as GroupNorm
from ._instance import InstanceNorm as InstanceNorm
from ._instance_variants import ActNorm as ActNorm
from ._instance_variants import BatchInstanceNorm as BatchInstanceNorm
from ._instance_variants import RevIN as RevIN
from ._instance_variants import SwitchableNorm as SwitchableNorm
from ._kernels import SpectralNorm as SpectralNorm
from ._kernels import WeightNorm as WeightNorm
from ._kernels import WeightStandardization as WeightStandardization
from ._layer import LayerNorm as LayerNorm
from ._layer import RMSNorm as RMSNorm
from ._pointwise import DynamicTanh as DynamicTanh
from ._response import DivisiveNorm as DivisiveNorm
from ._response import GlobalResponseNorm as GlobalResponseNorm
from ._response import LocalContrastNorm as LocalContrastNorm
from ._response import LocalResponseNorm as LocalResponseNorm
