"""Weights of PyTorch, Haiku, Equinox and Keras as variables of Flax, and back.

Each framework's file holds its names and its layouts as tables: what a `weight` or a
`moving_variance` is in Flax, and how its axes are ordered there. One converter knows both sides.
"""

from ._equinox import from_equinox as from_equinox
from ._equinox import to_equinox as to_equinox
from ._files import read_weights as read_weights
from ._haiku import from_haiku as from_haiku
from ._haiku import to_haiku as to_haiku
from ._keras import from_keras as from_keras
from ._keras import to_keras as to_keras
from ._layout import Layout as Layout
from ._layout import after_flatten as after_flatten
from ._linen_nnx import to_linen as to_linen
from ._linen_nnx import to_nnx as to_nnx
from ._norm_options import norm_options as norm_options
from ._options import NormOptions as NormOptions
from ._report import Conversion as Conversion
from ._report import Mapped as Mapped
from ._torch import from_torch as from_torch
from ._torch import to_torch as to_torch
