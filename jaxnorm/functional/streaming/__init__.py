"""Norms that see their samples one after another: prefixes of sequences, batches of a stream."""

from ._cross_iteration import cross_iteration_batch_norm as cross_iteration_batch_norm
from ._cumulative_group import cumulative_group_norm as cumulative_group_norm
from ._cumulative_layer import cumulative_layer_norm as cumulative_layer_norm
from ._moving_average import moving_average_batch_norm as moving_average_batch_norm
from ._online import online_norm as online_norm
from ._power import power_norm as power_norm
from ._states import CrossIterationState as CrossIterationState
from ._states import MovingAverageState as MovingAverageState
from ._states import OnlineState as OnlineState
from ._states import PowerState as PowerState
