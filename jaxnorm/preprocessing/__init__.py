"""Feature scaling of data sets as pure functions over a state that can be streamed and merged."""

from ._min_max import MinMaxScaler as MinMaxScaler
from ._min_max import MinMaxState as MinMaxState
from ._standard import StandardScaler as StandardScaler
from ._standard import StandardState as StandardState
