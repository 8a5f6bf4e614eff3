"""What each host does: `python -m tests.hosts.tasks TASK RANK ADDRESS FOLDER`.

Expected numbers come from float64 over the whole data, which every host can see here.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import PartitionSpec as P

import jaxnorm
from jaxnorm.preprocessing import MinMaxScaler, StandardScaler
from jaxnorm.stats import moments
from jaxnorm.surgery import recalibrate
from jaxnorm.training import (
    cross_entropy,
    latest_step,
    make_eval_step,
    make_train_step,
    pool_metrics,
    restore_checkpoint,
    save_checkpoint,
)
from tests.hosts.faults import deaths, full_disk, stopped, train
from tests.hosts.pair import join
from tests.hosts.run import MODEL, TX, batch, fresh, mesh_of_all, placed, sharded

ROWS = np.random.default_rng(0).normal(1e4, 3, (10, 3)).astype(np.float32)


def unequal_shards(folder: Path) -> None:
    """Ten rows as 4, 4, 2 and 0 of 16 places: the statistics are those of the ten."""
    mesh, whole = mesh_of_all(), np.full((16, 3), np.nan, np.float32)
    whole[:10] = ROWS
    valid = np.arange(16)[:, None] < 10

    def pooled(x, mask):
        return moments(x, (1, 3), mask=mask, axis_name="data")

    mapped = jax.shard_map(pooled, mesh=mesh, in_specs=(P("data"), P("data")), out_specs=P())
    found = jax.jit(mapped)(sharded(whole, mesh, "data"), sharded(valid, mesh, "data"))
    exact = ROWS.astype(np.float64)
    mean = np.asarray(found.mean, np.float64) + np.asarray(found.tail, np.float64)
    np.testing.assert_allclose(mean[0], exact.mean(0), rtol=1e-9)
    np.testing.assert_allclose(np.asarray(found.var)[0], exact.var(0), rtol=2e-6)
    assert np.all(np.asarray(found.count) == 10)


def scalers(folder: Path) -> None:
    """Seven rows on one host, three on the other."""
    mine = ROWS[:7] if jax.process_index() == 0 else ROWS[7:]
    exact = ROWS.astype(np.float64)
    standard = StandardScaler()
    state = standard.pool(multihost_utils.process_allgather(standard.fit(mine)))
    np.testing.assert_allclose(np.asarray(state.mean), exact.mean(0), rtol=1e-7)
    np.testing.assert_allclose(np.asarray(state.var), exact.var(0), rtol=2e-6)
    least = MinMaxScaler()
    both = least.pool(multihost_utils.process_allgather(least.fit(mine)))
    whole = least.fit(ROWS)
    assert all(np.array_equal(a, b) for a, b in zip(both, whole, strict=True))


def recalibration(folder: Path) -> None:
    mesh, norm = mesh_of_all(), jaxnorm.linen.BatchNorm(use_running_average=False)
    data = np.random.default_rng(1).normal(50, 2, (3, 8, 3)).astype(np.float32)
    variables = norm.init(jax.random.key(0), data[0])
    variables = multihost_utils.host_local_array_to_global_array(variables, mesh, P())
    die = deaths(folder)

    def batches():
        for i, part in enumerate(data):
            die("recalibration", i)
            yield sharded(part, mesh, "data")

    found = recalibrate(norm.apply, variables, batches())
    exact = data.reshape(-1, 3).astype(np.float64)
    stats = found["batch_stats"]
    np.testing.assert_allclose(np.asarray(stats["mean"]), exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(np.asarray(stats["var"]), exact.var(0), rtol=2e-6)


def evaluation(folder: Path) -> None:
    """Six rows in batches of two: two batches on the first host, one on the second."""
    state, data = fresh(), batch(0)
    evaluate = make_eval_step(MODEL, cross_entropy)
    mine = (0, 2) if jax.process_index() == 0 else (4,)
    parts = [{k: v[i : i + 2] for k, v in data.items()} for i in mine]
    means = pool_metrics([(evaluate(state, part), 2) for part in parts])
    whole = evaluate(state, {k: v[:6] for k, v in data.items()})
    np.testing.assert_allclose(means["loss"], whole["loss"], rtol=1e-6)
    np.testing.assert_allclose(means["accuracy"], whole["accuracy"], rtol=1e-6)
    # A host without any row: zeros of no weight.
    value = 3.0 if jax.process_index() == 0 else float("nan")
    rows = 4 if jax.process_index() == 0 else 0
    assert pool_metrics([({"loss": jnp.array(value)}, rows)])["loss"] == 3.0


def checkpoints(folder: Path) -> None:
    """Continues the one process's run, of which each device here holds a part."""
    mesh = mesh_of_all()
    template = placed(mesh, seed=1)
    state = restore_checkpoint(folder / "one", template)
    assert int(state.step) == 2
    assert state.params["kernel"].sharding.spec == P("data")
    step = make_train_step(MODEL, TX, cross_entropy)
    for i in range(2, 4):
        data = batch(i)
        state, _ = step(state, {k: sharded(v, mesh, "data") for k, v in data.items()})
    save_checkpoint(folder / "two", state)
    assert latest_step(folder / "two") == 4


CHECKS = (unequal_shards, scalers, recalibration, evaluation, checkpoints)


def checks(folder: Path) -> None:
    for check in CHECKS:
        check(folder)
        print("passed", check.__name__, flush=True)


TASKS = {
    "full_disk": full_disk,
    "checks": checks,
    "recalibration": recalibration,
    "stopped": stopped,
    "train": train,
}

if __name__ == "__main__":
    task, rank, address, folder = sys.argv[1:]
    join(int(rank), address)
    TASKS[task](Path(folder))
    multihost_utils.sync_global_devices("end")
    jax.distributed.shutdown()
