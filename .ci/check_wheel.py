"""Checks an installed jaxnorm: `python check_wheel.py native` or `python check_wheel.py plain`.

"native" asks that the compiled kernels are there and serve, "plain" that the wheel has none and
says why. Numbers are compared with the definition in float64.
"""

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path


def main(kind: str) -> None:
    import jaxnorm

    if "flax" in sys.modules:
        raise SystemExit("`import jaxnorm` imports Flax")
    import jax
    import jax.numpy as jnp
    import numpy as np

    if "site-packages" not in Path(jaxnorm.__file__).parts:
        raise SystemExit(f"{jaxnorm.__file__} is not the installed package; run this elsewhere")
    x = np.random.default_rng(0).normal(1e3, 1.0, (64, 96)).astype(np.float32)
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(1, keepdims=True)) / np.sqrt(exact.var(1, keepdims=True) + 1e-6)
    for name, y in ways(jaxnorm, jnp.asarray(x)):
        error = np.abs(np.asarray(y) - exact).max()
        if not error < 1e-5:
            raise SystemExit(f"{name} is off by {error:.1e}")
    slope = jax.grad(lambda x: jnp.sum(jaxnorm.layer_norm(x) ** 3))(jnp.asarray(x))
    wanted = 3 * (
        exact**2 - (exact**2).mean(1, keepdims=True) - exact * (exact**3).mean(1, keepdims=True)
    )
    wanted /= np.sqrt(x.astype(np.float64).var(1, keepdims=True) + 1e-6)
    if not np.abs(np.asarray(slope) - wanted).max() < 1e-3:
        raise SystemExit(f"the gradient is off by {np.abs(np.asarray(slope) - wanted).max():.1e}")
    told = jaxnorm.show_config(jnp.asarray(x), (64, 1))
    serving = told.splitlines()[-1]
    if serving.startswith("native CPU kernels") != (kind == "native"):
        raise SystemExit(f"wanted the {kind} path, got\n{told}")
    compilers = [name for name in ("c++", "g++", "clang++", "cc", "gcc") if shutil.which(name)]
    versions = {
        name: importlib.metadata.version(name) for name in ("jaxnorm", "jax", "jaxlib", "flax")
    }
    found = ", ".join(compilers) or os.environ.get("CXX") or "none"
    sys.stdout.write(
        f"{told}\npython {sys.version.split()[0]}, {versions}\ncompilers found: {found}\n"
    )


def ways(jaxnorm, x):
    """Yields the three ways to layer norm, by name, with what they make of `x`."""
    import jax
    from flax import nnx

    yield "jaxnorm.layer_norm", jaxnorm.layer_norm(x)
    module = jaxnorm.linen.LayerNorm()
    yield "jaxnorm.linen.LayerNorm", module.apply(module.init(jax.random.key(0), x), x)
    yield "jaxnorm.nnx.LayerNorm", jaxnorm.nnx.LayerNorm(x.shape[-1], rngs=nnx.Rngs(0))(x)


if __name__ == "__main__":
    if sys.argv[1:] not in (["native"], ["plain"]):
        raise SystemExit(__doc__)
    main(sys.argv[1])
