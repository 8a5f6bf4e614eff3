"""Rows of the catalogue for norms that see their samples one after another, with modules."""

from typing import Any

from jaxnorm.functional._claims import CENTRED
from jaxnorm.functional._dtypes import stats_dtype
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional.streaming._cross_iteration import cross_iteration_batch_norm
from jaxnorm.functional.streaming._cumulative_group import cumulative_group_norm
from jaxnorm.functional.streaming._cumulative_layer import cumulative_layer_norm
from jaxnorm.functional.streaming._moving_average import moving_average_batch_norm
from jaxnorm.functional.streaming._online import online_norm
from jaxnorm.functional.streaming._power import power_norm
from jaxnorm.functional.streaming._states import (
    CrossIterationState,
    MovingAverageState,
    OnlineState,
    PowerState,
)
from jaxnorm.typing import Shape

# Variances that are kept for later steps are in the units of x.
PREFIXES = CENTRED - {"range"}


def _moving_average_state(layer: Any, features: Shape) -> MovingAverageState:
    return MovingAverageState.start(features, layer.window, stats_dtype(layer))


def _cross_iteration_state(layer: Any, features: Shape) -> CrossIterationState:
    return CrossIterationState.start(layer.kernel_shape, layer.window, stats_dtype(layer))


MEMBERS: tuple[Member, ...] = (
    Member(
        name="cumulative_layer_norm",
        function=cumulative_layer_norm,
        stats_shape=None,
        claims=PREFIXES,
        paper="Luo, Mesgarani: Conv-TasNet, arXiv:1809.07454, 2018",
        center=True,
        cost="one pass for the statistics of each step, and a scan over these",
        elsewhere="Asteroid, ESPnet",
        limits="variances must be representable in float32",
    ),
    Member(
        name="cumulative_group_norm",
        function=cumulative_group_norm,
        stats_shape=None,
        claims=PREFIXES,
        paper="Ma et al.: Megalodon, arXiv:2404.08801, 2024",
        center=True,
        options={"num_groups": 2},
        cost="one pass for the statistics of each step, and a scan over these",
        elsewhere="Megalodon; Lingvo, Praxis, with squares about the mean at each step",
        limits="variances must be representable in float32",
    ),
    Member(
        name="power_norm",
        function=power_norm,
        stats_shape=None,
        claims=frozenset({"mask", "shards"}),
        paper="Shen, Yao, Gholami, Mahoney, Keutzer: PowerNorm: Rethinking Batch Normalization in "
        "Transformers, arXiv:2003.07845, 2020",
        stateful=True,
        cost="one pass for the statistics, and one in the backward pass",
        limits="reverse mode only; the new backward statistic comes out as a gradient",
    ),
    Member(
        name="online_norm",
        function=online_norm,
        stats_shape=None,
        claims=frozenset({"mask"}),
        paper="Chiley et al.: Online Normalization for Training Neural Networks, arXiv:1905.05894, "
        "2019",
        center=True,
        stateful=True,
        cost="one pass for the statistics of each sample, a scan over these, and both again in the "
        "backward pass",
        limits="reverse mode only; the new backward statistics come out as gradients; the samples "
        "of a mapped axis are streams of their own",
    ),
    Member(
        name="moving_average_batch_norm",
        function=moving_average_batch_norm,
        stats_shape=None,
        claims=frozenset({"mask", "shards"}),
        paper="Yan et al.: Towards Stabilizing Batch Statistics in Backward Propagation of Batch "
        "Normalization, arXiv:2001.06838, 2020",
        stateful=True,
        cost="one pass for the statistics, and one in the backward pass",
        limits="subtracts no mean: the kernels before it are to be centred; reverse mode only; the "
        "new products of the backward pass come out as a gradient",
    ),
    Member(
        name="cross_iteration_batch_norm",
        function=cross_iteration_batch_norm,
        stats_shape=None,
        claims=frozenset({"mask"}),
        paper="Yao et al.: Cross-Iteration Batch Normalization, arXiv:2002.05712, 2020",
        center=True,
        stateful=True,
        cost="one pass for the statistics, and two pullbacks to the kernel of the layer before",
        limits="keeps three arrays of the kernel's size for each earlier batch; statistics are not "
        "shared over mapped axes",
    ),
)

SPECS: dict[str, Spec] = {
    "cumulative_layer_norm": Spec(
        "CumulativeLayerNorm",
        cumulative_layer_norm,
        axes="axis",
        options=("epsilon", "variance"),
    ),
    "cumulative_group_norm": Spec(
        "CumulativeGroupNorm",
        cumulative_group_norm,
        axes="axis",
        options=("num_groups", "epsilon", "variance"),
    ),
    "power_norm": Spec(
        "PowerNorm",
        power_norm,
        axes="axis",
        options=("decay", "backward_decay", "epsilon"),
        sample=("mask", "axis_name", "axis_index_groups"),
        state=lambda layer, features: PowerState.start(features, stats_dtype(layer)),
    ),
    "online_norm": Spec(
        "OnlineNorm",
        online_norm,
        axes="axis",
        options=("decay", "backward_decay", "layer_scaling", "epsilon"),
        sample=("mask",),
        state=lambda layer, features: OnlineState.start(features, stats_dtype(layer)),
    ),
    "moving_average_batch_norm": Spec(
        "MovingAverageBatchNorm",
        moving_average_batch_norm,
        axes="axis",
        options=("decay", "r_max", "warmup_steps", "correction_steps", "epsilon"),
        sample=("mask", "axis_name", "axis_index_groups"),
        state=_moving_average_state,
    ),
    "cross_iteration_batch_norm": Spec(
        "CrossIterationBatchNorm",
        cross_iteration_batch_norm,
        axes="axis",
        options=("decay", "burn_in_steps", "epsilon"),
        sample=("mask",),
        state=_cross_iteration_state,
    ),
}
