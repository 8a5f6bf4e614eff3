"""Norms of each position over its features."""

from ._add_layer import add_layer_norm as add_layer_norm
from ._add_rms import add_rms_norm as add_rms_norm
from ._gated import gated_rms_norm as gated_rms_norm
from ._layer import layer_norm as layer_norm
from ._p_rms import p_rms_norm as p_rms_norm
from ._pixel import pixel_norm as pixel_norm
from ._poly import poly_norm as poly_norm
from ._positional import moment_shortcut as moment_shortcut
from ._positional import positional_norm as positional_norm
from ._qk import qk_norm as qk_norm
from ._quantized import Quantized as Quantized
from ._quantized import quantized_layer_norm as quantized_layer_norm
from ._quantized import quantized_rms_norm as quantized_rms_norm
from ._rms import rms_norm as rms_norm
from ._scale import scale_norm as scale_norm
