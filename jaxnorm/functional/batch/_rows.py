"""Rows of the catalogue for norms with statistics over the batch, and how modules call them."""

from typing import Any

import jax.numpy as jnp

from jaxnorm.functional._claims import CENTRED
from jaxnorm.functional._dtypes import stats_dtype
from jaxnorm.functional._member import Member, Spec
from jaxnorm.functional._parameters import all_but_last
from jaxnorm.functional.batch._batch import batch_norm
from jaxnorm.functional.batch._batch_group import batch_group_norm
from jaxnorm.functional.batch._domain import domain_batch_norm
from jaxnorm.functional.batch._ema import ema_batch_norm
from jaxnorm.functional.batch._ghost import ghost_batch_norm
from jaxnorm.functional.batch._ghost_shape import ghost_stats_shape
from jaxnorm.functional.batch._l1 import L1State, l1_batch_norm
from jaxnorm.functional.batch._mean_only import mean_only_batch_norm
from jaxnorm.functional.batch._recurrent import recurrent_batch_norm
from jaxnorm.functional.batch._renorm import batch_renorm
from jaxnorm.functional.batch._split import split_batch_norm
from jaxnorm.functional.batch._virtual import virtual_batch_norm
from jaxnorm.typing import Shape

# What holds for norms over the batch whose output also depends on the running statistics.
POOLED = frozenset({"mask", "weights", "shards"})

MEMBERS: tuple[Member, ...] = (
    Member(
        name="batch_norm",
        function=batch_norm,
        stats_shape=all_but_last,
        claims=CENTRED | {"streaming"},
        paper="Ioffe, Szegedy: Batch Normalization, arXiv:1502.03167, 2015",
        center=True,
        stateful=True,
        elsewhere="Flax, Haiku, Equinox, Keras, PyTorch",
    ),
    Member(
        name="ghost_batch_norm",
        function=ghost_batch_norm,
        stats_shape=lambda shape: ghost_stats_shape(shape, 2),
        claims=CENTRED | {"streaming"},
        paper="Hoffer, Hubara, Soudry: Train longer, generalize better, arXiv:1705.08741, 2017",
        center=True,
        stateful=True,
        options={"ghost_batch_size": 2},
        elsewhere="init2winit",
    ),
    Member(
        name="batch_renorm",
        function=batch_renorm,
        stats_shape=all_but_last,
        claims=POOLED | {"offset", "range"},
        paper="Ioffe: Batch Renormalization, arXiv:1702.03275, 2017",
        center=True,
        stateful=True,
        elsewhere="Keras, sbx",
        limits="real inputs: the bounds compare the corrections",
    ),
    Member(
        name="ema_batch_norm",
        function=ema_batch_norm,
        stats_shape=all_but_last,
        claims=POOLED,
        paper="Kidger, Garcia: Equinox: neural networks in JAX via callable PyTrees, "
        "arXiv:2111.00254, 2021",
        center=True,
        stateful=True,
        elsewhere="Equinox",
        limits="the running mean that normalizes is one float32, so offsets cost digits",
    ),
    Member(
        name="mean_only_batch_norm",
        function=mean_only_batch_norm,
        stats_shape=all_but_last,
        claims=POOLED | {"offset", "range", "shift"},
        paper="Salimans, Kingma: Weight Normalization, arXiv:1602.07868, 2016",
        center=True,
        stateful=True,
        elsewhere="",
        limits="no scale: weight normalization sets it",
    ),
    Member(
        name="virtual_batch_norm",
        function=virtual_batch_norm,
        stats_shape=lambda shape: (shape[0], *(1,) * (len(shape) - 2), shape[-1]),
        claims=POOLED | {"offset"},
        paper="Salimans et al.: Improved Techniques for Training GANs, arXiv:1606.03498, 2016",
        center=True,
        cost="one pass over x and over the reference batch, which every layer carries along",
        elsewhere="TorchGAN, TF-GAN",
        limits="its variances must be representable in float32, unlike those of batch_norm",
    ),
    Member(
        name="split_batch_norm",
        function=split_batch_norm,
        stats_shape=lambda shape: (2, *all_but_last(shape)[1:]),
        claims=CENTRED,
        paper="Xie et al.: Adversarial Examples Improve Image Recognition, arXiv:1911.09665, 2019",
        center=True,
        stateful=True,
        elsewhere="timm",
        limits="splits of one size, cut along the first axis",
    ),
    Member(
        name="domain_batch_norm",
        function=domain_batch_norm,
        stats_shape=None,
        claims=POOLED | {"offset", "shift"},
        paper="Chang, You, Seo, Kwak, Han: Domain-Specific Batch Normalization for Unsupervised "
        "Domain Adaptation, arXiv:1906.03950, 2019",
        center=True,
        stateful=True,
        options={"num_domains": 2},
        cost="two passes for the statistics of each domain",
        elsewhere="detectron2 as CycleBatchNormList, with a shared affine",
        limits="a domain of one value per feature in the batch has variance zero",
    ),
    Member(
        name="recurrent_batch_norm",
        function=recurrent_batch_norm,
        stats_shape=all_but_last,
        claims=CENTRED,
        paper="Cooijmans, Ballas, Laurent, Gulcehre, Courville: Recurrent Batch Normalization, "
        "arXiv:1603.09025, 2016",
        center=True,
        stateful=True,
        options={"max_steps": 3},
        limits="one time step in a call; the running statistics of all steps are updated as one",
    ),
    Member(
        name="l1_batch_norm",
        function=l1_batch_norm,
        stats_shape=all_but_last,
        claims=CENTRED,
        paper="Wu, Li, Deng, Liu, Xie, Shi: L1-Norm Batch Normalization for Efficient Training of "
        "Deep Neural Networks, arXiv:1802.09769, 2018",
        center=True,
        stateful=True,
        cost="two passes, the second for the deviations from the mean of the first",
        limits="real inputs, and a moving average only: absolute deviations cannot be pooled",
    ),
    Member(
        name="batch_group_norm",
        function=batch_group_norm,
        stats_shape=None,
        claims=CENTRED,
        paper="Zhou, Sun, Ye, Lan, Luo, Lai, Esperanca, Yang, Li: Batch Group Normalization, "
        "arXiv:2012.02782, 2020",
        center=True,
        stateful=True,
        options={"num_groups": 2},
        cost="one pass for the statistics",
        limits="with groups of positions every input must have the size that it was trained on",
    ),
)


