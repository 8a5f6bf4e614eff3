"""Small Flax models with the normalization as an argument.

A norm is given as a factory, such as `jaxnorm.linen.LayerNorm` or
`functools.partial(jaxnorm.linen.BatchNorm, momentum=0.9)`, by its name in the catalogue such as
"layer_norm", or as None; the models name their layers and tell those with running averages whether
they train. `jaxnorm.models.nnx` has some of them in nnx.
"""

from . import nnx as nnx
from ._cnn import CNN as CNN
from ._dcgan import DCGANDiscriminator as DCGANDiscriminator
from ._dcgan import DCGANGenerator as DCGANGenerator
from ._inception import INCEPTION_MODULES as INCEPTION_MODULES
from ._inception import Inception as Inception
from ._inception import InceptionBranches as InceptionBranches
from ._inception import InceptionModule as InceptionModule
from ._inception import inception_64 as inception_64
from ._inception import inception_224 as inception_224
from ._lstm import LSTM as LSTM
from ._lstm_cell import LSTMCell as LSTMCell
from ._lstm_cell import LSTMState as LSTMState
from ._mlp import MLP as MLP
from ._norms import Activation as Activation
from ._norms import Initializer as Initializer
from ._norms import NormFactory as NormFactory
from ._norms import apply_kernel_norm as apply_kernel_norm
from ._norms import apply_norm as apply_norm
from ._norms import norm_factory as norm_factory
from ._presets import resnet_18 as resnet_18
from ._presets import resnet_20 as resnet_20
from ._resnet import BasicBlock as BasicBlock
from ._resnet import ResNet as ResNet
from ._resnet import Shortcut as Shortcut
from ._style import StyleNet as StyleNet
from ._transformer import Placement as Placement
from ._transformer import Transformer as Transformer
from ._transformer import TransformerBlock as TransformerBlock
from ._transformer import residual_constants as residual_constants
from ._vgg import vgg_11 as vgg_11
from ._vgg import vgg_16 as vgg_16
from ._vgg import vgg_small as vgg_small
