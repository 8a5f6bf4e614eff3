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
# # Quickstart
#
# One small network learns digits, once with each norm and once with none.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("jaxnorm") is None:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "jaxnorm[experiments]"], check=True
    )

# %%
import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxnorm
from jaxnorm import models, training

print(jaxnorm.__version__, jax.devices())

# %% [markdown]
# ## A norm is the shape of its statistics
#
# `stats_shape` has one entry for each axis: 1 reduces it, its size keeps it, a divisor cuts it
# into groups.

# %%
x = 1e4 + jax.random.normal(jax.random.key(0), (8, 4, 4, 6))  # examples, positions, channels
for name, shape in {
    "batch": (1, 1, 1, 6),
    "layer": (8, 4, 4, 1),
    "instance": (8, 1, 1, 6),
    "group": (8, 1, 1, 2),
}.items():
    y, moments = jaxnorm.standardize(x, shape, epsilon=1e-6)
    print(f"{name:9} {moments.mean.size:4} statistics, output std {float(y.std()):.3f}")

# %% [markdown]
# ## Train
#
# A step is a pure function of a state and a batch. An epoch is one compiled program.

# %%
digits = load_digits()
images = (digits.images / 16).astype(np.float32)[..., None]
held_out = np.arange(len(images)) % 5 == 0
train = {"inputs": images[~held_out], "labels": digits.target[~held_out].astype(np.int32)}
test = {"inputs": images[held_out], "labels": digits.target[held_out].astype(np.int32)}

curves = {}
for norm in (None, "batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm"):
    model = models.CNN(
        num_outputs=10,
        stages=((8,), (16,)),
        features=(),
        norm=(lambda: jaxnorm.linen.GroupNorm(num_groups=4)) if norm == "group_norm" else norm,
    )
    tx = optax.sgd(0.05, momentum=0.9)
    state = training.create_train_state(model, jax.random.key(0), images[:1], tx)
    step = training.make_train_step(model, tx, training.cross_entropy)
    epoch = training.make_scan_steps(step, batch_size=64)
    evaluate = training.make_eval_step(model, training.cross_entropy)
    curves[norm or "none"] = accuracy = []
    for _ in range(6):
        state, _ = epoch(state, train)
        accuracy.append(float(evaluate(state, test)["accuracy"]))
    print(f"{norm or 'none':14} {accuracy[-1]:.1%}")

# %%
for name, accuracy in curves.items():
    plt.plot(range(1, 7), accuracy, label=name)
plt.xlabel("epoch")
plt.ylabel("test accuracy")
plt.legend()
plt.show()
