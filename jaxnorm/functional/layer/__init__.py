"""Norms of each position over its features."""

from ._layer import layer_norm as layer_norm
from ._rms import rms_norm as rms_norm
