"""PyTorch as a rival: eager and compiled, in the faster of its two memory layouts."""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from ._cases import EPSILON, NUM_GROUPS, Case, Pass


def torch_rivals(
    case: Case, x: np.ndarray, cotangent: np.ndarray, dtype: str, direction: Pass, compiled: bool
) -> dict[str, Callable[[], Any]]:
    """Return calls without arguments by name, each in both memory layouts; none without PyTorch.

    Args:
        case: what is normalized.
        x: [*case.shape], float32.
        cotangent: of the shape of `x`, float32.
        dtype: "float32" or "bfloat16".
        direction: the forward pass, or forward and backward.
        compiled: whether `torch.compile` is measured as well.
    """
    if case.member == "ghost" or importlib.util.find_spec("torch") is None:
        return {}
    calls = {}
    layouts = ("channels first", "channels last") if len(case.shape) == 4 else ("rows",)
    for layout in layouts:
        for mode in ("eager", "compile") if compiled else ("eager",):
            name = f"torch {mode} ({layout})"
            calls[name] = _call(case, x, cotangent, dtype, direction, layout, mode)
    return calls


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
    # Group and layer kernels ask for parameters of the input's dtype; batch norm takes float32.
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
