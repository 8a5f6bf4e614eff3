"""Normalization for JAX: a normalizer is the shape of its statistics.

`jaxnorm.batch_norm` and its like are pure functions; `jaxnorm.linen` and `jaxnorm.nnx` hold drop-in
modules for Flax, loaded on first use, so that `import jaxnorm` needs no Flax.
"""

import importlib
import sys

from . import functional as functional
from . import ops as ops
from . import preprocessing as preprocessing
from . import stats as stats
from .functional import CATALOGUE as CATALOGUE
from .functional import CrossIterationState as CrossIterationState
from .functional import L1State as L1State
from .functional import MovingAverageState as MovingAverageState
from .functional import OnlineState as OnlineState
from .functional import PowerState as PowerState
from .functional import Quantized as Quantized
from .functional import SpectralState as SpectralState
from .functional import WhiteningState as WhiteningState
from .functional import act_norm as act_norm
from .functional import act_norm_init as act_norm_init
from .functional import act_norm_inverse as act_norm_inverse
from .functional import activation_gain as activation_gain
from .functional import ada_layer_norm as ada_layer_norm
from .functional import ada_layer_norm_zero as ada_layer_norm_zero
from .functional import adaptive_instance_norm as adaptive_instance_norm
from .functional import add_layer_norm as add_layer_norm
from .functional import add_rms_norm as add_rms_norm
from .functional import batch_group_norm as batch_group_norm
from .functional import batch_instance_norm as batch_instance_norm
from .functional import batch_norm as batch_norm
from .functional import batch_renorm as batch_renorm
from .functional import batch_renorm_schedule as batch_renorm_schedule
from .functional import complex_batch_norm as complex_batch_norm
from .functional import conditional_batch_norm as conditional_batch_norm
from .functional import cross_iteration_batch_norm as cross_iteration_batch_norm
from .functional import cumulative_group_norm as cumulative_group_norm
from .functional import cumulative_layer_norm as cumulative_layer_norm
from .functional import decorrelated_batch_norm as decorrelated_batch_norm
from .functional import divisive_norm as divisive_norm
from .functional import domain_batch_norm as domain_batch_norm
from .functional import dynamic_erf as dynamic_erf
from .functional import dynamic_tanh as dynamic_tanh
from .functional import ema_batch_norm as ema_batch_norm
from .functional import evo_norm_b0 as evo_norm_b0
from .functional import evo_norm_b1 as evo_norm_b1
from .functional import evo_norm_b2 as evo_norm_b2
from .functional import evo_norm_s0 as evo_norm_s0
from .functional import evo_norm_s1 as evo_norm_s1
from .functional import evo_norm_s2 as evo_norm_s2
from .functional import film as film
from .functional import filter_response_norm as filter_response_norm
from .functional import gated_rms_norm as gated_rms_norm
from .functional import ghost_batch_norm as ghost_batch_norm
from .functional import global_response_norm as global_response_norm
from .functional import graph_norm as graph_norm
from .functional import group_norm as group_norm
from .functional import instance_norm as instance_norm
from .functional import iterative_norm as iterative_norm
from .functional import l1_batch_norm as l1_batch_norm
from .functional import layer_norm as layer_norm
from .functional import layer_scale as layer_scale
from .functional import layer_scale_start as layer_scale_start
from .functional import local_contrast_norm as local_contrast_norm
from .functional import local_response_norm as local_response_norm
from .functional import mean_only_batch_norm as mean_only_batch_norm
from .functional import message_norm as message_norm
from .functional import modulated_rms_norm as modulated_rms_norm
from .functional import moment_shortcut as moment_shortcut
from .functional import moving_average_batch_norm as moving_average_batch_norm
from .functional import online_norm as online_norm
from .functional import p_rms_norm as p_rms_norm
from .functional import pair_norm as pair_norm
from .functional import pixel_norm as pixel_norm
from .functional import poly_norm as poly_norm
from .functional import positional_norm as positional_norm
from .functional import power_norm as power_norm
from .functional import qk_norm as qk_norm
from .functional import quantized_layer_norm as quantized_layer_norm
from .functional import quantized_rms_norm as quantized_rms_norm
from .functional import re_zero as re_zero
from .functional import recurrent_batch_norm as recurrent_batch_norm
from .functional import resize_segmentation as resize_segmentation
from .functional import rev_in as rev_in
from .functional import rev_in_inverse as rev_in_inverse
from .functional import rms_norm as rms_norm
from .functional import scale_norm as scale_norm
from .functional import scaled_weight_standardization as scaled_weight_standardization
from .functional import skip_init as skip_init
from .functional import spade as spade
from .functional import spectral_norm as spectral_norm
from .functional import spectral_norm_init as spectral_norm_init
from .functional import split_batch_norm as split_batch_norm
from .functional import switchable_norm as switchable_norm
from .functional import thresholded_linear_unit as thresholded_linear_unit
from .functional import virtual_batch_norm as virtual_batch_norm
from .functional import weight_centralization as weight_centralization
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

_ON_FIRST_USE = ("diagnostics", "interop", "linen", "models", "nnx", "surgery", "training")


def __getattr__(name: str):
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"jaxnorm.{name}")
    message = f"module 'jaxnorm' has no attribute {name!r}"
    if any(spec.module == name for spec in functional.SPECS.values()):
        message += f"; the modules are jaxnorm.linen.{name} and jaxnorm.nnx.{name}"
    # Python suggests similar names where an error has both.
    raise AttributeError(message, name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted([*globals(), *_ON_FIRST_USE])
