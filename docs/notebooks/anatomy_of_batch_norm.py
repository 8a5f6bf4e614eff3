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
# # Anatomy of batch norm
#
# The experiment of figure 1 of Ioffe and Szegedy (2015), made small: three layers of sigmoids,
# weights from a small Gaussian. We follow the input of one sigmoid of the last hidden layer: its
# 15th, 50th and 85th percentile.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("jaxnorm") is None:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "jaxnorm[experiments]"], check=True
    )

# %%
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxnorm
from jaxnorm import diagnostics, models, training

digits = load_digits()
images = (digits.images / 16).astype(np.float32).reshape(-1, 64)
held_out = np.arange(len(images)) % 5 == 0
train = {"inputs": images[~held_out], "labels": digits.target[~held_out].astype(np.int32)}
test = {"inputs": images[held_out], "labels": digits.target[held_out].astype(np.int32)}

# %% [markdown]
# ## One batch norm, step by step

# %%
x = 3.0 + 2.0 * jax.random.normal(jax.random.key(0), (64, 1))
one = jaxnorm.moments(x, (1, 1))
print("mean", one.mean.ravel(), "variance", one.var.ravel(), "count", one.count.ravel())
normalized = jaxnorm.normalize(x, one, epsilon=1e-5)
print("afterwards", float(normalized.mean()), float(normalized.var()))
back = normalized * jnp.sqrt(one.var + 1e-5) + one.mean
print("scale = std and bias = mean give x back:", float(abs(back - x).max()))

# %% [markdown]
# ## What the last sigmoids see

# %%
percentages = (15.0, 50.0, 85.0)


def follow(norm, steps=3000, every=100):
    model = models.MLP(
        features=(64, 64, 64),
        num_outputs=10,
        norm=norm,
        activation=nn.sigmoid,
        kernel_init=nn.initializers.normal(0.1),
    )
    tx = optax.sgd(0.3)
    state = training.create_train_state(model, jax.random.key(0), images[:1], tx)
    run = training.make_scan_steps(
        training.make_train_step(model, tx, training.cross_entropy), batch_size=60, num_steps=every
    )
    evaluate = training.make_eval_step(model, training.cross_entropy)

    @jax.jit
    def watch(variables):
        _, seen = model.apply(
            variables, test["inputs"], train=True, mutable=["intermediates", "batch_stats"]
        )
        (values,) = seen["intermediates"]["preactivation_2"]
        return jnp.percentile(values, jnp.array(percentages), axis=0)  # [3, units]

    rows, accuracy = [], []
    for _ in range(steps // every):
        state, _ = run(state, train)
        rows.append(watch(state.variables))
        accuracy.append(float(evaluate(state, test)["accuracy"]))
    return np.stack(rows), accuracy


batch_norm = functools.partial(jaxnorm.linen.BatchNorm, momentum=0.9)
runs = {"without": follow(None), "with batch norm": follow(batch_norm)}

# %%
figure, axes = plt.subplots(1, 3, figsize=(12, 3.2))
steps = np.arange(1, 31) * 100
for name, (_, accuracy) in runs.items():
    axes[0].plot(steps, accuracy, label=name)
axes[0].set(title="test accuracy", xlabel="step")
axes[0].legend()
for ax, (name, (rows, _)) in zip(axes[1:], runs.items()):
    for i, percentage in enumerate(percentages):
        ax.plot(steps, rows[:, i, 0], label=f"{percentage:.0f}%")
    ax.set(title=f"input of a sigmoid, {name}", xlabel="step")
axes[2].legend()
plt.tight_layout()
plt.show()

# %% [markdown]
# ## How much they drift
#
# The mean change of a percentile from one measurement to the next, in units of the spread between
# the 15th and the 85th.

# %%
for name, (rows, accuracy) in runs.items():
    spread = rows[:, 2] - rows[:, 0]
    moved = np.abs(np.diff(rows, axis=0)).mean(1) / spread[1:]
    print(f"{name:16} accuracy {accuracy[-1]:.1%}, drift of the median unit {np.median(moved):.4f}")

# %% [markdown]
# ## A report of all layers, before training

# %%
model = models.MLP(features=(64, 64, 64), num_outputs=10, norm=batch_norm, activation=nn.sigmoid)
variables = model.init(jax.random.key(0), images[:1])


def loss(logits):
    return training.cross_entropy(logits, {"labels": test["labels"]})[0]


print(diagnostics.diagnose(model.apply, variables, test["inputs"], loss).to_text())
