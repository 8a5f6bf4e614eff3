"""Norms of channels, or of groups of channels, in each example."""

from ._act_norm import act_norm as act_norm
from ._act_norm import act_norm_inverse as act_norm_inverse
from ._act_norm_init import act_norm_init as act_norm_init
from ._batch_instance import batch_instance_norm as batch_instance_norm
from ._filter_response import filter_response_norm as filter_response_norm
from ._group import group_norm as group_norm
from ._group_shape import group_stats_shape as group_stats_shape
from ._instance import instance_norm as instance_norm
from ._rev_in import rev_in as rev_in
from ._rev_in_inverse import rev_in_inverse as rev_in_inverse
from ._switchable import switchable_norm as switchable_norm
