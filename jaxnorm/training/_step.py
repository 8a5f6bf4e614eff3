"""Train and eval steps built from a model, an optimizer and a loss."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxnorm._views import NnxApply, train_apply
from jaxnorm.training._accumulate import accumulate, split_batch
from jaxnorm.training._entries import entry_inputs
from jaxnorm.training._finite import all_finite, select, stays_finite
from jaxnorm.training._gradient import LossFn, Metrics, gradient_fn, named_loss
from jaxnorm.training._keys import noise_key
from jaxnorm.training._shards import holds_on_all, mean_over, per_shard, shard_key
from jaxnorm.training._state import TrainState
from jaxnorm.typing import Array, AxisName, PyTree

TrainStep = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]
"""(state, batch) -> (state, metrics)."""

EvalStep = Callable[[TrainState, PyTree], Metrics]
"""(state, batch) -> metrics."""


def make_train_step(
    model: nn.Module | nnx.Module,
    tx: optax.GradientTransformation,
    loss_fn: LossFn,
    *,
    inputs: Callable[[PyTree], Any] = entry_inputs,
    augment: Callable[[Array, PyTree], PyTree] | None = None,
    accumulate_steps: int = 1,
    guard_non_finite: bool = True,
    axis_name: AxisName | None = None,
    donate: bool = True,
) -> TrainStep:
    """Returns a jitted function that takes one optimizer step.

    The model is called with `train=True` where its call takes that argument, and with an rng named
    `dropout`; an nnx model is in train mode, and all of its random streams start anew at each step.
    Random numbers depend on `(state.rng, state.step)` alone.

    With `accumulate_steps=A` the batch is cut into A micro-batches (number i holds the rows i,
    i + A, ...), their gradients and metrics are averaged, and the optimizer steps once. Every
    micro-batch is normalized with its own statistics; the running statistics get one update, from
    the moments of all micro-batches pooled: those of each layer's input over the whole batch (see
    `apply_batch_moments`). Layers that do not collect moments update once per micro-batch.

    With `guard_non_finite` a step whose loss or gradient is not finite, or that would turn any
    finite number of the state into a non-finite one, leaves parameters, running statistics and
    optimizer state as they were, bit for bit. `step` counts it, so that training goes on with the
    next batch and new random numbers, and so does `skipped`; the optimizer's own count, which
    drives schedules, does not.

    Args:
        model: a linen module with variables in `params` and `batch_stats` only, or an nnx model
            with `nnx.Param`, `nnx.BatchStat` and random streams only. The values of its variables
            do not matter: those of the state count.
        tx: the optimizer.
        loss_fn: (output, batch) -> (loss [], metrics), both means over the batch.
        inputs: picks the model's input out of a batch; by default its entry `inputs`.
        augment: (key, batch) -> batch, applied first, under a new key at each step.
        accumulate_steps: number of micro-batches per optimizer step.
        guard_non_finite: whether steps that are not finite are undone.
        axis_name: mapped axes over which gradients and metrics are averaged, in `shard_map` or a
            named `vmap`. Running statistics agree across them only if the model's norms are given
            the same `axis_name`.
        donate: whether the given state's buffers are reused for the new one. The old state cannot
            be read afterwards.

    Returns:
        (state, batch) -> (state, metrics). The metrics are those of `loss_fn`, `loss` [], and,
        under the guard, `skipped` [], int32, one where the step was undone.

    Raises:
        TypeError: `model` is neither a linen module nor an nnx model.
        ValueError: `accumulate_steps` is not positive; on call, it does not divide the batch, the
            batch has no `inputs`, or the loss is not a scalar.

    Examples:
        >>> from jaxnorm.training import create_train_state, cross_entropy
        >>> batch = {"inputs": jnp.eye(2), "labels": jnp.array([0, 1])}
        >>> model, tx = nn.Dense(2), optax.sgd(1.0)
        >>> state = create_train_state(model, jax.random.key(0), batch["inputs"], tx)
        >>> state, metrics = make_train_step(model, tx, cross_entropy)(state, batch)
        >>> int(state.step), sorted(metrics)
        (1, ['accuracy', 'loss', 'skipped'])
        >>> linear = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
        >>> state = create_train_state(linear, jax.random.key(0), tx)
        >>> int(make_train_step(linear, tx, cross_entropy)(state, batch)[0].step)
        1
    """
    if accumulate_steps < 1:
        raise ValueError(
            f"accumulate_steps={accumulate_steps} must be at least 1; 1 is no accumulation"
        )

    apply = train_apply(model)

    def train_step(state: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        key = shard_key(noise_key(state.rng, state.step), axis_name)
        if augment is not None:
            key, augment_key = jax.random.split(key)
            batch = augment(augment_key, batch)
        collect = accumulate_steps > 1
        params = per_shard(state.params, axis_name)
        gradient = gradient_fn(apply, loss_fn, inputs, params, collect_moments=collect)
        if collect:
            micro_batches = split_batch(batch, accumulate_steps)
            keys = jax.random.split(key, accumulate_steps)
            mean, stats = accumulate(gradient, state.batch_stats, micro_batches, keys, axis_name)
        else:
            mean, _, stats = gradient(state.batch_stats, batch, key)
        grads, metrics = mean_over(mean, axis_name)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        new = state._replace(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=stats,
            opt_state=opt_state,
        )
        if not guard_non_finite:
            return new, metrics
        finite = all_finite((metrics["loss"], grads)) & stays_finite(_trained(new), _trained(state))
        new = _refuse_unless(holds_on_all(finite, axis_name), new, state)
        return new, {**metrics, "skipped": new.skipped - state.skipped}

    return jax.jit(train_step, donate_argnums=0 if donate else ())


def make_eval_step(
    model: nn.Module | nnx.Module,
    loss_fn: LossFn,
    *,
    inputs: Callable[[PyTree], Any] = entry_inputs,
    axis_name: AxisName | None = None,
) -> EvalStep:
    """Returns a jitted function that evaluates the model on a batch with its running statistics.

    The model is called with `train=False` where its call takes that argument, an nnx model in eval
    mode, and changes nothing.

    Args:
        model: a linen module or an nnx model.
        loss_fn: (output, batch) -> (loss [], metrics), both means over the batch.
        inputs: picks the model's input out of a batch; by default its entry `inputs`.
        axis_name: mapped axes over which the metrics are averaged.

    Returns:
        (state, batch) -> metrics, those of `loss_fn` and `loss` [].

    Raises:
        TypeError: `model` is neither a linen module nor an nnx model.
        ValueError: on call, the batch has no `inputs`, or the loss is not a scalar.

    Examples:
        >>> from jaxnorm.training import create_train_state, cross_entropy
        >>> batch = {"inputs": jnp.zeros((2, 3)), "labels": jnp.array([0, 1])}
        >>> model = nn.Dense(4)
        >>> state = create_train_state(model, jax.random.key(0), batch["inputs"], optax.sgd(0.1))
        >>> print(f"{make_eval_step(model, cross_entropy)(state, batch)['loss']:.4f}")
        1.3863
    """
    apply = train_apply(model)

    def eval_step(state: TrainState, batch: PyTree) -> Metrics:
        # A model of nnx cannot be without its random streams, though evaluation draws of none.
        streams = isinstance(apply, NnxApply)
        rngs = {"rngs": {"dropout": noise_key(state.rng, state.step)}} if streams else {}
        output = apply(state.variables, inputs(batch), train=False, **rngs)
        _, metrics = named_loss(loss_fn, output, batch)
        return mean_over(metrics, axis_name)

    return jax.jit(eval_step)


def _trained(state: TrainState) -> tuple[PyTree, PyTree, PyTree]:
    return state.params, state.batch_stats, state.opt_state


def _refuse_unless(finite: Array, new: TrainState, old: TrainState) -> TrainState:
    params, batch_stats, opt_state = select(finite, _trained(new), _trained(old))
    return new._replace(
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        skipped=old.skipped + 1 - finite.astype(jnp.int32),
    )
