"""What ptxas makes of the Pallas kernels for an H100: threads, registers, and what is spilled."""

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import SingleDeviceSharding

from jaxnorm import standardize

from .._run import Run
from ._ahead import compiler, devices, shaped
from ._cases import EPSILON, NUM_GROUPS, Case
from ._measure import as_program

# The sizes of docs/kernels.md: rows in one block and in steps; columns in parts and on the chip.
KERNELS = (
    Case("layer", (8192, 4096), "7B transformer"),
    Case("layer", (8192, 8192), "70B transformer"),
    Case("layer", (2048, 16384), "longest row in one block"),
    Case("rms", (8192, 4096), "7B transformer"),
    Case("batch", (32, 56, 56, 256), "ResNet-50"),
    Case("group", (32, 56, 56, 256), "ResNet-50"),
    Case("group", (32, 28, 28, 256), "ResNet-50"),
    Case("group", (8, 8, 8, 512), "diffusion U-Net"),
    Case("instance", (32, 28, 28, 256), "ResNet-50"),
)


class Kernel(NamedTuple):
    """A kernel of a compiled program."""

    kernel: str
    threads: int  # of one program
    registers: int  # of a thread, which has 255 at most
    spilled: int  # bytes that a thread writes to memory for want of registers


def count_registers(dtypes: Sequence[str], run: Run) -> dict[str, Any]:
    """Count what each kernel uses. The table `registers` has a row per case, dtype and kernel."""
    jobs = [(case, dtype) for case in KERNELS for dtype in dtypes]
    rows: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory() as dump,
        compiler("h100", Path(dump)) as call,
        run.progress("registers", len(jobs), "programs") as progress,
    ):
        for done, (case, dtype) in enumerate(jobs, 1):
            about = {"case": case.label, "dtype": dtype}
            rows += [about | kernel._asdict() for kernel in call(used, dump, case, dtype)]
            progress(done, case.label)
    run.replace("registers", rows)
    (run.folder / "registers.md").write_text(registers_table(rows))
    return {
        "kernels": len(rows),
        "most_registers": max(row["registers"] for row in rows),
        "bytes_spilled": sum(row["spilled"] for row in rows),
    }


def registers_summary(results: dict[str, Any]) -> list[str]:
    """Say the most registers of a thread, and how many bytes are spilled."""
    return [
        f"{results['kernels']} kernels for H100, of {results['most_registers']} registers a thread "
        f"at most; {results['bytes_spilled']} bytes are spilled."
    ]


def used(folder: str, case: Case, dtype: str) -> list[Kernel]:
    """Return the kernels of a forward and a backward pass, and XLA's beside them.

    Call it in a process of `compiler("h100", dump=folder)`.
    """
    before = {*Path(folder).glob("*.ptx")}
    where = SingleDeviceSharding(devices("h100")[0])
    x = shaped(case.shape, dtype, where)
    parameters = [shaped(case.shape[-1:], "float32", where)] * 2

    def function(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
        return standardize(
            x,
            _stats_shape(case),
            scale=scale,
            bias=None if case.member == "rms" else bias,
            epsilon=EPSILON,
            center=case.member != "rms",
            implementation="pallas",
        )[0]

    as_program(function, "both").lower(x, *parameters, x).compile()
    modules = sorted({*Path(folder).glob("*.ptx")} - before)
    return [
        kernel
        for path in modules
        if (text := path.read_text())  # a module of constants has none
        for kernel in kernels(text, _ptxas(path))
    ]


def _stats_shape(case: Case) -> tuple[int, ...]:
    n, *rest, channels = case.shape
    ones = (1,) * len(rest)
    kept = {"batch": (1, channels), "instance": (n, channels), "group": (n, NUM_GROUPS)}
    first, last = kept.get(case.member, (n, 1))
    return (first, *ones, last)


def _ptxas(path: Path) -> str:
    command = ["ptxas", "-v", "-arch=sm_90a", str(path), "-o", "/dev/null"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def kernels(ptx: str, said: str) -> list[Kernel]:
    """Return the kernels of a module.

    Args:
        ptx: the module.
        said: what `ptxas -v` printed about it.
    """
    threads = {
        name: int(count)
        for name, count in re.findall(
            r"\.entry (\S+?)\([^{]*?\.(?:reqntid|maxntid) (\d+)", ptx, re.DOTALL
        )
    }
    found = re.findall(
        r"Compiling entry function '(.*?)'.*?(\d+) bytes spill stores.*?Used (\d+) registers",
        said,
        re.DOTALL,
    )
    return [Kernel(name, threads[name], int(n), int(spilled)) for name, spilled, n in found]


def registers_table(rows: list[dict[str, Any]]) -> str:
    """Return the documentation's table: of each case all kernels."""
    lines = ["| case | dtype | kernels: threads, registers of each | bytes spilled |"]
    lines.append("|---|---|---|---|")
    for case, dtype in dict.fromkeys((row["case"], row["dtype"]) for row in rows):
        mine = [row for row in rows if (row["case"], row["dtype"]) == (case, dtype)]
        each = "; ".join(f"`{row['kernel']}` {row['threads']}, {row['registers']}" for row in mine)
        lines.append(f"| {case} | {dtype} | {each} | {sum(row['spilled'] for row in mine)} |")
    return "\n".join(lines) + "\n"
