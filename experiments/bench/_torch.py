"""PyTorch as a rival: eager and compiled, in the faster of its two memory layouts."""

import importlib.util
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ._cases import EPSILON, NUM_GROUPS, Case, Pass
from ._measure import interleaved


class TorchQuestion(NamedTuple):
    """A request to the PyTorch process: what to time."""

    case: Case
    dtype: str  # "float32" or "bfloat16"
    direction: Pass
    compiled: bool  # whether to measure torch.compile as well
    rounds: int


@contextmanager
def torch_process(wanted: bool) -> Iterator[Executor | None]:
    """Yield a process for PyTorch, or None without PyTorch, and end the process afterwards."""
    if not wanted or importlib.util.find_spec("torch") is None:
        yield None
        return
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        yield executor


def measure_torch(asked: TorchQuestion, x: np.ndarray, cotangent: np.ndarray) -> dict[str, float]:
    """Return the median seconds by name, in both memory layouts, of norms that PyTorch has.

    Args:
        asked: the case to time.
        x: [*case.shape], float32.
        cotangent: of the shape of `x`, float32.
    """
    case = asked.case
    if case.member == "ghost":
        return {}
    calls = {}
    layouts = ("channels first", "channels last") if len(case.shape) == 4 else ("rows",)
    for layout in layouts:
        for mode in ("eager", "compile") if asked.compiled else ("eager",):
            name = f"torch {mode} ({layout})"
            calls[name] = _call(case, x, cotangent, asked.dtype, asked.direction, layout, mode)
    return interleaved(calls, asked.rounds)


def _call(
    case: Case,
    x: np.ndarray,
    cotangent: np.ndarray,
    dtype: str,
    direction: Pass,
    layout: str,
    mode: str,
) -> Callable[[], Any]:
    import torch

    def tensor(values: np.ndarray) -> Any:
        out = torch.from_numpy(np.array(values)).to(getattr(torch, dtype))
        if layout == "rows":
            return out
        form = torch.contiguous_format if layout == "channels first" else torch.channels_last
        return out.permute(0, 3, 1, 2).contiguous(memory_format=form)

    given = tensor(x)
    pulled = tensor(cotangent)
    features = case.shape[-1]
    # Group and layer norm need parameters of the input's dtype. Batch norm takes float32.
    own = torch.float32 if case.member.startswith("batch") else given.dtype
    scale, bias = torch.ones(features, dtype=own), torch.zeros(features, dtype=own)
    function = _function(case, torch.zeros(features), torch.ones(features))
    if mode == "compile":
        function = torch.compile(function)
    if direction == "forward":

        def forward() -> Any:
            with torch.no_grad():
                return function(given, scale, bias)

        return forward
    leaves = [leaf.requires_grad_() for leaf in (given, scale, bias)]
    used = leaves[:2] if case.member == "rms" else leaves

    def both() -> Any:
        y = function(*leaves)
        return torch.autograd.grad(y, used, pulled)

    return both


def _function(case: Case, mean: Any, var: Any) -> Callable[..., Any]:
    from torch.nn import functional

    features = (case.shape[-1],)
    table: dict[str, Callable[..., Any]] = {
        "layer": lambda x, s, b: functional.layer_norm(x, features, s, b, EPSILON),
        "rms": lambda x, s, b: functional.rms_norm(x, features, s, EPSILON),
        "group": lambda x, s, b: functional.group_norm(x, NUM_GROUPS, s, b, EPSILON),
        "instance": lambda x, s, b: functional.instance_norm(x, None, None, s, b, eps=EPSILON),
        "batch": lambda x, s, b: functional.batch_norm(x, mean, var, s, b, True, 0.01, EPSILON),
        "batch_eval": lambda x, s, b: functional.batch_norm(
            x, mean, var, s, b, False, 0.01, EPSILON
        ),
    }
    return table[case.member]
