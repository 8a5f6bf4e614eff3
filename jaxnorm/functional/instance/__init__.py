"""Norms of channels, or of groups of channels, in each example."""

from ._filter_response import filter_response_norm as filter_response_norm
from ._group import group_norm as group_norm
from ._group import group_stats_shape as group_stats_shape
from ._instance import instance_norm as instance_norm
