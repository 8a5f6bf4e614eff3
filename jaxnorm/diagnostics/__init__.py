"""What happens inside a Flax model, layer by layer, without changing it.

Values are captured by intercepting the calls of its modules; every measure is a pure function that
may be jitted. `diagnose` puts them side by side as a table.
"""

from ._capture import LayerValues as LayerValues
from ._capture import layer_values as layer_values
from ._gap import train_eval_gap as train_eval_gap
from ._gradients import LayerGradients as LayerGradients
from ._gradients import layer_gradients as layer_gradients
from ._percentiles import Drift as Drift
from ._percentiles import drift as drift
from ._percentiles import layer_percentiles as layer_percentiles
from ._percentiles import percentiles as percentiles
from ._plots import draw_percentiles as draw_percentiles
from ._plots import draw_report as draw_report
from ._report import LayerRow as LayerRow
from ._report import Report as Report
from ._report import diagnose as diagnose
from ._statistics import StatisticsDistance as StatisticsDistance
from ._statistics import statistics_distance as statistics_distance
from ._units import Saturation as Saturation
from ._units import saturation as saturation
