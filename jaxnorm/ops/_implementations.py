"""Which code computes `standardize`: one ordered table, whose first entry that serves wins."""

import functools
import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax

from jaxnorm import _explicit, _internals, _partitioning
from jaxnorm.ops import _fusing, _partitioned, _primitives
from jaxnorm.ops._activations import Activation
from jaxnorm.ops._blocks import blocks_of
from jaxnorm.ops._formulas import Problem, Sum
from jaxnorm.ops.kernels import _native, _xla_branchless, _xla_cpu, _xla_rows
from jaxnorm.ops.kernels.pallas import _entry as _pallas
from jaxnorm.ops.kernels.pallas._targets import Target
from jaxnorm.stats.sampling import Sampling, check_sampling
from jaxnorm.typing import Array, DTypeLike, Shape

Implementation = Literal["xla", "native", "pallas"]
"""Which code computes a normalization: "xla" is plain JAX, "native" compiled kernels on CPU,
"pallas" kernels for GPU and TPU, which an interpreter runs on CPU, for tests."""

VARIABLE = "JAXNORM_IMPLEMENTATION"
CHOOSES = "yes, each shard chooses"


class Entry(NamedTuple):
    """One way to compute `standardize` and its cotangents.

    Attributes:
        name: what `show_config` calls the entry.
        wish: the value of `implementation=` that asks for the entry.
        platform: where the entry runs; None for every platform.
        one_device: whether the entry needs all arrays on one device, in a program that is not
            exported.
        available: why the entry cannot be used on this machine, or None.
        serves: `(problem, x, parameters, cotangents)` -> why the entry does not serve, or None;
            `parameters` are scale and bias, `cotangents` the shapes in which theirs are wanted.
        standardize: what `_primitives.plain_standardize` is.
        cotangent: what `_primitives.plain_cotangent` is.
        in_blocks: whether `standardize` takes `blocks`, into how many a batch is cut whose moments
            are gathered, where XLA partitions the program by itself.
        fuses: what `serves` takes -> why the entry does not take a sum, an activation or a
            quantization into its own passes, or None; the functions of one that does not are given
            bare problems.
    """

    name: str
    wish: Implementation
    platform: str | None
    one_device: bool
    available: Callable[[], str | None]
    serves: Callable[..., str | None]
    standardize: Callable[..., list]
    cotangent: Callable[..., list]
    fuses: Callable[..., str | None] = lambda *_: "XLA takes them together as it can"
    in_blocks: bool = False


def _always(*_) -> None:
    """Returns no reason against an entry."""


def around(entry: Entry) -> Entry:
    """Returns an entry with the sum, the activation and the quantization in plain JAX around it.

    Args:
        entry: whose functions know none of these.

    Returns:
        An entry that computes them.

    Examples:
        >>> around(NATIVE).name
        'native CPU kernels'
    """

    def serves(problem: Problem, x, parameters: tuple, cotangents: tuple) -> str | None:
        inner = _fusing.bare_problem(problem, x)
        total = jax.ShapeDtypeStruct(x.shape, x.dtype if problem.sum is None else problem.sum.wide)
        return entry.serves(inner, total, parameters, cotangents)

    return entry._replace(
        serves=serves,
        standardize=functools.partial(_fusing.standardize, entry.standardize),
        cotangent=functools.partial(_fusing.cotangent, entry.cotangent),
        fuses=_always,
    )


def _pallas_on(name: str, platform: str, target: Target) -> Entry:
    """Returns the entry of the Pallas kernels on a platform."""
    return Entry(
        name,
        "pallas",
        platform,
        True,
        _pallas.why_not,
        functools.partial(_pallas.serves, target),
        functools.partial(_pallas.standardize, target),
        functools.partial(_pallas.cotangent, target),
        functools.partial(_pallas.fuses, target),
    )