def _of_splits(module: Any, features: Shape) -> Shape:
    return features if module.shared_affine else (module.num_splits, *features)


def _of_domains(module: Any, features: Shape) -> Shape:
    return features if module.shared_affine else (module.num_domains, *features)


def _l1_start(module: Any, features: Shape) -> L1State:
    kept = stats_dtype(module)
    return L1State(jnp.zeros(features, kept), jnp.ones(features, kept))


RUNNING = ("epsilon", "variance")

SPECS: dict[str, Spec] = {
    "batch_norm": Spec(
        "BatchNorm",
        batch_norm,
        axes="axis",
        options=("epsilon", "activation"),
        decay="momentum",
    ),
    "ghost_batch_norm": Spec(
        "GhostBatchNorm",
        ghost_batch_norm,
        axes="axis",
        options=("ghost_batch_size", "epsilon", "variance"),
        decay="decay",
    ),
    "batch_renorm": Spec("BatchRenorm", batch_renorm, axes="axis", options=RUNNING, decay="decay"),
    "ema_batch_norm": Spec(
        "EMABatchNorm", ema_batch_norm, axes="axis", options=RUNNING, decay="decay"
    ),
    "mean_only_batch_norm": Spec(
        "MeanOnlyBatchNorm",
        mean_only_batch_norm,
        parameters=("bias",),
        axes="axis",
        options=("variance",),
        decay="decay",
    ),
    "virtual_batch_norm": Spec(
        "VirtualBatchNorm",
        virtual_batch_norm,
        axes="axis",
        options=("include_example", *RUNNING),
    ),
    "split_batch_norm": Spec(
        "SplitBatchNorm",
        split_batch_norm,
        axes="axis",
        options=("num_splits", "shared_affine", *RUNNING),
        decay="decay",
        shapes={"scale": _of_splits, "bias": _of_splits},
        running=lambda module, features: (module.num_splits, *features),
    ),
    "domain_batch_norm": Spec(
        "DomainBatchNorm",
        domain_batch_norm,
        axes="axis",
        options=("num_domains", "shared_affine", *RUNNING),
        decay="decay",
        shapes={"scale": _of_domains, "bias": _of_domains},
        running=lambda module, features: (module.num_domains, *features),
    ),
    "recurrent_batch_norm": Spec(
        "RecurrentBatchNorm",
        recurrent_batch_norm,
        axes="axis",
        options=("max_steps", *RUNNING),
        decay="decay",
        running=lambda module, features: (module.max_steps, *features),
    ),
    "l1_batch_norm": Spec(
        "L1BatchNorm",
        l1_batch_norm,
        axes="axis",
        options=("decay", *RUNNING),
        state=_l1_start,
    ),
    "batch_group_norm": Spec(
        "BatchGroupNorm",
        batch_group_norm,
        axes="axis",
        options=("num_groups", *RUNNING),
        decay="decay",
        running=lambda module, features: (module.num_groups,),
    ),
}
