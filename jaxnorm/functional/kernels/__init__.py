"""Norms of the kernels of a layer."""

from ._activation_gain import activation_gain as activation_gain
from ._scaled_weight_standardization import (
    scaled_weight_standardization as scaled_weight_standardization,
)
from ._spectral import spectral_norm as spectral_norm
from ._spectral_state import SpectralState as SpectralState
from ._spectral_state import spectral_norm_init as spectral_norm_init
from ._weight_centralization import weight_centralization as weight_centralization
from ._weight_norm import weight_norm as weight_norm
from ._weight_norm import weight_norm_scale as weight_norm_scale
from ._weight_standardization import weight_standardization as weight_standardization
