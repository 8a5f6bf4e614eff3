"""How long imports take and how much disk they need, beside Flax's.

`python -m experiments.bench.imports` prints both tables of the documentation.

Each import has a process of its own, after `import jax`, whose time and modules all share. The
imports take turns. The processor's seconds count, the least of several rounds, since other work on
the machine adds less to them than to the time by the clock.
"""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

MODULES = ("jaxnorm", "flax.linen", "jaxnorm.linen", "flax.nnx", "jaxnorm.nnx")
PACKAGES = ("jaxnorm", "flax", "optax", "jax", "jaxlib")
ROUNDS = 5
_TIMED = """
import sys, time
start = time.process_time()
import jax
shared, modules = time.process_time(), len(sys.modules)
import {module}
print(shared - start, modules, time.process_time() - shared, len(sys.modules) - modules)
"""


def import_cost(module: str) -> tuple[tuple[float, int], tuple[float, int]]:
    """Return (processor's seconds, modules) of jax, and of an import after it."""
    command = [sys.executable, "-c", _TIMED.format(module=module)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, modules, more, further = done.stdout.split()
    return (float(seconds), int(modules)), (float(more), int(further))


def installed_bytes(package: str) -> int:
    """Return the size of a package's files, without compiled Python.

    An editable installation lists no files of its own, so its folder is measured.
    """
    files = importlib.metadata.files(package) or []
    paths = [Path(str(file.locate())) for file in files]
    if not any(path.name == "__init__.py" for path in paths):
        spec = importlib.util.find_spec(package)
        paths = [*Path(spec.origin).parent.rglob("*")] if spec and spec.origin else []
    kept = [path for path in paths if path.suffix != ".pyc" and path.is_file()]
    return sum(path.stat().st_size for path in kept)


def main() -> None:
    """Print both tables of the documentation."""
    rounds = [{module: import_cost(module) for module in MODULES} for _ in range(ROUNDS)]
    seconds, modules = min(cost[0] for costs in rounds for cost in costs.values())
    print("| import | processor's seconds | modules loaded |\n|---|---|---|")
    print(f"| `jax` | {seconds:.2f} | {modules} |")
    for module in MODULES:
        seconds, modules = min(costs[module][1] for costs in rounds)
        print(f"| then `{module}` | {seconds:.2f} | {modules} |")
    print("\n| package | installed, MiB |\n|---|---|")
    for package in PACKAGES:
        version = importlib.metadata.version(package)
        print(
            f"| {package} {re.split('[+]', version)[0]} | {installed_bytes(package) / 2**20:.1f} |"
        )


if __name__ == "__main__":
    main()
