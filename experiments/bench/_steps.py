"""Whole train steps of the same model, with Flax's norms and with ours."""

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import jaxnorm.linen
from jaxnorm.models import LSTM, NormFactory, resnet_18

from ._measure import interleaved

CLASSES = 10
IMPLEMENTATION_VARIABLE = "JAXNORM_IMPLEMENTATION"


class Model(NamedTuple):
    """A model and the size of its input."""

    name: str
    norm: str  # the module's name, in flax.linen and in jaxnorm.linen
    build: Callable[[NormFactory], nn.Module]
    shape: tuple[int, ...]  # of the input


class ViT(nn.Module):
    """A small vision transformer with a norm before attention and a norm before the MLP.

    Dosovitskiy et al., An Image is Worth 16x16 Words (arXiv:2010.11929, 2020), section 3.1. A
    mean over the patches takes the place of the class token.

    Attributes:
        norm: function that makes a norm.
        depth: number of blocks.
        width: number of channels.
        heads: heads of the attention.
        patch: pixels along a side of a patch.
    """

    norm: NormFactory
    depth: int = 4
    width: int = 192
    heads: int = 3
    patch: int = 4

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the class scores [N, K] of images [N, H, W, C]."""
        side = (self.patch, self.patch)
        x = nn.Conv(self.width, side, side, padding="VALID")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        position = self.param("position", nn.initializers.normal(0.02), x.shape[1:])
        x = x + position
        for _ in range(self.depth):
            x = x + nn.MultiHeadDotProductAttention(self.heads)(self.norm()(x))
            hidden = nn.gelu(nn.Dense(4 * self.width)(self.norm()(x)))
            x = x + nn.Dense(self.width)(hidden)
        return nn.Dense(CLASSES)(jnp.mean(self.norm()(x), axis=1))


class Reader(nn.Module):
    """A classifier of sequences by the last state of a long short-term memory.

    Attributes:
        norm: function that makes a norm of the cell.
        features: the width of the cell.
    """

    norm: NormFactory
    features: int = 128

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return the class scores [N, K] of sequences [N, T, C]."""
        states = LSTM(self.features, norm=self.norm)(x, train=train)
        return nn.Dense(CLASSES)(states[:, -1])


MODELS = (
    Model("ResNet-18", "BatchNorm", lambda norm: resnet_18(norm=norm), (32, 32, 32, 3)),
    Model("ViT, 4 blocks of 192", "LayerNorm", lambda norm: ViT(norm=norm), (32, 32, 32, 3)),
    Model("LSTM, 28 steps of 128", "LayerNorm", lambda norm: Reader(norm=norm), (64, 28, 28)),
)
LIBRARIES = {
    "flax.linen": (nn, None),
    "jaxnorm (xla)": (jaxnorm.linen, "xla"),
    "jaxnorm": (jaxnorm.linen, None),
}


def measure_steps(model: Model, rounds: int) -> list[dict[str, Any]]:
    """Return a row per library: time of a train step, memory, and time to compile.

    Args:
        model: the model that is trained.
        rounds: how often each step is timed. The median counts.
    """
    facts, calls = {}, {}
    for library, (modules, implementation) in LIBRARIES.items():
        norm = getattr(modules, model.norm)
        with implementation_forced(implementation):
            variables, loss = _loss(model.build(norm), model.shape)
            compiled, seconds = _compiled_step(loss, variables)
            memory = compiled.memory_analysis()
            facts[library] = {
                "peak_bytes": memory.temp_size_in_bytes + memory.output_size_in_bytes,
                "residual_bytes": _residual_bytes(loss, variables),
                "compile_seconds": seconds,
            }
        calls[library] = functools.partial(compiled, *variables)
    times = interleaved(calls, rounds)
    return [
        {
            "model": model.name,
            "library": library,
            "milliseconds": 1e3 * times[library],
            **facts[library],
        }
        for library in calls
    ]


@contextmanager
def implementation_forced(implementation: str | None) -> Iterator[None]:
    """Force an implementation, by the environment variable, for programs traced inside."""
    before = os.environ.pop(IMPLEMENTATION_VARIABLE, None)
    if implementation is not None:
        os.environ[IMPLEMENTATION_VARIABLE] = implementation
    try:
        yield
    finally:
        os.environ.pop(IMPLEMENTATION_VARIABLE, None)
        if before is not None:
            os.environ[IMPLEMENTATION_VARIABLE] = before


def _loss(model: nn.Module, shape: tuple[int, ...]) -> tuple[tuple[Any, Any], Callable]:
    """Return `(params, other variables)`, and the loss as a function of the two."""
    x = jax.random.normal(jax.random.key(0), shape)
    labels = jnp.arange(shape[0]) % CLASSES
    variables: Any = jax.jit(model.init)(jax.random.key(1), x)
    params = variables.pop("params")

    def loss(params: Any, rest: Any) -> tuple[jax.Array, Any]:
        scores, rest = model.apply({"params": params, **rest}, x, train=True, mutable=list(rest))
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, labels)
        return losses.mean(), rest

    return (params, variables), loss


def _compiled_step(loss: Callable, variables: tuple[Any, Any]) -> tuple[Any, float]:
    def step(params: Any, rest: Any) -> Any:
        (value, rest), gradient = jax.value_and_grad(loss, has_aux=True)(params, rest)
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, gradient), rest, value

    lowered = jax.jit(step).lower(*variables)
    start = time.perf_counter()
    return lowered.compile(), time.perf_counter() - start


def _residual_bytes(loss: Callable, variables: tuple[Any, Any]) -> int:
    """Return the bytes that reverse mode keeps between its passes, before XLA changes that."""
    pull = jax.eval_shape(lambda params, rest: jax.vjp(loss, params, rest)[1], *variables)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))
