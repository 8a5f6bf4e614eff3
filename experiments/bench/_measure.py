"""The measurement: interleaved calls in one process, on the same inputs, and their medians."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._cases import Case, Pass
from ._rivals import Function


def interleaved(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each call. The calls take turns, so noise meets all alike.

    Each round begins with another call, so that no call always follows the same one.

    Before each turn the call is made once untimed. So the timed call finds the caches and the
    memory allocator as the same call leaves them, and not as the call before left them.

    Args:
        calls: the calls that are timed, already compiled.
        rounds: how often each call is timed. A short call is repeated within a round.
    """
    repeats = {name: _repeats(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for i in range(rounds):
        first = i % len(names)
        for name in (*names[first:], *names[:first]):
            call = calls[name]
            jax.block_until_ready(call())
            times[name].append(_seconds(call, repeats[name]))
    return {name: statistics.median(each) for name, each in times.items()}


def copy_bandwidth(size: int, rounds: int) -> float:
    """Return bytes per second of a copy. Bytes read and bytes written both count.

    Args:
        size: bytes of the array that is copied.
        rounds: number of copies. The median counts.
    """
    x = jnp.zeros(size // 4, jnp.float32)
    negate = jax.jit(jnp.negative)
    jax.block_until_ready(negate(x))
    seconds = interleaved({"copy": lambda: negate(x)}, rounds)["copy"]
    return 2 * size / seconds


def as_program(function: Function, direction: Pass) -> Any:
    """Return the jitted function that the benchmark measures.

    Args:
        function: of `(x, scale, bias)`, returning the output first.
        direction: the forward pass, or forward and backward, which takes a cotangent as well.
    """

    def output(*args: jax.Array) -> Any:
        y = function(*args)
        return y if isinstance(y, tuple) else (y, None)

    def both(x: jax.Array, scale: jax.Array, bias: jax.Array, cotangent: jax.Array) -> Any:
        y, pull, state = jax.vjp(output, x, scale, bias, has_aux=True)
        return y, pull(cotangent), state

    return jax.jit(output if direction == "forward" else both)


def compiled(
    function: Function, direction: Pass, arguments: tuple[jax.Array, ...]
) -> tuple[Any, Any, float]:
    """Return the jitted function, its compiled program, and the seconds of the compilation.

    The benchmark times the jitted function, since users make this call.

    Args:
        function: of `(x, scale, bias)`, returning the output first.
        direction: the forward pass, or forward and backward.
        arguments: arrays on the device. For forward and backward the last one is a cotangent.
    """
    jitted = as_program(function, direction)
    lowered = jitted.lower(*arguments)
    start = time.perf_counter()
    executable = lowered.compile()
    return jitted, executable, time.perf_counter() - start


def residual_bytes(function: Function, arguments: tuple[jax.Array, ...]) -> int:
    """Return the bytes that reverse mode keeps between its passes, with the parameters."""

    def output(x: jax.Array, scale: jax.Array, bias: jax.Array) -> Any:
        y = function(x, scale, bias)
        return y[0] if isinstance(y, tuple) else y

    pull = jax.eval_shape(lambda *args: jax.vjp(output, *args)[1], *arguments)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(pull))


def inputs(case: Case, dtype: str, mean: float) -> tuple[np.ndarray, tuple[jax.Array, ...]]:
    """Return `x` rounded to `dtype`, in float32, and `(x, scale, bias, cotangent)` for JAX."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal(case.shape, np.float32) + mean, dtype)
    cotangent = jnp.asarray(rng.standard_normal(case.shape, np.float32), dtype)
    features = case.shape[-1]
    return np.asarray(x, np.float32), (x, jnp.ones(features), jnp.zeros(features), cotangent)


def _repeats(call: Callable[[], Any]) -> int:
    jax.block_until_ready(call())
    return max(1, min(200, int(0.01 / max(_seconds(call, 1), 1e-7))))


def _seconds(call: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        out = call()
    jax.block_until_ready(out)
    return (time.perf_counter() - start) / repeats