PALLAS = (
    _pallas_on("Pallas kernels for GPU", "cuda", "gpu"),
    _pallas_on("Pallas kernels for TPU", "tpu", "tpu"),
    _pallas_on("Pallas kernels in the interpreter", "cpu", "gpu_interpreted"),
)
NATIVE = Entry(
    "native CPU kernels",
    "native",
    "cpu",
    True,
    _native.why_not,
    _native.serves,
    _native.standardize,
    _native.cotangent,
)
XLA_CPU = Entry(
    "plain JAX for one CPU",
    "xla",
    "cpu",
    True,
    _always,
    _xla_cpu.serves,
    _xla_cpu.standardize,
    _xla_cpu.cotangent,
)


def _without_branch(name: str, platform: str, one_device: bool, serves, form) -> Entry:
    """Returns an entry of plain JAX for a platform."""
    return Entry(
        name,
        "xla",
        platform,
        one_device,
        _always,
        serves,
        functools.partial(_xla_branchless.standardize, form=form),
        functools.partial(_xla_branchless.cotangent, form=form),
    )


XLA_CPU_SMALL = _without_branch(
    "plain JAX for small arrays on one CPU",
    "cpu",
    True,
    _xla_branchless.serves_small,
    _xla_branchless.CPU,
)
# Several devices that share a row would meet once for each of its reductions.
XLA_GPU_ROWS = Entry(
    "plain JAX for rows on one GPU",
    "xla",
    "cuda",
    True,
    _always,
    _xla_rows.serves,
    _xla_rows.standardize,
    _xla_rows.cotangent,
)
XLA_GPU = _without_branch(
    "plain JAX for GPU", "cuda", False, _xla_branchless.serves, _xla_branchless.GPU
)
XLA_TPU = _without_branch(
    "plain JAX for TPU", "tpu", False, _xla_branchless.serves, _xla_branchless.TPU
)._replace(in_blocks=True)
XLA = Entry(
    "plain JAX",
    "xla",
    None,
    False,
    _always,
    _always,
    _primitives.plain_standardize,
    _primitives.plain_cotangent,
    _always,
)

TABLE = (*PALLAS, NATIVE, XLA_CPU, XLA_CPU_SMALL, XLA_GPU_ROWS, XLA_GPU, XLA_TPU, XLA)
"""The first entry that serves wins. A new backend is an entry.

The Pallas kernels stand first, and serve those who ask for them. No hardware has measured them yet.
"""


def wished(implementation: Implementation | None) -> Implementation | None:
    """Returns what the caller or the environment asks for, or None.

    Args:
        implementation: what the caller asked for; None for the environment variable
            JAXNORM_IMPLEMENTATION.

    Returns:
        "xla", "native", "pallas", or None for the first entry of the table that serves unasked.

    Raises:
        ValueError: the name is unknown.

    Examples:
        >>> wished("xla")
        'xla'
    """
    forced = os.environ.get(VARIABLE) or None
    wanted: Any = implementation or forced
    if wanted not in (None, *get_args(Implementation)):
        raise ValueError(
            f"implementation={wanted!r} is unknown; use 'xla', 'native', 'pallas' or None"
        )
    # The variable is meant for all calls, of which some have no kernel. The kernels come first.
    return None if implementation is None and wanted == "native" else wanted


