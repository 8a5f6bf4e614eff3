"""Training of Flax models with running statistics: state, steps, accumulation, checkpoints.

A step is a pure function of `(state, batch)`; `make_scan_steps` takes many of them per dispatch,
and `jax.vmap` over stacked states trains several seeds at once.
"""

from ._accumulate import apply_batch_moments as apply_batch_moments
from ._checkpoint import latest_step as latest_step
from ._checkpoint import restore_checkpoint as restore_checkpoint
from ._checkpoint import save_checkpoint as save_checkpoint
from ._gradient import LossFn as LossFn
from ._gradient import Metrics as Metrics
from ._hosts import pool_metrics as pool_metrics
from ._losses import cross_entropy as cross_entropy
from ._scan import make_evaluation as make_evaluation
from ._scan import make_scan_steps as make_scan_steps
from ._state import TrainState as TrainState
from ._state import create_train_state as create_train_state
from ._step import EvalStep as EvalStep
from ._step import TrainStep as TrainStep
from ._step import make_eval_step as make_eval_step
from ._step import make_train_step as make_train_step
from ._stop import stop_on_signal as stop_on_signal
