"""The laws of the code's structure, each with sources that break it and have to be noticed.

A rule takes a file's path from the root and its text, and returns what is wrong with it.
"""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

import jaxnorm

ROOT = Path(__file__).parents[1]
FOLDERS = ("jaxnorm", "experiments", "tests", "docs")
MAX_LINES = 500

# From the ground up; a file imports from lower floors and from its own room.
FLOORS = (
    ("typing",),
    ("numerics", "_partitioning"),
    ("_explicit",),
    ("_internals",),
    ("stats",),
    ("ops",),
    ("functional", "preprocessing"),
    ("linen", "nnx"),
    ("_views",),
    ("surgery", "models"),
    ("interop", "training", "diagnostics"),
)
HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}
# `import jaxnorm` brings the pure floors, and with them everything below the modules of Flax.
TOP = "__init__"
HEIGHT[TOP] = HEIGHT["functional"] + 0.5
MODULE_ROOMS = ("linen", "nnx")

# What the modules may ask of jax.numpy: dtypes, shapes and constants, but no arithmetic.
PLAIN_JNP = {
    *("Array", "asarray", "bfloat16", "bool_", "broadcast_shapes", "broadcast_to", "complex128"),
    *("complex64", "complexfloating", "dtype", "expand_dims", "finfo", "float16", "float32"),
    *(
        "float64",
        "floating",
        "inexact",
        "int32",
        "integer",
        "issubdtype",
        "ndarray",
        "ndim",
        "ones",
    ),
    *("promote_types", "reshape", "result_type", "shape", "size", "squeeze", "zeros"),
}
REDUCING_METHODS = {"dot", "max", "mean", "min", "prod", "std", "sum", "var"}
# Backwards, so that this file does not hold them itself.
BACKWARDS = ("ODOT", "EMXIF", "X" * 3, "KCAH", "rorrEdetnemelpmItoN", "revoc on :amgarp")
MARKERS = tuple(marker[::-1] for marker in BACKWARDS)
EMPTY_NAMES = {"common.py", "helper.py", "helpers.py", "misc.py", "util.py", "utils.py"}


def imports(path: PurePosixPath, source: str) -> Iterator[str]:
    """Yields the full name of every module or member that a file imports, relative ones too."""
    package = path.parent.parts
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def is_within(name: str, *packages: str) -> bool:
    """Tells whether a full name is one of some packages or lies inside one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def room_of(path: PurePosixPath) -> str | None:
    """Returns the room of a file of jaxnorm, None for a file elsewhere."""
    if path.parts[0] != "jaxnorm":
        return None
    return path.parts[1].removesuffix(".py")


def dotted(node: ast.AST) -> str:
    """Returns `a.b.c` for a chain of attributes, the empty string for anything else."""
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return f"{head}.{node.attr}" if head else ""
    return node.id if isinstance(node, ast.Name) else ""


def one_way(path: PurePosixPath, source: str) -> Iterator[str]:
    """A file imports from lower floors and from its own room only."""
    room = room_of(path)
    if room is None:
        return
    if room not in HEIGHT:
        yield f"{room} stands on no floor"
        return
    for name in imports(path, source):
        if is_within(name, "experiments", "tests"):
            yield f"imports {name}"
        elif is_within(name, "jaxnorm"):
            member = name.split(".")[1] if "." in name else TOP
            target = member if member in HEIGHT else TOP
            if target != room and HEIGHT[target] >= HEIGHT[room]:
                yield f"imports {name}"


def pallas_in_kernels(path: PurePosixPath, source: str) -> Iterator[str]:
    """Pallas is imported only under ops/kernels."""
    if path.is_relative_to("jaxnorm/ops/kernels") or path.parts[0] == "tests":
        return
    yield from (n for n in imports(path, source) if is_within(n, "jax.experimental.pallas"))


def flax_from_the_modules_up(path: PurePosixPath, source: str) -> Iterator[str]:
    """Flax is imported only from linen and nnx upwards."""
    room = room_of(path)
    if room in HEIGHT and HEIGHT[room] < HEIGHT["linen"]:
        yield from (name for name in imports(path, source) if is_within(name, "flax"))


def no_arithmetic(path: PurePosixPath, source: str) -> Iterator[str]:
    """The modules of Flax hold parameters and state, and leave the arithmetic to lower floors."""
    if room_of(path) not in MODULE_ROOMS:
        return
    for name in imports(path, source):
        if is_within(name, "jax.lax", "jax.scipy") or name.startswith("jax.numpy."):
            yield f"imports {name}"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield from arithmetic_attribute(dotted(node))
        elif isinstance(node, ast.BinOp | ast.AugAssign):
            yield from arithmetic_operator(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            reduces = node.func.attr in REDUCING_METHODS
            if reduces and dotted(node.func.value) not in ("math", "jnp", "jax.numpy"):
                yield f"line {node.lineno}: .{node.func.attr}()"


def arithmetic_attribute(name: str) -> Iterator[str]:
    """Yields a full name if it is one of jax's functions that compute."""
    *module, member = name.split(".")
    computes = {
        "jnp": member not in PLAIN_JNP,
        "jax.numpy": member not in PLAIN_JNP,
        "lax": True,
        "jax": member in ("lax", "scipy"),
        "jax.nn": member != "initializers",
    }
    if computes.get(".".join(module), False):
        yield name


