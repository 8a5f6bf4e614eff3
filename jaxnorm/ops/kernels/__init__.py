"""Kernels that replace the plain path of `standardize`, and whether they can be used."""

from ._native import affine_tangent as affine_tangent
from ._native import available as available
from ._native import instruction_set as instruction_set
from ._native import standardize as standardize
from ._native import suits as suits
from ._native import takes as takes
from ._native import why_not as why_not
