"""Compile for accelerators on a machine that has none, and count what the compiler made.

The compilers of XLA for CUDA and TPU are ordinary packages and need no hardware. Each reads its
settings when its process starts, so each target has a process of its own.
"""

import collections
import contextlib
import importlib.util
import multiprocessing
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from ._exchanges import COLLECTIVES


class Target(NamedTuple):
    """A chip to compile for."""

    platform: str  # as JAX calls it
    topology: str  # the name of a slice of such chips, {} in place of their number
    variable: str  # names the folder that the compiler was installed into, if not on the path
    module: str  # what the compiler is imported as
    install: str  # the packages that hold it


_CUDA = ("JAXNORM_AOT_CUDA", "jax_cuda12_plugin", "jax-cuda12-plugin nvidia-cuda-nvcc-cu12")
_TPU = ("JAXNORM_AOT_TPU", "libtpu", "libtpu")
TARGETS = {
    "h100": Target("cuda", "1x1x{}", *_CUDA),
    "v5e": Target("tpu", "v5e:2x2", *_TPU),
    "v5p": Target("tpu", "v5p:2x2x1", *_TPU),
    "v6e": Target("tpu", "v6e:2x2", *_TPU),
}
# The numbers of openxla/xla, xla/backends/gpu/target_config/specs/h100_sxm.txtpb.
_H100 = Path(__file__).with_name("h100.txtpb")


def folder(target: str) -> Path | None:
    """Return the folder from which the compiler of a target is imported, or None."""
    _, _, variable, module, _ = TARGETS[target]
    if variable in os.environ:
        place = Path(os.environ[variable])
        return place if (place / module).is_dir() else None
    found = importlib.util.find_spec(module)
    return Path(found.origin).parents[1] if found and found.origin else None


def why_not(target: str) -> str | None:
    """Return why nothing can be compiled for a target here, with what to do, or None."""
    _, _, variable, module, install = TARGETS[target]
    if folder(target) is not None:
        return None
    return (
        f"the compiler for {target} is not installed ({module}): pip install 'jaxnorm[aot]', or "
        f"pip install --target FOLDER {install}, of the version of jax, and {variable}=FOLDER"
    )


@contextlib.contextmanager
def compiler(target: str, dump: Path | None = None) -> Iterator[Callable[..., Any]]:
    """Yield `call(function, *arguments)`, which runs a function in a process with the compiler.

    The function and its arguments are pickled, so it is one of a module.

    Args:
        target: a key of `TARGETS`.
        dump: folder into which the compiler writes what it makes; None for nowhere.
    """
    place = folder(target)
    if place is None:
        raise RuntimeError(why_not(target))
    kept = {k: v for k, v in os.environ.items() if k not in ("JAX_PLATFORMS", "XLA_FLAGS")}
    with mock.patch.dict(os.environ, kept | _settings(target, place, dump), clear=True):
        pool = ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"), _enter, (str(place),), max_tasks_per_child=None
        )
        pool.submit(os.getpid).result()
    with pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def _settings(target: str, place: Path, dump: Path | None) -> dict[str, str]:
    if TARGETS[target].platform == "tpu":
        return {
            "JAX_PLATFORMS": "cpu",
            "TPU_SKIP_MDS_QUERY": "1",  # there is no server that knows a TPU here
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
            "TPU_LIBRARY_PATH": str(place / "libtpu" / "libtpu.so"),
            "TPU_STDERR_LOG_LEVEL": "3",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
    tools = place / "nvidia" / "cuda_nvcc"
    return {
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "XLA_FLAGS": " ".join(
            [f"--xla_gpu_cuda_data_dir={tools}", *([f"--xla_dump_to={dump}"] if dump else [])]
        ),
        "PATH": os.pathsep.join([os.environ.get("PATH", ""), str(tools / "bin")]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def _enter(place: str) -> None:
    sys.path.append(place)


def devices(target: str, count: int = 1) -> Sequence[Any]:
    """Return devices to compile for, within a process of `compiler(target)`.

    Args:
        target: a key of `TARGETS`.
        count: how many; at most four of a TPU.
    """
    platform, topology, *_ = TARGETS[target]
    options: dict[str, Any] = {"topology_name": topology}
    if platform == "cuda":
        text = _H100.read_text()
        options = {
            "topology_name": target,
            "topology": topology.format(count),
            "target_config": text,
        }
    return topologies.get_topology_desc(platform=platform, **options).devices[:count]


class Counts(NamedTuple):
    """What a compiled program is made of."""

    programs: int  # what the chip starts one after the other
    temporaries: int  # bytes beside arguments and results
    accessed: float  # bytes that all programs read and write; NaN where the compiler does not say
    collectives: int
    conditionals: int  # branches on data


# Names for what is there already, and transfers that run beside the programs.
_FREE = {"parameter", "tuple", "get-tuple-element", "bitcast", "constant", "iota", "after-all"}


def count(program: jax.stages.Compiled) -> Counts:
    """Return what a compiled program is made of."""
    text = program.as_text() or ""
    memory: Any = program.memory_analysis()
    cost: Any = program.cost_analysis() or {}
    return Counts(
        programs=sum(operations(text).values()),
        temporaries=memory.temp_size_in_bytes,
        accessed=cost.get("bytes accessed", float("nan")),
        collectives=len(re.findall(rf" (?:{COLLECTIVES})(?:-start)?\(", text)),
        conditionals=text.count(" conditional("),
    )


def operations(text: str) -> collections.Counter[str]:
    """Return how often each operation that takes time stands in the entry computation.

    Args:
        text: the compiled program, `compiled.as_text()`.
    """
    entry = text[text.index("\nENTRY") :].partition("\n}")[0]
    found = collections.Counter()
    for line in entry.splitlines()[1:]:
        match = re.match(r"\s+(?:ROOT )?%?[\w.\-]+ = (?:\(.*?\)|\S+) ([\w\-]+)\(", line)
        name = match[1] if match else "parameter"
        moved = name.endswith(("-start", "-done")) and name.startswith(("copy", "slice"))
        if name not in _FREE and not moved and "ConcatBitcast" not in line:
            found[name] += 1
    return found


def shaped(shape: Sequence[int], dtype: str, sharding: Any) -> jax.ShapeDtypeStruct:
    """Return an array that exists for the compiler only."""
    return jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(dtype), sharding=sharding)