def arithmetic_operator(node: ast.BinOp | ast.AugAssign) -> Iterator[str]:
    """Yields a product, quotient or power, other than a repetition such as `(1,) * n`."""
    sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.target, node.value)
    repeats = any(isinstance(side, ast.Tuple | ast.List) for side in sides)
    if isinstance(node.op, ast.Mult | ast.Div | ast.Pow | ast.MatMult) and not repeats:
        yield f"line {node.lineno}: {ast.unparse(node)}"


def public_names_only(path: PurePosixPath, source: str) -> Iterator[str]:
    """The experiments use what any user may use."""
    if path.parts[0] != "experiments":
        return
    used = [dotted(n) for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Attribute)]
    for name in [*imports(path, source), *used]:
        private = any(re.match("_(?!_)", part) for part in name.split("."))
        if is_within(name, "jaxnorm") and private:
            yield name


def rooms_only_re_export(path: PurePosixPath, source: str) -> Iterator[str]:
    """The `__init__` of a room holds its docstring and `from ._file import name as name`."""
    if path.name != "__init__.py" or room_of(path) in (None, TOP):
        return
    first, *rest = ast.parse(source).body or [None]
    if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
        yield "no docstring"
    for node in rest:
        if not isinstance(node, ast.ImportFrom):
            yield f"line {node.lineno}: {ast.unparse(node)[:60]}"
        elif any(alias.asname != alias.name for alias in node.names):
            yield f"line {node.lineno}: not `name as name`"


def at_most_500_lines(path: PurePosixPath, source: str) -> Iterator[str]:
    """No source file is longer than can be read at one sitting."""
    lines = source.count("\n")
    if lines > MAX_LINES:
        yield f"{lines} lines"


def names_that_say_something(path: PurePosixPath, source: str) -> Iterator[str]:
    """No file has a name that tells nothing about what is inside."""
    if path.name.lstrip("_") in EMPTY_NAMES:
        yield path.name


def nothing_left_over(path: PurePosixPath, source: str) -> Iterator[str]:
    """No note of unfinished work, and no suppression without its rule."""
    for number, line in enumerate(source.splitlines(), 1):
        found = [marker for marker in MARKERS if re.search(rf"\b{marker}\b", line)]
        found += re.findall(r"(?:type|pyright): ?ignore(?!\[)|no[q]a(?!: [A-Z])", line)
        yield from (f"line {number}: {marker}" for marker in found)


Rule = Callable[[PurePosixPath, str], Iterator[str]]

