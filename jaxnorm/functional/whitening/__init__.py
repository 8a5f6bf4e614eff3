"""Norms that take the correlations between channels away."""

from ._complex import complex_batch_norm as complex_batch_norm
from ._decorrelated import decorrelated_batch_norm as decorrelated_batch_norm
from ._iterative import iterative_norm as iterative_norm
from ._parts import WhiteningState as WhiteningState
