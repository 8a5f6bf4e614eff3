"""Norms with statistics over the batch, and with running statistics."""

from ._batch import batch_norm as batch_norm
from ._batch_group import batch_group_norm as batch_group_norm
from ._domain import domain_batch_norm as domain_batch_norm
from ._ema import ema_batch_norm as ema_batch_norm
from ._ghost import ghost_batch_norm as ghost_batch_norm
from ._l1 import L1State as L1State
from ._l1 import l1_batch_norm as l1_batch_norm
from ._mean_only import mean_only_batch_norm as mean_only_batch_norm
from ._recurrent import recurrent_batch_norm as recurrent_batch_norm
from ._renorm import batch_renorm as batch_renorm
from ._renorm_schedule import batch_renorm_schedule as batch_renorm_schedule
from ._single_value import SingleValue as SingleValue
from ._split import split_batch_norm as split_batch_norm
from ._virtual import virtual_batch_norm as virtual_batch_norm
