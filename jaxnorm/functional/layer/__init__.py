"""Norms of each position over its features."""

from ._layer import layer_norm as layer_norm
from ._p_rms import p_rms_norm as p_rms_norm
from ._pixel import pixel_norm as pixel_norm
from ._rms import rms_norm as rms_norm
from ._scale import scale_norm as scale_norm
