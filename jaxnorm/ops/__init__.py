"""Operations: an array and its statistics become a normalized array."""

from ._implementation import Implementation as Implementation
from ._implementation import show_config as show_config
from ._normalize import normalize as normalize
from ._standardize import standardize as standardize
