"""Statistics of arrays: moments, the algebra that merges them, and running estimates."""

from ._collectives import shard_count as shard_count
from ._estimator import Estimator as Estimator
from ._estimator import GuardedState as GuardedState
from ._estimator import frozen as frozen
from ._estimator import guarded as guarded
from ._moments import Moments as Moments
from ._moments import merge as merge
from ._moments import mix as mix
from ._moments import moments as moments
from ._moments import pool as pool
from ._moments import reported as reported
from ._moments import unbiased_var as unbiased_var
from ._running import BatchStats as BatchStats
from ._running import DebiasedState as DebiasedState
from ._running import WindowState as WindowState
from ._running import cumulative as cumulative
from ._running import debiased as debiased
from ._running import ema as ema
from ._running import whole_mean as whole_mean
from ._running import window as window
from ._windows import Window as Window
from ._windows import windowed_moments as windowed_moments
from .sampling import Variance as Variance
from .shapes import reduced_stats_shape as reduced_stats_shape
from .shapes import sample_size as sample_size
