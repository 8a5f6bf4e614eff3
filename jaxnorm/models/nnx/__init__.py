"""Models of `jaxnorm.models` in nnx: the same layers under the same names, so the same parameters.

A norm is given as a factory that is called with `num_features` and `rngs`, such as
`jaxnorm.nnx.LayerNorm` or `functools.partial(jaxnorm.nnx.BatchNorm, momentum=0.9)`, by its name in
the catalogue, or as None. `train()` and `eval()` set the mode.
"""

from ._mlp import MLP as MLP
from ._norms import make_kernel_norm as make_kernel_norm
from ._norms import make_norm as make_norm
from ._resnet import BasicBlock as BasicBlock
from ._resnet import ResNet as ResNet
from ._transformer import Transformer as Transformer
from ._transformer import TransformerBlock as TransformerBlock
