"""How long imports take and how much disk they need, beside Flax's.

`python -m experiments.bench.imports` prints both tables of the documentation.

Each import has a process of its own. The processor's seconds count, the least of several, since
other work on the machine hardly adds to them.
"""

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

MODULES = ("jax", "jaxnorm", "flax.linen", "jaxnorm.linen", "flax.nnx", "jaxnorm.nnx")
PACKAGES = ("jaxnorm", "flax", "optax", "jax", "jaxlib")
_TIMED = """
import sys, time
start = time.process_time()
import {module}
print(time.process_time() - start, len(sys.modules))
"""


def import_cost(module: str, rounds: int) -> tuple[float, int]:
    """Return the least processor's seconds of an import, and how many modules it loads."""
    found = []
    for _ in range(rounds):
        command = [sys.executable, "-c", _TIMED.format(module=module)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, modules = done.stdout.split()
        found.append((float(seconds), int(modules)))
    return min(found)


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
    print("| import | processor's seconds | modules loaded |\n|---|---|---|")
    for module in MODULES:
        seconds, modules = import_cost(module, rounds=5)
        print(f"| `{module}` | {seconds:.2f} | {modules} |")
    print("\n| package | installed, MiB |\n|---|---|")
    for package in PACKAGES:
        version = importlib.metadata.version(package)
        print(
            f"| {package} {re.split('[+]', version)[0]} | {installed_bytes(package) / 2**20:.1f} |"
        )


if __name__ == "__main__":
    main()
