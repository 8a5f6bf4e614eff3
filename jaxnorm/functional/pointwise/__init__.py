"""Functions of each entry by itself that take the place of a norm, or of its scale."""

from ._dynamic_erf import dynamic_erf as dynamic_erf
from ._dynamic_tanh import dynamic_tanh as dynamic_tanh
from ._layer_scale import layer_scale as layer_scale
from ._layer_scale import layer_scale_start as layer_scale_start
from ._re_zero import re_zero as re_zero
from ._skip_init import skip_init as skip_init
from ._thresholded import thresholded_linear_unit as thresholded_linear_unit
