"""Changes to trained networks: their norms found and replaced, statistics, folding, adaptation."""

from ._collect import collect_moments as collect_moments
from ._find import NormRow as NormRow
from ._find import NormTable as NormTable
from ._find import find_norms as find_norms
from ._fold import FoldedPair as FoldedPair
from ._fold import Folding as Folding
from ._fold import fold_batch_norm as fold_batch_norm
from ._freeze import Frozen as Frozen
from ._freeze import freeze as freeze
from ._freeze import freeze_statistics as freeze_statistics
from ._interpolate import average_weights as average_weights
from ._interpolate import interpolate as interpolate
from ._kinds import DROP_INS as DROP_INS
from ._labels import norm_param_labels as norm_param_labels
from ._merge import merge_statistics as merge_statistics
from ._population import AverageState as AverageState
from ._population import average_of_batches as average_of_batches
from ._recalibrate import recalibrate as recalibrate
from ._replace import Replacement as Replacement
from ._replace import replace_norms as replace_norms
from ._report import CostRow as CostRow
from ._report import NormReport as NormReport
from ._report import report as report
from ._reset import reset_statistics as reset_statistics
from ._sync import sync_norms as sync_norms
from ._sync import unsync as unsync
