"""EvoNorms: a norm and its activation in one, found by a search."""

from ._evo_norm_b0 import evo_norm_b0 as evo_norm_b0
from ._evo_norm_b1 import evo_norm_b1 as evo_norm_b1
from ._evo_norm_b2 import evo_norm_b2 as evo_norm_b2
from ._evo_norm_s0 import evo_norm_s0 as evo_norm_s0
from ._evo_norm_s1 import evo_norm_s1 as evo_norm_s1
from ._evo_norm_s2 import evo_norm_s2 as evo_norm_s2
