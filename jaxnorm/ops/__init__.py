"""Operations: an array and its statistics become a normalized array."""

from ._activations import Activation as Activation
from ._activations import activated as activated
from ._activations import check_activation as check_activation
from ._implementations import Implementation as Implementation
from ._implementations import show_config as show_config
from ._normalize import normalize as normalize
from ._standardize import Fused as Fused
from ._standardize import fused_standardize as fused_standardize
from ._standardize import standardize as standardize