def require(
    implementation: Implementation | None,
    problem: Problem,
    x: Array,
    parameters: tuple,
    reason: str | None,
) -> None:
    """Raises where the caller asked for an implementation that does not serve.

    Args:
        implementation: what the caller asked for; what the environment asks for need not serve.
        problem: what is standardized how.
        x: [*shape].
        parameters: scale and bias, those that are there.
        reason: why no kernel takes the arguments, or None.

    Raises:
        ValueError: with the reason.

    Examples:
        >>> import jax.numpy as jnp
        >>> problem = Problem(Sampling((2, 1)), 1e-6, jnp.dtype(jnp.float32), "xla")
        >>> require("xla", problem, jnp.ones((2, 3)), (), None)
    """
    if implementation not in ("native", "pallas"):
        return
    entry = NATIVE
    if implementation == "pallas":
        here = (entry for entry in PALLAS if entry.platform == _platform())
        entry = next(here, None)
    if entry is None:
        reason = f"there are Pallas kernels for CUDA and TPU, none for {_platform()}"
    else:
        entry = _whole(entry, problem, x, parameters, ())
        reason = entry.available() or reason or entry.serves(problem, x, parameters, ())
    if reason is not None:
        raise ValueError(
            f"implementation={implementation!r} does not serve x {x.dtype} {list(x.shape)} with "
            f"stats_shape {problem.stats_shape}: {reason}; use implementation=None"
        )


def _platform() -> str:
    """Returns the name under which the default backend lowers programs."""
    backend = jax.default_backend()
    return "cuda" if backend == "gpu" else backend


def choose(platform: str, ctx, problem: Problem, x, parameters: tuple, cotangents: tuple) -> Entry:
    """Returns the first entry of the table that serves, as a program for a platform is lowered.

    Args:
        platform: what the program is for.
        ctx: the context of the lowering rule.
        problem: what is standardized how.
        x: the aval of x.
        parameters: the avals of scale and bias, those that are there.
        cotangents: the shapes of their cotangents, those that are wanted.

    Returns:
        An entry whose platform is that of the program.
    """
    alone = _internals.on_one_device(ctx)
    for entry in TABLE:
        wanted = _asked_for(entry, problem.implementation)
        wanted &= entry.platform in (None, platform)
        usable = wanted and (alone or not entry.one_device) and entry.available() is None
        if usable:
            entry = _in_blocks(entry, ctx, problem, x)
            entry = _whole(entry, problem, x, parameters, cotangents)
            if entry.serves(problem, x, parameters, cotangents) is None:
                return entry
    raise AssertionError("plain JAX serves always")


def _in_blocks(entry: Entry, ctx, problem: Problem, x) -> Entry:
    """Returns the entry, told into how many blocks a batch is cut, or none on request."""
    if not entry.in_blocks or problem.implementation == "xla":
        return entry
    blocks = blocks_of(ctx, x, problem.sampling)
    return entry._replace(standardize=functools.partial(entry.standardize, blocks=blocks))


def _whole(entry: Entry, problem: Problem, *asked) -> Entry:
    """Returns the entry itself where it takes all of a problem, else with the rest around it."""
    alone = problem == problem.bare or entry.fuses(problem, *asked) is None
    return entry if alone else around(entry)


def _asked_for(entry: Entry, implementation: str | None) -> bool:
    """Returns whether an entry may serve: kernels unless plain JAX is wanted, Pallas if it is."""
    if entry.wish == "pallas":
        return implementation == "pallas"
    return implementation != "xla" or entry.wish == "xla"


