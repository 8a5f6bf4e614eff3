# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Many devices on one machine
#
# Eight devices of the CPU stand in for eight GPUs. Whose statistics does a batch norm take, and
# what is exchanged?

# %%
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("jaxnorm") is None:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "jaxnorm[experiments]"], check=True
    )
# Before JAX starts. On a machine with several GPUs leave these two lines out.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"

# %%
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxnorm

mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
x = jax.random.normal(jax.random.key(0), (64, 8, 8, 16)) + jnp.arange(64.0)[:, None, None, None]
sharded = jax.device_put(x, NamedSharding(mesh, P("data")))
stats = jaxnorm.ema(0.9).init((16,))
train = functools.partial(jaxnorm.batch_norm, use_running_average=False)

# %% [markdown]
# ## Under `jit`: the whole batch
#
# A program under `jit` is written for whole arrays. The statistics are those of one device, to
# rounding.

# %%
one, one_stats = train(x, stats)
many, many_stats = jax.jit(train)(sharded, stats)
print("output:", float(abs(one - many).max()))
print("running mean:", float(abs(one_stats.mean - many_stats.mean).max()))

# %% [markdown]
# The compiled program gathers a few numbers of each shard once, and never an array:

# %%
program = jax.jit(train).lower(sharded, stats).compile().as_text()
for operation in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
    print(
        f"{operation:20} {program.count(f' {operation}(') + program.count(f' {operation}-start(')}"
    )

# %% [markdown]
# ## Inside `shard_map`: the shard, or with `axis_name` the whole

# %%
spread = functools.partial(
    jax.shard_map, mesh=mesh, in_specs=(P("data"), P()), out_specs=P("data"), check_vma=False
)
alone = spread(lambda v, s: train(v, s)[0])(sharded, stats)
together = spread(lambda v, s: train(v, s, axis_name="data")[0])(sharded, stats)
print("without axis_name:", float(abs(alone - one).max()))
print("with axis_name:   ", float(abs(together - one).max()))

# %% [markdown]
# ## Statistics of each device under `jit`
#
# They are ghost batches of the size of a shard, and need no exchange.

# %%
ghost = functools.partial(
    jaxnorm.ghost_batch_norm, ghost_batch_size=8, use_running_average=False, update_stats=False
)
y, _ = jax.jit(ghost)(sharded, stats)
print("the same as shard_map without axis_name:", float(abs(y - alone).max()))

# %% [markdown]
# ## Shards with unequal numbers of rows
#
# They pad, and a mask says what is valid. Shards weigh by their valid rows.

# %%
valid = jnp.arange(64)[:, None, None, None] % 8 < jnp.arange(1, 9).repeat(8)[:, None, None, None]


def masked(v, m):
    return jaxnorm.moments(v, (1, 1, 1, 16), mask=m, axis_name="data").mean.ravel()


means = jax.shard_map(
    masked, mesh=mesh, in_specs=(P("data"), P("data")), out_specs=P(), check_vma=False
)(sharded, jax.device_put(valid, NamedSharding(mesh, P("data"))))
exact = np.asarray(x, np.float64)[np.asarray(valid).ravel()].mean((0, 1, 2))
print("largest difference to float64:", float(abs(np.asarray(means) - exact).max()))
