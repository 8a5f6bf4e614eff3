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
from ._conditional import SPADE as SPADE
from ._conditional import AdaLayerNorm as AdaLayerNorm
from ._conditional import AdaLayerNormZero as AdaLayerNormZero
from ._conditional import AdaptiveInstanceNorm as AdaptiveInstanceNorm
from ._conditional import ConditionalBatchNorm as ConditionalBatchNorm
from ._conditional import FiLM as FiLM
from ._conditional import ModulatedRMSNorm as ModulatedRMSNorm
from ._evolved import EvoNormB0 as EvoNormB0
from ._evolved import EvoNormB1 as EvoNormB1
from ._evolved import EvoNormB2 as EvoNormB2
from ._evolved import EvoNormS0 as EvoNormS0
from ._evolved import EvoNormS1 as EvoNormS1
from ._evolved import EvoNormS2 as EvoNormS2
from ._graph import GraphNorm as GraphNorm
from ._graph import MessageNorm as MessageNorm
from ._graph import PairNorm as PairNorm
from ._instance import FilterResponseNorm as FilterResponseNorm
from ._instance import GroupNorm as GroupNorm
from ._instance import InstanceNorm as InstanceNorm
from ._kernels import ScaledWeightStandardization as ScaledWeightStandardization
from ._kernels import SpectralNorm as SpectralNorm
from ._kernels import WeightCentralization as WeightCentralization
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
from ._pointwise import DynamicErf as DynamicErf
from ._pointwise import DynamicTanh as DynamicTanh
from ._pointwise import LayerScale as LayerScale
from ._pointwise import ReZero as ReZero
from ._pointwise import SkipInit as SkipInit
from ._pointwise import ThresholdedLinearUnit as ThresholdedLinearUnit
from ._whitening import IterativeNorm as IterativeNorm
