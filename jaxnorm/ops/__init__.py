"""Operations: an array and its statistics become a normalized array."""

from ._normalize import normalize as normalize
from ._standardize import Implementation as Implementation
from ._standardize import standardize as standardize
