"""Models of both kinds seen the same way: variables by path, a pure call, the calls inside."""

from ._intercept import Call as Call
from ._intercept import Handler as Handler
from ._intercept import Path as Path
from ._intercept import intercept as intercept
from ._intercept import modules_of as modules_of
from ._intercept import name_of as name_of
from ._nnx import NnxApply as NnxApply
from ._nnx import takes_train as takes_train
from ._open import Apply as Apply
from ._open import opened as opened
from ._open import train_apply as train_apply
from ._open import variables_of as variables_of
from ._table import aligned as aligned
