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
# # Switching a Flax model
#
# A model with Flax's norms is trained. Then its norms are replaced by ours: the parameters and
# running statistics stay bit for bit, and so do the predictions, to rounding.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("jaxnorm") is None:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "jaxnorm[experiments]"], check=True
    )

# %%
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxnorm
from jaxnorm import surgery, training


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        for width in (8, 16):
            x = nn.Conv(width, (3, 3), use_bias=False)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
            x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(10)(nn.LayerNorm()(x.reshape(x.shape[0], -1)))


digits = load_digits()
images = (digits.images / 16).astype(np.float32)[..., None]
held_out = np.arange(len(images)) % 5 == 0
train = {"inputs": images[~held_out], "labels": digits.target[~held_out].astype(np.int32)}
test = {"inputs": images[held_out], "labels": digits.target[held_out].astype(np.int32)}

# %% [markdown]
# ## The Flax model
#
# `jaxnorm.training` takes any linen model, also one with Flax's norms.

# %%
model, tx = Network(), optax.adam(3e-3)
state = training.create_train_state(model, jax.random.key(0), images[:1], tx)
epoch = training.make_scan_steps(
    training.make_train_step(model, tx, training.cross_entropy), batch_size=64
)
for _ in range(6):
    state, _ = epoch(state, train)
evaluate = training.make_eval_step(model, training.cross_entropy)
print({name: float(value) for name, value in evaluate(state, test).items()})

# %% [markdown]
# ## The switch
#
# In source code it is the import: `from jaxnorm.linen import BatchNorm`. A model that is there
# already is switched by `replace_norms`.

# %%
print(surgery.find_norms(model, images[:1]).to_text())
ours = surgery.replace_norms(model, surgery.DROP_INS, state.variables, images[:1])
print("replaced:", ours.replaced)
before = model.apply(state.variables, test["inputs"])
after = ours.model.apply(state.variables, test["inputs"])  # the same variables
print("largest difference of a logit:", float(abs(before - after).max()))

# %% [markdown]
# ## Where numbers differ
#
# Flax computes the variance as `E[x^2] - E[x]^2`. Far from zero it loses all digits.

# %%
for offset in (0.0, 1e2, 1e3, 1e4, 1e5):
    x = offset + jax.random.normal(jax.random.key(1), (64, 1024))
    scales = nn.LayerNorm().init(jax.random.key(0), x)
    flax = float(nn.LayerNorm().apply(scales, x).std())
    here = float(jaxnorm.linen.LayerNorm().apply(scales, x).std())
    print(f"offset {offset:8.0f}: deviation of the output {flax:10.4f} (Flax) {here:.4f} (here)")

# %% [markdown]
# NaN behind a mask reaches every gradient in Flax, and none here.

# %%
x = jax.random.normal(jax.random.key(2), (4, 8)).at[0, 5:].set(jnp.nan)
mask = jnp.isfinite(x)


def gradient(norm):
    scales = norm.init(jax.random.key(0), jnp.ones((4, 8)))
    return jax.grad(lambda v: jnp.where(mask, norm.apply(scales, v, mask=mask) ** 3, 0).sum())(x)


print("Flax:", int(jnp.isnan(gradient(nn.LayerNorm())).sum()), "entries of the gradient are NaN")
print("here:", int(jnp.isnan(gradient(jaxnorm.linen.LayerNorm())).sum()))

# %% [markdown]
# ## What else is possible now
#
# The batch norms fold into the convolutions before them.

# %%
folding = surgery.fold_batch_norm(ours.model, state.variables, images[:1])
print("folded:", folding.folded)
folded = ours.model.apply(folding.variables, test["inputs"])
print("largest difference of a logit:", float(abs(folded - after).max()))
