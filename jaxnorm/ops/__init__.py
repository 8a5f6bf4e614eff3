"""Operations: an array and its statistics become a normalized array."""

from ._implementations import Implementation as Implementation
from ._implementations import show_config as show_config
from ._normalize import normalize as normalize
from ._standardize import standardize as standardize
