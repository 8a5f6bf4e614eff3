"""Norms with statistics over the batch, and with running statistics."""

from ._batch import SingleValue as SingleValue
from ._batch import batch_norm as batch_norm
from ._ghost import ghost_batch_norm as ghost_batch_norm
