"""Cases of the norms that whiten."""

import jax.numpy as jnp
import numpy as np

import jaxnorm
from jaxnorm import WhiteningState
from tests.zoo.cases import Case

DECAY, EPSILON, GROUPS = 0.9, 1e-5, 2


def blend(old, new):
    return DECAY * old + (1 - DECAY) * new


def groups_of(x, mask):
    """Returns each group's vectors, their weights and its channels."""
    parts = (-1, GROUPS, x.shape[-1] // GROUPS)
    rows = x.reshape(parts)
    w = jnp.ones(rows.shape[:2]) if mask is None else mask.reshape(parts).all(-1)
    return jnp.moveaxis(rows, 1, 0), w.T.astype(x.dtype)


def whitening_oracle(root):
    def oracle(x, mean, covariance, scale, bias, *, mask=None):
        if mask is not None:  # what is masked stands beside valid channels, but as a constant
            x = jnp.where(mask, x, 0)
        rows, w = groups_of(x, mask)
        count = w.sum(1)[:, None]
        own = (w[..., None] * rows).sum(1) / count
        d = rows - own[:, None]
        cov = jnp.einsum("gm,gmi,gmj->gij", w, d, d) / count[..., None]
        y = jnp.stack([v @ root(c + EPSILON * jnp.eye(len(c))).T for v, c in zip(d, cov)])
        y = jnp.moveaxis(y, 0, 1).reshape(x.shape) * scale + bias
        own = own.reshape(-1)
        return {"y": y, "mean": blend(mean, own), "covariance": blend(covariance, cov)}

    return oracle


def newton(cov):
    """Returns algorithm 1, lines 5 to 8, of the paper on iterative normalization."""
    trace, p = jnp.trace(cov), jnp.eye(len(cov))
    for _ in range(5):
        p = (3 * p - jnp.linalg.matrix_power(p, 3) @ (cov / trace)) / 2
    return p / jnp.sqrt(trace)


def symmetric(cov):
    """Returns the inverse root by eigenvectors, for eigenvalues that differ."""
    values, vectors = jnp.linalg.eigh(cov)
    return vectors @ jnp.diag(values**-0.5) @ vectors.T


def calling(function):
    def call(x, mean, covariance, scale, bias, *, mask=None):
        how = {"use_running_average": False, "decay": DECAY, "num_groups": GROUPS, "mask": mask}
        y, state = function(x, WhiteningState(mean, covariance), scale, bias, **how)
        return {"y": y, **state._asdict()}

    return call


def arrays(rng):
    correlated = rng.normal(size=(7, 5, 4)) @ (jnp.eye(4) + 0.3 * rng.normal(size=(4, 4)))
    root = rng.normal(size=(GROUPS, 2, 2))
    return {
        "x": correlated,
        "mean": rng.normal(size=4),
        "covariance": root @ root.transpose(0, 2, 1),
        "scale": rng.normal(1, 0.3, size=4),
        "bias": rng.normal(size=4),
    }


def whitening_case(name, root):
    return Case(
        name,
        call=calling(getattr(jaxnorm, name)),
        oracle=whitening_oracle(root),
        arrays=arrays,
        module={"num_groups": GROUPS, "decay": DECAY},
        features=4,
        state=("mean", "covariance"),
    )


def complex_batch_norm_oracle(x, mean, covariance, scale, cross, bias, *, mask=None):
    w = jnp.ones(x.shape) if mask is None else mask.astype(x.real.dtype)
    count = w.sum((0, 1))
    own = (w * x).sum((0, 1)) / count
    d = x - own
    v = jnp.stack([d.real, d.imag], -1)
    cov = jnp.einsum("abc,abci,abcj->cij", w, v, v) / count[:, None, None]
    root = jnp.stack([symmetric(c + 1e-4 * jnp.eye(2)) for c in cov])
    rows = jnp.stack([scale[:, 0], cross], -1), jnp.stack([cross, scale[:, 1]], -1)
    y = jnp.einsum("cij,cjk,abck->abci", jnp.stack(rows, -2), root, v) + bias
    own = jnp.stack([own.real, own.imag], -1)
    new = {"mean": blend(mean, own), "covariance": blend(covariance, cov)}
    return {"y": y[..., 0] + 1j * y[..., 1], **new}


def complex_batch_norm_call(x, mean, covariance, scale, cross, bias, *, mask=None):
    how = {"use_running_average": False, "decay": DECAY, "mask": mask}
    state = WhiteningState(mean, covariance)
    y, state = jaxnorm.complex_batch_norm(x, state, scale, cross, bias, **how)
    return {"y": y, **state._asdict()}


def complex_arrays(rng):
    parts = rng.normal(size=(6, 5, 3, 2)) @ np.array([[1.0, 0.4], [0.0, 0.7]])
    root = rng.normal(size=(3, 2, 2))
    return {
        "x": parts[..., 0] + 1j * parts[..., 1],
        "mean": rng.normal(size=(3, 2)),
        "covariance": root @ root.transpose(0, 2, 1),
        "scale": rng.normal(1, 0.3, size=(3, 2)),
        "cross": rng.normal(size=3),
        "bias": rng.normal(size=(3, 2)),
    }


CASES = [
    whitening_case("iterative_norm", newton),
    whitening_case("decorrelated_batch_norm", symmetric),
    Case(
        "complex_batch_norm",
        call=complex_batch_norm_call,
        oracle=complex_batch_norm_oracle,
        arrays=complex_arrays,
        module={"decay": DECAY},
        features=3,
        state=("mean", "covariance"),
    ),
]
