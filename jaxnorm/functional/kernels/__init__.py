"""Norms of the kernels of a layer."""

from ._spectral import SpectralState as SpectralState
from ._spectral import spectral_norm as spectral_norm
from ._spectral import spectral_norm_init as spectral_norm_init
from ._weight_norm import weight_norm as weight_norm
from ._weight_norm import weight_norm_scale as weight_norm_scale
from ._weight_standardization import weight_standardization as weight_standardization
