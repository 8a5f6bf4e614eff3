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
# # Converting a PyTorch model
#
# A network of PyTorch, its batch norms and their running statistics become variables of a Flax
# model, and go back with the same bits.

# %%
import importlib.util
import subprocess
import sys

if importlib.util.find_spec("jaxnorm") is None:
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "jaxnorm[experiments]", "torch"], check=True
    )

# %%
import flax.linen as nn
import jax
import numpy as np
import torch
from sklearn.datasets import load_digits

from jaxnorm import interop, surgery

digits = load_digits()
images = (digits.images / 16).astype(np.float32)[:, None]  # PyTorch has channels first
labels = torch.tensor(digits.target)

# %% [markdown]
# ## A model of PyTorch, trained

# %%
torch.manual_seed(0)
theirs = torch.nn.Sequential(
    torch.nn.Conv2d(1, 16, 3, padding=1),
    torch.nn.BatchNorm2d(16),
    torch.nn.ReLU(),
    torch.nn.MaxPool2d(2),
    torch.nn.Flatten(),
    torch.nn.Linear(16 * 4 * 4, 10),
)
optimizer = torch.optim.Adam(theirs.parameters(), lr=3e-3)
for _ in range(150):
    rows = torch.randint(len(labels), (64,))
    loss = torch.nn.functional.cross_entropy(theirs(torch.tensor(images)[rows]), labels[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
theirs.eval()
expected = theirs(torch.tensor(images)).detach().numpy()
print("accuracy on the training images:", (expected.argmax(1) == digits.target).mean())

# %% [markdown]
# ## The same network in Flax
#
# `norm_options` reads what weights do not say: epsilon, momentum, and that PyTorch keeps the
# unbiased variance.

# %%
norm = interop.norm_options(theirs[1])
print(norm)


class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(16, (3, 3), padding=1, name="conv")(x)
        x = nn.relu(norm.linen(use_running_average=not train, name="norm")(x))
        x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(10, name="head")(x.reshape(x.shape[0], -1))


last = np.moveaxis(images, 1, -1)
like = jax.eval_shape(Network().init, jax.random.key(0), last)
names = {"0": "conv", "1": "norm", "5": "head"}
layouts = {"5": interop.after_flatten(16, 4, 4)}
done = interop.from_torch(theirs, like, names=names, layouts=layouts)
print(done.report())

# %%
y = Network().apply(done.variables, last)
print("largest difference of a logit:", float(abs(y - expected).max()))

# %% [markdown]
# ## What is possible now

# %%
folding = surgery.fold_batch_norm(Network(), done.variables, last[:1])
print("folded:", folding.folded)
print("largest difference:", float(abs(Network().apply(folding.variables, last) - y).max()))

# %% [markdown]
# ## And back

# %%
back = interop.to_torch(done.variables, theirs, names=names, layouts=layouts).variables
same = all(torch.equal(back[name], value) for name, value in theirs.state_dict().items())
print("the same bits:", same)