# rule -> files that break it.
BROKEN: dict[Rule, list[tuple[str, str]]] = {
    one_way: [
        ("jaxnorm/stats/_a.py", "from jaxnorm.ops import normalize"),
        ("jaxnorm/stats/_a.py", "def f():\n    from ..ops._normalize import normalize"),
        ("jaxnorm/stats/_a.py", "from jaxnorm import moments"),
        ("jaxnorm/stats/_a.py", "import jaxnorm"),
        ("jaxnorm/linen/_a.py", "from jaxnorm.nnx import BatchNorm"),
        ("jaxnorm/linen/__init__.py", "from .. import nnx"),
        ("jaxnorm/functional/_a.py", "import jaxnorm.preprocessing"),
        ("jaxnorm/typing.py", "from . import numerics"),
        ("jaxnorm/__init__.py", "from . import linen"),
        ("jaxnorm/training/_a.py", "from experiments.data import load"),
        ("jaxnorm/attic.py", ""),
    ],
    pallas_in_kernels: [
        ("jaxnorm/ops/_a.py", "from jax.experimental import pallas as pl"),
        ("experiments/a.py", "from jax.experimental.pallas import tpu"),
    ],
    flax_from_the_modules_up: [
        ("jaxnorm/functional/_a.py", "def f():\n    import flax"),
        ("jaxnorm/__init__.py", "from flax import linen"),
        ("jaxnorm/stats/_a.py", "import flax.struct"),
    ],
    no_arithmetic: [
        ("jaxnorm/linen/_a.py", "from jax import lax"),
        ("jaxnorm/nnx/_a.py", "import jax\ny = jax.lax.rsqrt(x)"),
        ("jaxnorm/nnx/_a.py", "y = jnp.mean(x)"),
        ("jaxnorm/linen/_a.py", "from jax.numpy import mean"),
        ("jaxnorm/linen/_a.py", "y = jax.nn.standardize(x)"),
        ("jaxnorm/linen/_a.py", "y = momentum * mean"),
        ("jaxnorm/linen/_a.py", "y /= 2"),
        ("jaxnorm/linen/_a.py", "y = x.mean()"),
    ],
    public_names_only: [
        ("experiments/a.py", "from jaxnorm.stats._moments import moments"),
        ("experiments/a.py", "from jaxnorm.stats import _moments"),
        ("experiments/a.py", "import jaxnorm\njaxnorm.stats._shapes.check()"),
    ],
    rooms_only_re_export: [
        ("jaxnorm/stats/__init__.py", '"""Stats."""\nfrom ._moments import moments'),
        ("jaxnorm/stats/__init__.py", '"""Stats."""\nx = 1'),
        ("jaxnorm/stats/__init__.py", ""),
    ],
    at_most_500_lines: [("tests/test_a.py", "x = 1\n" * 501)],
    names_that_say_something: [("jaxnorm/ops/_utils.py", ""), ("experiments/helpers.py", "")],
    nothing_left_over: [
        *(("tests/test_a.py", f"x = 1  # {marker}") for marker in MARKERS),
        ("jaxnorm/ops/_a.py", "erongi :epyt #  1 = x"[::-1]),
        ("jaxnorm/ops/_a.py", "aqon #  1 = x"[::-1]),
    ],
}

# rule -> files that keep it, though they come close.
KEPT: dict[Rule, list[tuple[str, str]]] = {
    one_way: [
        ("jaxnorm/stats/_a.py", "from ._shapes import check\nfrom . import _shapes"),
        ("jaxnorm/ops/_a.py", "from jaxnorm.stats import Moments\nfrom jaxnorm import stats"),
        ("jaxnorm/models/_a.py", "import jaxnorm\nfrom jaxnorm import linen, batch_norm"),
        ("experiments/a.py", "import jaxnorm"),
    ],
    pallas_in_kernels: [("jaxnorm/ops/kernels/_a.py", "from jax.experimental import pallas")],
    no_arithmetic: [
        ("jaxnorm/linen/_a.py", "shape = (1,) * n + (jnp.zeros(3).shape[0] // 3,)"),
        ("jaxnorm/stats/_a.py", "y = jnp.mean(x) * 2"),
    ],
    public_names_only: [("experiments/a.py", "from jaxnorm import __version__\nx._y()")],
}


@functools.cache
def sources() -> dict[PurePosixPath, str]:
    """Returns the text of every source file by its path from the root."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py")]
    return {PurePosixPath(file.relative_to(ROOT)): file.read_text("utf-8") for file in files}


@pytest.mark.parametrize("rule", BROKEN, ids=lambda rule: rule.__name__)
def test_every_source_file_keeps_the_rule(rule):
    faults = [f"{path}: {fault}" for path, text in sources().items() for fault in rule(path, text)]
    assert faults == []


@pytest.mark.parametrize(
    ("rule", "path", "source"), [(rule, *file) for rule, files in BROKEN.items() for file in files]
)
def test_a_rule_notices_what_breaks_it(rule, path, source):
    assert list(rule(PurePosixPath(path), source))


@pytest.mark.parametrize(
    ("rule", "path", "source"), [(rule, *file) for rule, files in KEPT.items() for file in files]
)
def test_a_rule_lets_pass_what_keeps_it(rule, path, source):
    assert list(rule(PurePosixPath(path), source)) == []


def modules_after(statement: str) -> set[str]:
    """Returns the top-level packages that a fresh interpreter holds after a statement."""
    command = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_jaxnorm_imports_neither_flax_nor_what_the_extras_bring():
    extras = {"flax", "optax", "torch", "matplotlib", "orbax", "tyro", "rich", "sklearn"}
    assert modules_after("import jaxnorm") & extras == set()


def test_flax_comes_with_the_first_use_of_a_room_that_needs_it():
    assert "flax" in modules_after("import jaxnorm; jaxnorm.linen")


def test_a_module_that_is_asked_for_among_the_functions_is_refused_with_its_rooms():
    with pytest.raises(AttributeError, match="modules are jaxnorm.linen.BatchNorm and jaxnorm.nnx"):
        _ = jaxnorm.BatchNorm
    with pytest.raises(AttributeError, match="no attribute 'layernorm'$") as caught:
        _ = jaxnorm.layernorm
    assert caught.value.obj is jaxnorm  # from which Python suggests layer_norm
