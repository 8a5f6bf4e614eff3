"""Normalization for JAX: a normalizer is the shape of its statistics.

`jaxnorm.batch_norm` and its like are pure functions; `jaxnorm.linen` and `jaxnorm.nnx` hold drop-in
modules for Flax, loaded on first use, so that `import jaxnorm` needs no Flax.
"""

import importlib

from . import functional as functional
from . import ops as ops
from . import preprocessing as preprocessing
from . import stats as stats
from .functional import CATALOGUE as CATALOGUE
from .functional import SpectralState as SpectralState
from .functional import act_norm as act_norm
from .functional import act_norm_init as act_norm_init
from .functional import act_norm_inverse as act_norm_inverse
from .functional import batch_instance_norm as batch_instance_norm
from .functional import batch_norm as batch_norm
from .functional import divisive_norm as divisive_norm
from .functional import dynamic_tanh as dynamic_tanh
from .functional import filter_response_norm as filter_response_norm
from .functional import ghost_batch_norm as ghost_batch_norm
from .functional import global_response_norm as global_response_norm
from .functional import group_norm as group_norm
from .functional import instance_norm as instance_norm
from .functional import layer_norm as layer_norm
from .functional import local_contrast_norm as local_contrast_norm
from .functional import local_response_norm as local_response_norm
from .functional import rev_in as rev_in
from .functional import rev_in_inverse as rev_in_inverse
from .functional import rms_norm as rms_norm
from .functional import spectral_norm as spectral_norm
from .functional import spectral_norm_init as spectral_norm_init
from .functional import switchable_norm as switchable_norm
from .functional import weight_norm as weight_norm
from .functional import weight_norm_scale as weight_norm_scale
from .functional import weight_standardization as weight_standardization
from .ops import normalize as normalize
from .ops import show_config as show_config
from .ops import standardize as standardize
from .stats import BatchStats as BatchStats
from .stats import Estimator as Estimator
from .stats import Moments as Moments
from .stats import cumulative as cumulative
from .stats import debiased as debiased
from .stats import ema as ema
from .stats import frozen as frozen
from .stats import guarded as guarded
from .stats import merge as merge
from .stats import mix as mix
from .stats import moments as moments
from .stats import pool as pool
from .stats import unbiased_var as unbiased_var
from .stats import window as window

__version__ = "0.1.0"

_ON_FIRST_USE = ("diagnostics", "linen", "models", "nnx", "surgery", "training")


def __getattr__(name: str):
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"jaxnorm.{name}")
    raise AttributeError(f"module 'jaxnorm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ON_FIRST_USE])
