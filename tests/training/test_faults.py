"""What a full disk, a folder without permission and signals leave of a run: its last checkpoint."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxnorm.training import latest_step, restore_checkpoint, save_checkpoint
from tests.training.child import trained
from tests.training.digits import bits, start

ROOT = Path(__file__).parents[2]
# Lets the permissions of folders count for root also: it gives up CAP_DAC_OVERRIDE for good
# (1 in linux/capability.h) by PR_CAPBSET_DROP (24 in linux/prctl.h).
AS_ANYONE = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1); os.execv(sys.executable, sys.argv[1:])"
)


def child(task: str, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tests.training.child", task, str(folder)]
    if sys.platform == "linux" and os.geteuid() == 0:
        command = [sys.executable, "-c", AS_ANYONE, *command]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_folder_without_permission_and_full_disk_are_named_and_earlier_checkpoints_stay(tmp_path):
    said, _ = (process := child("refused", tmp_path)).communicate(timeout=120)
    assert process.returncode == 0, said
    refusals = [line for line in said.splitlines() if line.startswith("1 True")]
    assert [f"step 2 cannot be written to {tmp_path}" in line for line in refusals] == [True, True]
    assert ["ermission denied" in line for line in refusals] == [True, False]
    assert ["File too large" in line for line in refusals] == [False, True]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


@pytest.mark.slow
def test_run_that_is_killed_while_it_writes_goes_on_from_the_last_whole_checkpoint(tmp_path):
    said, _ = (process := child("killed", tmp_path)).communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, said
    assert latest_step(tmp_path) == 2
    assert len(list(tmp_path.iterdir())) == 2  # and what was being written
    restored = restore_checkpoint(tmp_path, start(seed=1))
    assert int(restored.step) == 2
    again = trained(4, restored)
    save_checkpoint(tmp_path, again)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "4"]
    assert bits(again) == bits(trained(4, start()))


def test_sigterm_saves_a_checkpoint_from_which_the_run_goes_on_bit_for_bit(tmp_path):
    process = child("stopped", tmp_path)
    assert process.stdout is not None
    while (line := process.stdout.readline()) and not line.startswith("step 2"):
        pass
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 143, said
    done = latest_step(tmp_path)
    assert done is not None and said.split()[-2:] == ["saved", str(done)]
    restored = restore_checkpoint(tmp_path, start(seed=1))
    assert bits(trained(done + 3, restored)) == bits(trained(done + 3, start()))
