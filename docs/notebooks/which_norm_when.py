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
# # Which norm when
#
# The same small network, with several norms, at a batch of 32 and at a batch of 2. Batch norm
# leads at 32. At 2 its statistics are noise.

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

digits = load_digits()
images = (digits.images / 16).astype(np.float32)[..., None]
held_out = np.arange(len(images)) % 5 == 0
train = {"inputs": images[~held_out], "labels": digits.target[~held_out].astype(np.int32)}
test = {"inputs": images[held_out], "labels": digits.target[held_out].astype(np.int32)}

norms = {
    "none": None,
    "batch": "batch_norm",
    "batch renorm": "batch_renorm",
    "layer": "layer_norm",
    "group": lambda: jaxnorm.linen.GroupNorm(num_groups=4),
}

# %% [markdown]
# ## Equal numbers of steps
#
# With equal numbers of epochs a batch of 2 would take 16 times as many steps, which hides what
# the norm loses. So every run takes 200 steps. The learning rate shrinks with the batch.


# %%
def accuracies(norm, batch_size, seeds=(0, 1), steps=200):
    model = models.CNN(num_outputs=10, stages=((8,), (16,)), features=(), norm=norm)
    tx = optax.sgd(0.05 * (batch_size / 32) ** 0.5, momentum=0.9)
    step = training.make_train_step(model, tx, training.cross_entropy)
    run = training.make_scan_steps(step, batch_size=batch_size, num_steps=steps)
    evaluate = training.make_eval_step(model, training.cross_entropy)
    reached = []
    for seed in seeds:
        state = training.create_train_state(model, jax.random.key(seed), images[:1], tx)
        state, _ = run(state, train)
        reached.append(float(evaluate(state, test)["accuracy"]))
    return reached


results = {(name, size): accuracies(norm, size) for name, norm in norms.items() for size in (32, 2)}
for name in norms:
    told = [f"{size}: {np.mean(results[name, size]):.1%}" for size in (32, 2)]
    print(f"{name:16} accuracy at a batch of {told[0]}, of {told[1]}")

# %%
at = np.arange(len(norms))
for i, size in enumerate((32, 2)):
    values = [results[name, size] for name in norms]
    plt.bar(at + 0.4 * i, np.mean(values, 1), width=0.38, label=f"batch of {size}")
plt.xticks(at + 0.2, list(norms), rotation=30)
plt.ylabel("test accuracy, mean of two seeds")
plt.legend()
plt.show()

# %% [markdown]
# ## The catalogue
#
# All normalizers can be asked what they need and what they keep.

# %%
for member in jaxnorm.CATALOGUE:
    if not member.stateful and member.stats_shape and member.of == "activations":
        print(f"{member.name:24} {member.stats_shape((8, 4, 4, 6))!s:16} {member.paper[:60]}")
