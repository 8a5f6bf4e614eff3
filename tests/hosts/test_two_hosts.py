"""Two processes count as one large machine, and the death of one ends the other in time."""

import signal

import jax
import numpy as np
import pytest

from jaxnorm.training import (
    cross_entropy,
    latest_step,
    make_train_step,
    restore_checkpoint,
    save_checkpoint,
)
from tests.hosts import pair
from tests.hosts.run import MODEL, TX, batch, fresh

TASKS = "tests.hosts.tasks"


def trained(steps, state=None):
    state = fresh() if state is None else state
    step = make_train_step(MODEL, TX, cross_entropy)
    for i in range(int(state.step), steps):
        state, _ = step(state, batch(i))
    return state


def together(task, folder):
    with pair.hosts(TASKS, task, folder) as hosts:
        codes = [host.ended(180) for host in hosts]
        assert codes == [0, 0], "\n".join(host.said() for host in hosts)


def assert_close(found, wanted):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_two_hosts_agree_with_one_and_read_each_others_checkpoints(tmp_path):
    save_checkpoint(tmp_path / "one", trained(2))
    together("checks", tmp_path)
    found = restore_checkpoint(tmp_path / "two", fresh(seed=1))
    assert_close((found.params, found.opt_state), (trained(4).params, trained(4).opt_state))


@pytest.mark.slow
def test_sigterm_to_one_host_ends_both_after_the_same_step_with_a_checkpoint(tmp_path):
    together("stopped", tmp_path)
    done = latest_step(tmp_path / "run")
    assert done is not None and done > 2
    said = [(tmp_path / f"stopped{rank}.txt").read_text() for rank in range(2)]
    assert [text.split("saved ")[1].split()[0] for text in said] == [str(done)] * 2
    found = restore_checkpoint(tmp_path / "run", fresh(seed=1))
    assert_close(found.params, trained(done).params)


def dies(task, folder, moment):
    """Runs two hosts, one of which is killed, and sees that the other does not wait forever."""
    folder.mkdir()
    (folder / "die").write_text(moment)
    with pair.hosts(TASKS, task, folder) as hosts:
        dead = hosts.pop(int(moment[-1]))
        assert dead.ended(180) == -signal.SIGKILL, dead.said()
        assert hosts[0].ended(60) != 0
        assert "finished" not in hosts[0].said()
    (folder / "die").unlink()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    together("train", folder)
    return restore_checkpoint(folder / "run", fresh(seed=1))


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("moment", ["step 3 1", "checkpoint 4 0", "checkpoint 4 1"])
def test_killed_host_ends_the_other_and_the_restart_has_the_bits_of_a_whole_run(
    tmp_path, whole, moment
):
    broken = tmp_path / "broken"
    dies("train", broken, moment)
    assert latest_step(broken / "run") == 2
    together("train", broken)
    end = restore_checkpoint(broken / "run", fresh(seed=1))
    pairs = zip(*(jax.tree.leaves((x.params, x.opt_state)) for x in (end, whole)), strict=True)
    assert all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)
    assert_close(end.params, trained(6).params)


@pytest.mark.slow
def test_host_killed_in_a_recalibration_ends_the_other_and_it_can_be_done_again(tmp_path):
    dies("recalibration", tmp_path / "broken", "recalibration 1 1")
    together("recalibration", tmp_path / "broken")


@pytest.mark.slow
def test_full_disk_of_one_host_is_named_there_ends_both_and_leaves_the_checkpoint(tmp_path):
    with pair.hosts(TASKS, "full_disk", tmp_path) as (waiting, full):
        assert full.ended(180) != 0
        assert waiting.ended(60) != 0
    assert f"step 2 cannot be written to {tmp_path / 'run'}" in full.said()
    assert "finished" not in waiting.said()
    assert latest_step(tmp_path / "run") == 1
    found = restore_checkpoint(tmp_path / "run", fresh(seed=1))
    assert_close(found.params, fresh().params)
