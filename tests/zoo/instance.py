"""Cases of norms of each example that are called in a way of their own."""

import jax
import jax.numpy as jnp

from jaxnorm import act_norm, batch_instance_norm, ema, rev_in, switchable_norm
from jaxnorm.stats import BatchStats
from tests.zoo.cases import Case

DECAY = 0.9


def measured(x, axes, mask):
    w = jnp.ones(x.shape) if mask is None else mask.astype(x.dtype)
    n = jnp.maximum(w.sum(axes, keepdims=True), 1)
    mean = (w * x).sum(axes, keepdims=True) / n
    return mean, (w * (x - mean) ** 2).sum(axes, keepdims=True) / n


def moved(old, batch):
    return DECAY * old + (1 - DECAY) * batch.ravel()


def running(function):
    def call(x, mean, var, mask=None, **given):
        y, stats = function(
            x,
            BatchStats(mean, var),
            **given,
            mask=mask,
            use_running_average=False,
            estimator=ema(DECAY),
        )
        return {"y": y, **stats._asdict()}

    return call


def batch_instance_oracle(x, mean, var, gate, scale, bias, mask=None):
    share = gate + jax.lax.stop_gradient(jnp.clip(gate, 0, 1) - gate)
    (m_b, v_b), (m_i, v_i) = measured(x, (0, 1), mask), measured(x, (1,), mask)
    batch, instance = (x - m_b) / jnp.sqrt(v_b + 1e-5), (x - m_i) / jnp.sqrt(v_i + 1e-5)
    y = (share * batch + (1 - share) * instance) * scale + bias
    return {"y": y, "mean": moved(mean, m_b), "var": moved(var, v_b)}


def switchable_oracle(x, mean, var, mean_logits, var_logits, scale, bias, mask=None):
    found = [measured(x, axes, mask) for axes in ((1,), (1, 2), (0, 1))]
    w = jnp.exp(mean_logits) / jnp.exp(mean_logits).sum()
    v = jnp.exp(var_logits) / jnp.exp(var_logits).sum()
    m = sum(share * m_k for share, (m_k, _) in zip(w, found))
    s = sum(share * v_k for share, (_, v_k) in zip(v, found))
    y = (x - m) / jnp.sqrt(s + 1e-5) * scale + bias
    return {"y": y, "mean": moved(mean, found[2][0]), "var": moved(var, found[2][1])}


def rev_in_oracle(x, scale, bias, mask=None):
    mean, var = measured(x, (1,), mask)
    return (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias


def affine(rng):
    return {"scale": rng.normal(1, 0.3, 4), "bias": rng.normal(size=4)}


def state(rng):
    return {"mean": rng.normal(size=4), "var": rng.uniform(0.5, 2, 4)}


CASES = [
    Case(
        "batch_instance_norm",
        call=running(batch_instance_norm),
        oracle=batch_instance_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(3, 5, 4)),
            **state(rng),
            "gate": [0.2, 0.7, 1.0, 1.4],
            **affine(rng),
        },
        module={"decay": DECAY},
        features=4,
        state=("mean", "var"),
    ),
    Case(
        "switchable_norm",
        call=running(switchable_norm),
        oracle=switchable_oracle,
        arrays=lambda rng: {
            "x": rng.normal(size=(3, 5, 4)),
            **state(rng),
            "mean_logits": rng.normal(size=3),
            "var_logits": rng.normal(size=3),
            **affine(rng),
        },
        module={"decay": DECAY},
        features=4,
        state=("mean", "var"),
    ),
    Case(
        "rev_in",
        call=lambda *args, **given: rev_in(*args, **given)[0],
        oracle=rev_in_oracle,
        arrays=lambda rng: {"x": rng.normal(size=(3, 5, 4)), **affine(rng)},
    ),
    Case(
        "act_norm",
        call=lambda x, scale, bias: dict(zip(("y", "log_det"), act_norm(x, scale, bias))),
        oracle=lambda x, scale, bias: {
            "y": x * scale + bias,
            "log_det": jnp.full(3, 5 * jnp.log(jnp.abs(scale)).sum()),
        },
        arrays=lambda rng: {"x": rng.normal(size=(3, 5, 4)), **affine(rng)},
    ),
]