def show_config(
    x: Array | jax.ShapeDtypeStruct | None = None,
    stats_shape: Shape | None = None,
    *,
    scale: Array | jax.ShapeDtypeStruct | None = None,
    residual: Array | jax.ShapeDtypeStruct | None = None,
    activation: Activation | None = None,
    quantize: DTypeLike | None = None,
    implementation: Implementation | None = None,
) -> str:
    """Returns which implementations are in use on this machine, and why.

    Args:
        x: [*shape], or its shape and dtype: asks which implementation normalizes it on one device;
            where its type says how it lies on several, also whether each of them chooses.
        stats_shape: one entry per axis of `x`, as `standardize` takes it.
        scale: of the rank of `x`; None where there is neither scale nor bias.
        residual: like `x`, where one is added.
        activation: as `standardize` takes it.
        quantize: int8 or float8_e4m3fn, where the output is counted in steps.
        implementation: as `standardize` takes it.

    Returns:
        One line each for the platform, the implementations, the programs that XLA partitions over
        devices, and the choice. With `x` the implementation that serves it follows, and for each
        one before it why it does not; and where that does not compute
        the sum, the activation or the quantization itself, why plain JAX does.

    Raises:
        ValueError: `x` comes without `stats_shape`, or the two do not fit.

    Examples:
        >>> print(show_config().splitlines()[0].split(":")[0])
        platform
        >>> x = jax.ShapeDtypeStruct((64, 64), "float64")
        >>> print(show_config(x, (64, 1)).splitlines()[-1])
        plain JAX: serves
    """
    lines = [f"platform: {jax.default_backend()}"]
    for entry in TABLE:
        why_not = entry.available()
        detail = f", compiled for {_native.instruction_set()}" if entry is NATIVE else ""
        detail += ", where asked for" if entry.wish == "pallas" else ""
        lines.append(f"{entry.name}: {f'no: {why_not}' if why_not else f'yes{detail}'}")
    why_not = _partitioning.why_not(jax.default_backend())
    how = f"with explicit axes, else left to XLA: {why_not}" if why_not else CHOOSES
    lines.append(f"partitioned programs: {how}")
    forced = os.environ.get(VARIABLE)
    order = f"{VARIABLE}={forced}" if forced else "the first of these that serves"
    lines.append(f"implementation: {order}")
    if x is not None:
        added = None
        if residual is not None:
            added = Sum(x.dtype, residual.dtype, jax.numpy.promote_types(x.dtype, residual.dtype))
        dtype = jax.numpy.dtype(quantize or x.dtype)
        around = {"activation": activation, "sum": added, "quantized": quantize is not None}
        problem = Problem(Sampling(()), 1e-6, dtype, wished(implementation), **around)
        lines += _serving(x, stats_shape, scale, problem)
    return "\n".join(lines)


def _serving(x, stats_shape: Shape | None, scale, problem: Problem):
    """Yields why each entry does not serve `x`, and last the entry that does."""
    if stats_shape is None:
        raise ValueError(
            f"show_config needs the shape of the statistics of x {list(x.shape)}; pass stats_shape="
        )
    sampling = check_sampling(x.shape, Sampling(tuple(stats_shape)))
    problem, implementation = problem._replace(sampling=sampling), problem.implementation
    parameters = () if scale is None else (scale,)
    affine = tuple(v.shape for v in parameters)
    yield f"x {x.dtype} {list(x.shape)} with stats_shape {problem.stats_shape}:"
    if _explicit.is_explicit(x):
        reason = _primitives.why_not(problem, (x,), parameters)
        yield f"explicit axes: {CHOOSES if reason is None else f'no, left to XLA: {reason}'}"
        if reason is not None:
            yield f"{XLA.name}: serves"
            return
    for entry in TABLE:
        if entry.platform not in (None, _platform()):
            continue
        asked = (problem, x, parameters, affine)
        reason = entry.available() or _whole(entry, *asked).serves(*asked)
        if not _asked_for(entry, implementation):
            reason = f"not asked for; use implementation={entry.wish!r}"
            if implementation is not None:
                reason = f"implementation={implementation!r} was asked for"
        if reason is None:
            yield f"{entry.name}: serves"
            apart = None if problem == problem.bare else entry.fuses(*asked)
            if apart is not None:
                yield f"{_named(problem)}: plain JAX around it: {apart}"
            return
        yield f"{entry.name}: no: {reason}"


def _named(problem: Problem) -> str:
    """Returns what stands before and behind a normalization, for people to read."""
    there = {
        "sum": problem.sum is not None,
        "activation": problem.activation is not None,
        "quantization": problem.quantized,
    }
    return ", ".join(name for name, asked in there.items() if asked)


for _name in {entry.platform for entry in TABLE if entry.platform is not None}:
    _primitives.lower_for(_name, functools.partial(choose, _name), _partitioned)
    _partitioned.lower_measure(_name)
