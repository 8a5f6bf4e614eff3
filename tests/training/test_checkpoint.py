"""Checkpoints: bit-equal resumption, and errors that say what is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxnorm.training import (
    cross_entropy,
    latest_step,
    make_scan_steps,
    make_train_step,
    restore_checkpoint,
    save_checkpoint,
)
from jaxnorm.training._checksum import checksums, with_checksums
from jaxnorm.training._leaves import flat
from tests.training.digits import TX, bits, digits, rows, small_model, start

TREE = {"a": jnp.arange(3.0), "b": (jnp.ones(2, jnp.int32), None)}


def test_resumed_run_ends_with_the_bits_of_one_that_was_not_interrupted(tmp_path):
    model = small_model(dropout_rate=0.2)
    data = jax.tree.map(jnp.asarray, rows(digits(), 0, 100))
    step = make_train_step(model, TX, cross_entropy)
    train = make_scan_steps(step, batch_size=32, num_steps=5, donate=False)
    half, _ = train(start(model), data)
    whole, _ = train(half, data)
    save_checkpoint(tmp_path, half)
    restored = restore_checkpoint(tmp_path, start(model, seed=1))
    assert bits(restored) == bits(half)
    assert bits(train(restored, data)[0]) == bits(whole)


def test_restored_tree_has_the_structure_and_types_of_the_template(tmp_path):
    state = start()._replace(rng=jax.random.key(5, impl="rbg"))
    save_checkpoint(tmp_path, state)
    restored = restore_checkpoint(tmp_path, state._replace(rng=jax.random.key(0, impl="rbg")))
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert [leaf.dtype for leaf in jax.tree.leaves(restored)] == [
        leaf.dtype for leaf in jax.tree.leaves(state)
    ]
    assert jax.random.key_data(restored.rng).tolist() == jax.random.key_data(state.rng).tolist()


def test_form_of_a_state_is_a_template(tmp_path):
    state = start()
    save_checkpoint(tmp_path, state)
    restored = restore_checkpoint(tmp_path, jax.eval_shape(lambda: state))
    assert bits(restored) == bits(state)


def test_edited_array_is_refused_by_name(tmp_path):
    tree = {"good": jnp.arange(4.0), "edited": jnp.arange(3.0)}
    altered = {**with_checksums(flat(tree)), "['edited']": jnp.array([0.0, 1.0, 2.0000002])}
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(3, args=ocp.args.StandardSave(altered))
    with pytest.raises(ValueError, match=r"/3 was changed .*1 of 2 .*\['edited'\]"):
        restore_checkpoint(tmp_path, tree)


def test_checksum_sees_every_entry_its_place_and_every_dtype():
    dtypes = ("bool", "int4", "uint8", "float8_e4m3fn", "bfloat16", "float32", "complex64")
    for dtype in dtypes:
        drawn = jnp.array([[0, 1, 1], [0, 0, 1]])
        x, other = drawn.astype(dtype), (1 - drawn).astype(dtype)
        changed = [x.at[i, j].set(other[i, j]) for i in range(2) for j in range(3)]
        sums = [int(checksums({"x": y})[0]) for y in (x, *changed)]
        assert len(set(sums)) == 7, dtype
        assert int(checksums({"x": x})[0]) == sums[0]


def test_newest_checkpoints_are_kept_and_any_of_them_restored(tmp_path):
    for step in (1, 5, 9, 20):
        save_checkpoint(tmp_path, {"a": jnp.array(step)}, step=step, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["20", "9"]
    assert latest_step(tmp_path) == 20
    template = {"a": jnp.array(0)}
    assert restore_checkpoint(tmp_path, template)["a"] == 20
    assert restore_checkpoint(tmp_path, template, step=9)["a"] == 9


def test_checkpoint_that_was_not_finished_is_none(tmp_path):
    (tmp_path / "7.orbax-checkpoint-tmp").mkdir()
    assert latest_step(tmp_path) is None
    save_checkpoint(tmp_path, TREE, step=3)
    assert latest_step(tmp_path) == 3


def test_folder_without_checkpoints_is_named(tmp_path):
    assert latest_step(tmp_path / "none") is None
    with pytest.raises(FileNotFoundError, match="none"):
        restore_checkpoint(tmp_path / "none", TREE)


def test_missing_step_is_refused_with_the_steps_there_are(tmp_path):
    save_checkpoint(tmp_path, TREE, step=3)
    with pytest.raises(FileNotFoundError, match=r"step 4.*\[3\]"):
        restore_checkpoint(tmp_path, TREE, step=4)


def test_step_that_is_not_the_newest_is_refused(tmp_path):
    save_checkpoint(tmp_path, TREE, step=3)
    for step in (2, 3):
        with pytest.raises(ValueError, match=f"step 3, and step {step}"):
            save_checkpoint(tmp_path, TREE, step=step)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({**TREE, "a": jnp.zeros(4)}, r"'a'.: saved float32 \[3\], template float32 \[4\]"),
        ({**TREE, "a": jnp.zeros(3, jnp.bfloat16)}, r"template bfloat16 \[3\]"),
        ({**TREE, "c": jnp.zeros(1)}, r"'c'.: saved nothing, template float32 \[1\]"),
        ({"a": TREE["a"]}, r"saved int32 \[2\], template nothing"),
    ],
)
def test_template_that_does_not_fit_is_refused_by_the_arrays_that_differ(
    tmp_path, template, message
):
    save_checkpoint(tmp_path, TREE, step=3)
    with pytest.raises(ValueError, match=message):
        restore_checkpoint(tmp_path, template)


def test_folder_that_cannot_be_made_is_an_os_error(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError, match="file"):
        save_checkpoint(blocked / "run", TREE, step=1)


def test_keeping_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="keep=0"):
        save_checkpoint(tmp_path, TREE, step=1, keep=0)


@pytest.mark.parametrize("kind", ["data", "metadata"])
def test_damaged_checkpoint_is_named(tmp_path, kind):
    tree = {"a": jnp.asarray(np.random.default_rng(0).random(999))}
    path = save_checkpoint(tmp_path, tree, step=3)
    files = [file for file in path.rglob("*") if file.is_file()]
    damaged = max(files, key=lambda file: file.stat().st_size)
    if kind == "metadata":
        damaged = path / "default" / "_METADATA"
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{path} cannot be read"):
        restore_checkpoint(tmp_path, tree)
