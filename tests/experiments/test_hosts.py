"""Experiments on many hosts: two processes, one folder, and the numbers of one process."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import _registry
from experiments.__main__ import main
from experiments._errors import RunError
from experiments._hosts import DATA_PARALLEL, REPLICATED, Hosts
from experiments._run import follow, own_folder
from experiments._tables import read_table
from tests.hosts import pair


def test_an_experiment_that_does_not_run_on_many_hosts_says_so_before_any_work(tmp_path, capsys):
    assert main(["bench", "--distributed", "--out", str(tmp_path / "run")]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "does not run on many hosts: it times one machine" in said
    assert not (tmp_path / "run").exists()


def test_a_place_among_the_processes_is_given_in_full(tmp_path, capsys):
    assert main(["quickstart", "--process", "1", "--out", str(tmp_path / "run")]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "--coordinator, --processes and --process go together, got (None, None, 1)" in said


def test_without_a_cluster_the_error_says_how_processes_are_started(tmp_path, capsys):
    assert main(["quickstart", "--distributed", "--out", str(tmp_path / "run")]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "--coordinator HOST:PORT --processes COUNT --process NUMBER" in said


def test_every_row_says_how_the_experiment_runs_on_many_hosts():
    ways = {row.name: row.hosts for row in _registry.ROWS}
    shared = {name for name, way in ways.items() if way == DATA_PARALLEL}
    assert shared == {"quickstart", "cifar", "inception"}
    refused = {name for name, way in ways.items() if way not in (DATA_PARALLEL, REPLICATED)}
    assert refused == {"bench", "bench.tune"}


def test_devices_share_the_rows_of_a_batch_and_hold_the_data_whole():
    hosts, x = Hosts(parallel=True), np.arange(32.0).reshape(16, 2)
    tree = hosts.everywhere({"x": x, "key": jax.random.key(3)})
    assert tree["x"].sharding.is_fully_replicated
    assert len(tree["x"].sharding.device_set) == jax.device_count() == 8
    assert jnp.array_equal(jax.random.key_data(tree["key"]), jax.random.key_data(jax.random.key(3)))
    rows = jax.jit(lambda x: hosts.shared(x))(tree["x"])
    assert {shard.data.shape for shard in rows.addressable_shards} == {(2, 2)}
    np.testing.assert_array_equal(rows, x)
    odd = jax.jit(lambda x: hosts.shared(x[:9]))(tree["x"])
    assert odd.sharding.is_fully_replicated
    with pytest.raises(RunError, match="batch_size=12 cannot be shared by 8 devices"):
        hosts.check_batch(12)


def test_one_process_shares_nothing():
    hosts, x = Hosts(), jnp.ones((3, 2))
    assert hosts.everywhere(x) is x and hosts.shared(x) is x and hosts.whole is None
    hosts.check_batch(3)
    assert hosts.in_turn(lambda: 1, lambda: 2) == 1


def test_another_process_writes_beside_the_run_and_begins_with_its_tables(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    with own_folder(tmp_path, Hosts(index=1, count=2)) as own:
        with pytest.raises(RunError, match="a folder that all hosts see"):
            follow(tmp_path, own, resume=False)
        (tmp_path / "run.json").write_text("{}")
        (tmp_path / "curves.csv").write_text("step\n1\n")
        follow(tmp_path, own, resume=False)
        assert {path.name for path in own.iterdir()} == {"run.json"}
        follow(tmp_path, own, resume=True)
        assert (own / "curves.csv").read_text() == "step\n1\n"
    assert not own.exists()
    with own_folder(tmp_path, Hosts()) as own:
        assert own == tmp_path


def together(out: Path, *arguments: str) -> list[str]:
    """Runs an experiment as two processes of two devices; returns what each of them said."""
    address = pair.free_address()
    options = ["-m", "experiments", *arguments, "--out", str(out), "--coordinator", address]
    commands = [[*options, "--processes", "2", "--process", str(rank)] for rank in range(2)]
    outputs = [out.with_suffix(f".{rank}.txt") for rank in range(2)]
    devices = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    with pair.started(commands, outputs, **devices) as hosts:
        codes = [host.ended(600) for host in hosts]
        assert codes == [0, 0], "\n".join(host.said() for host in hosts)
        return [host.said() for host in hosts]


QUICK = ["quickstart", "--preset", "smoke", "--norms", "batch", "--epochs", "1"]
SWEEP = ["optimizers", "--preset", "smoke", "--steps", "100", "--seeds", "0"]


@pytest.mark.slow
@pytest.mark.parametrize(("command", "table"), [(QUICK, "curves"), (SWEEP, "curves")])
def test_two_processes_write_the_numbers_of_one_once(tmp_path, command, table):
    first, second = together(tmp_path / "two", *command)
    assert "run.json, tables and" in first and "run.json" not in second
    assert main([*command, "--out", str(tmp_path / "one")]) == 0
    two, one = (read_table(tmp_path / name / f"{table}.csv") for name in ("two", "one"))
    assert list(two) == list(one)
    for column, values in one.items():
        if values.dtype.kind == "f":
            # A step of training is as exact as float32; a hundred of them move apart.
            np.testing.assert_allclose(two[column], values, rtol=1e-3, atol=1e-3)
        else:
            np.testing.assert_array_equal(two[column], values)
    report = json.loads((tmp_path / "two/run.json").read_text())
    assert report["results"] is not None and "2 processes" in report["hardware"]
    # One process goes on from the checkpoints of two, which are at the end already.
    assert main([*command, "--out", str(tmp_path / "two"), "--resume"]) == 0
    again = read_table(tmp_path / "two" / f"{table}.csv")
    assert all(np.array_equal(again[column], values) for column, values in two.items())
