"""What fits, what does not, and what a report says, with state dicts of plain arrays."""

import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxnorm.interop import (
    Layout,
    after_flatten,
    from_haiku,
    from_keras,
    from_torch,
    norm_options,
    read_weights,
    to_haiku,
    to_keras,
    to_torch,
)
from jaxnorm.linen import BatchNorm
from jaxnorm.stats import cumulative, debiased

RNG = np.random.default_rng(0)


def state_dict():
    return {
        "fc.weight": RNG.normal(size=(4, 3)).astype(np.float32),
        "fc.bias": RNG.normal(size=4).astype(np.float32),
        "bn.weight": RNG.normal(size=4).astype(np.float32),
        "bn.bias": RNG.normal(size=4).astype(np.float32),
        "bn.running_mean": RNG.normal(size=4).astype(np.float32),
        "bn.running_var": RNG.uniform(1, 2, 4).astype(np.float32),
        "bn.num_batches_tracked": np.array(7),
    }


def template():
    return {
        "params": {
            "fc": {"kernel": np.zeros((3, 4), np.float32), "bias": np.zeros(4, np.float32)},
            "bn": {"scale": np.zeros(4, np.float32), "bias": np.zeros(4, np.float32)},
        },
        "batch_stats": {"bn": {"mean": np.zeros(4, np.float32), "var": np.ones(4, np.float32)}},
    }


def test_each_leaf_has_its_place_and_the_report_says_which():
    state = state_dict()
    done = from_torch(state, template())
    assert np.array_equal(done.variables["params"]["fc"]["kernel"], state["fc.weight"].T)
    assert np.array_equal(done.variables["batch_stats"]["bn"]["var"], state["bn.running_var"])
    lines = done.report().splitlines()
    assert lines[0] == "fc.weight [4, 3] -> fc/kernel [3, 4] float32, [out, in] -> [in, out]"
    assert lines[2] == "bn.weight [4] -> bn/scale [4] float32"
    assert lines[-1].startswith("left out: bn.num_batches_tracked: ")
    assert done.derived == {} and len(done.mapped) == 6


def test_every_fault_is_named_at_once_with_both_shapes():
    state, like = state_dict(), template()
    state["fc.weight"] = np.zeros((5, 3), np.float32)
    state["gone.weight"] = np.zeros(2, np.float32)
    del state["bn.bias"]
    with pytest.raises(ValueError) as error:
        from_torch(state, like)
    text = str(error.value)
    assert "3 faults, nothing was converted" in text
    assert "shape: fc.weight [5, 3] -> fc/kernel [3, 4], [3, 5] by [out, in] -> [in, out]" in text
    assert "left over: gone.weight [2]: like has no gone/kernel or gone/scale" in text
    assert "missing: nothing becomes bn/bias [4]" in text
    assert np.array_equal(like["params"]["fc"]["kernel"], np.zeros((3, 4)))


def test_every_fault_on_the_way_back_is_named_as_well():
    variables, like = template(), state_dict()
    variables["params"]["head"] = {"kernel": np.zeros((4, 2), np.float32)}
    del variables["params"]["bn"]["scale"]
    like["fc.bias"] = np.zeros(5, np.float32)
    with pytest.raises(ValueError) as error:
        to_torch(variables, like)
    text = str(error.value)
    assert "shape: fc/bias [4] -> fc.bias [5]" in text
    assert "missing: bn.weight [4] needs bn/kernel or bn/scale or bn/embedding" in text
    assert "left over: head/kernel [4, 2]: like has no place for it" in text


def test_the_dtype_is_that_of_the_template_and_the_report_has_both():
    like = jax.tree.map(lambda v: jax.ShapeDtypeStruct(v.shape, jnp.bfloat16), template())
    done = from_torch(state_dict(), like)
    assert done.variables["params"]["fc"]["bias"].dtype == jnp.bfloat16
    assert done.mapped[1].dtypes == "float32 as bfloat16"
    with pytest.raises(ValueError, match=r"dtype: fc.bias \[4\] -> fc/bias \[4\]: int64 cannot be"):
        from_torch({**state_dict(), "fc.bias": np.arange(4)}, like)


def test_names_are_a_mapping_or_a_function_of_layers_and_of_single_leaves():
    state = {"a.0.weight": np.ones(4), "ls.gamma": np.ones(2), "aux.weight": np.ones(1)}
    like = {"params": {"x": {"scale": np.zeros(4)}, "y": {"scale": np.zeros(2)}}}
    names = {"a.0": "x", "ls.gamma": "y/scale", "aux": None}
    done = from_torch(state, like, names=names)
    assert done.dropped == {"aux.weight": "names leaves it out"}
    back = to_torch(done.variables, state, names=names)
    assert back.derived == {"aux.weight": "as in like"} and list(back.variables) == list(state)
    by_function = from_torch(
        {"a.0.weight": np.ones(4)},
        {"params": {"a_0": {"scale": np.zeros(4)}}},
        names=lambda layer: layer.replace(".", "_"),
    )
    assert by_function.variables["params"]["a_0"]["scale"].sum() == 4


def test_tied_weights_are_one_leaf_here_and_two_there():
    w = RNG.normal(size=(5, 3))
    like = {"params": {"embed": {"embedding": np.zeros((5, 3))}}}
    state, names = {"embed.weight": w, "lm_head.weight": w}, {"lm_head": "embed"}
    variables = from_torch(state, like, names=names).variables
    back = to_torch(variables, state, names=names).variables
    assert np.array_equal(back["embed.weight"], w) and np.array_equal(back["lm_head.weight"], w)
    with pytest.raises(ValueError, match=r"twice: lm_head.weight \[5, 3\] -> embed/embedding: two"):
        from_torch({**state, "lm_head.weight": w + 1}, like, names=names)


def test_an_nnx_model_is_a_template_and_a_source():
    model = nnx.Sequential(
        nnx.Linear(3, 4, rngs=nnx.Rngs(0)),
        nnx.BatchNorm(4, rngs=nnx.Rngs(0)),
        nnx.Dropout(0.1, rngs=nnx.Rngs(0)),
    )
    names, state = {"fc": "layers/0", "bn": "layers/1"}, state_dict()
    new = from_torch(state, model, names=names).variables
    assert np.array_equal(new.layers[0].kernel[...], state["fc.weight"].T)
    back = to_torch(new, state, names=names).variables
    assert list(back) == list(state)
    assert all(np.array_equal(back[key], state[key]) for key in state)


def test_debiased_averages_need_the_decay_and_keep_their_count():
    sums = {"average": np.full(4, 8.0), "hidden": np.full(4, 6.0), "counter": np.array(2)}
    state = {"bn/~/mean_ema": sums, "bn/~/var_ema": sums}
    norm = BatchNorm(True, estimator=debiased(0.5), use_bias=False, use_scale=False)
    like = norm.init(jax.random.key(0), np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match=r"estimator_state/weight \[4\]; pass decay="):
        from_haiku(({}, state), like, names={"bn": ""})
    variables = from_haiku(({}, state), like, names={"bn": ""}, decay=0.5).variables
    kept = variables["batch_stats"]["estimator_state"]
    assert kept.mean.tolist() == [6.0] * 4 and kept.weight.tolist() == [0.75] * 4
    with pytest.raises(ValueError, match=r"missing: bn/~/mean_ema/counter \[\] needs"):
        to_haiku(variables, ({}, state), names={"bn": ""})
    _, back = to_haiku(variables, ({}, state), names={"bn": ""}, decay=0.5).variables
    assert back["bn/~/var_ema"]["counter"] == 2
    assert np.array_equal(back["bn/~/var_ema"]["hidden"], sums["hidden"])


def test_an_estimator_that_counts_samples_is_refused_with_the_one_that_counts_batches():
    norm = BatchNorm(True, estimator=cumulative(), use_bias=False, use_scale=False)
    like = norm.init(jax.random.key(0), np.ones((2, 4), np.float32))
    state = {key: value for key, value in state_dict().items() if "running" in key}
    with pytest.raises(ValueError, match="average_of_batches\\(\\) counts batches"):
        from_torch(state, like, names={"bn": ""})


def test_a_rule_about_nothing_is_a_fault():
    options = {"names": {"fc": "fc", "cf": "fc"}, "layouts": {"conv*": "conv"}, "keep": ("head/*",)}
    with pytest.raises(ValueError) as error:
        from_torch(state_dict(), template(), **options)
    assert "names['cf'] is no layer there" in str(error.value)
    assert "layouts['conv*'] is no layer there" in str(error.value)
    assert "keep='head/*' is no leaf of like" in str(error.value)


def test_a_new_head_stays_as_it_is():
    like = template()
    like["params"]["head"] = {"kernel": np.full((4, 2), 5.0, np.float32)}
    done = from_torch(state_dict(), like, keep=("head/*",))
    assert np.all(done.variables["params"]["head"]["kernel"] == 5)
    assert done.derived == {"head/kernel": "as in like"}
    shapes = jax.eval_shape(lambda: jax.tree.map(jnp.asarray, like))
    with pytest.raises(ValueError, match=r"keep: like has only the shape of head/kernel \[4, 2\]"):
        from_torch(state_dict(), shapes, keep=("head/*",))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolutions_give_what_the_definition_gives(rank):
    # y[o] = sum over i and positions of w[o, i, *] x[i, *], at the one place where both fit.
    shape = (2, 3, 4)[:rank]
    w, x = RNG.normal(size=(5, 6, *shape)), RNG.normal(size=(6, *shape))
    expected = (w * x).reshape(5, -1).sum(1)
    conv = nn.Conv(5, shape, padding="VALID", use_bias=False)
    given = np.moveaxis(x, 0, -1)[None].astype(np.float32)
    like = jax.eval_shape(conv.init, jax.random.key(0), given)
    variables = from_torch({"weight": w}, like).variables
    assert np.allclose(conv.apply(variables, given).ravel(), expected, rtol=1e-5, atol=1e-5)
    back = to_torch(variables, {"weight": w.astype(np.float32)}).variables
    assert np.array_equal(back["weight"], w.astype(np.float32))


def test_the_layer_behind_a_flatten_takes_its_inputs_in_our_order():
    w, x = RNG.normal(size=(3, 2 * 4 * 5)), RNG.normal(size=(2, 4, 5))
    layouts, like = (
        {"fc": after_flatten(2, 4, 5)},
        {"params": {"fc": {"kernel": np.zeros((40, 3))}}},
    )
    variables = from_torch({"fc.weight": w}, like, layouts=layouts).variables
    y = np.moveaxis(x, 0, -1).ravel() @ variables["params"]["fc"]["kernel"]
    assert np.allclose(y, w @ x.ravel())
    assert np.array_equal(
        to_torch(variables, {"fc.weight": w}, layouts=layouts).variables["fc.weight"], w
    )
    with pytest.raises(ValueError, match=r"fc.weight \[3, 41\] -> fc/kernel \[40, 3\]"):
        from_torch({"fc.weight": np.zeros((3, 41))}, like, layouts=layouts)
    with pytest.raises(ValueError, match="needs the channels and at least one position"):
        after_flatten(3)


def test_a_scale_that_is_stored_less_one_becomes_whole_and_back():
    w = np.array([0.5, -0.25, 0.0], np.float32)
    like, layouts = (
        {"params": {"norm": {"scale": np.zeros(3, np.float32)}}},
        {"n*": "zero_centered"},
    )
    variables = from_torch({"norm.weight": w}, like, layouts=layouts).variables
    assert np.array_equal(variables["params"]["norm"]["scale"], 1 + w)
    assert np.array_equal(
        to_torch(variables, {"norm.weight": w}, layouts=layouts).variables["norm.weight"], w
    )
    with pytest.raises(ValueError, match="is no layout of PyTorch; use one of dense, conv"):
        from_torch({"norm.weight": w}, like, layouts={"norm": "transposed"})


def test_a_layout_of_ones_own_is_used_both_ways():
    heads = Layout(
        "[H * D, in] -> [in, H, D]",
        lambda a, shape: a.T.reshape(shape),
        lambda a, shape: a.reshape(len(a), -1).T,
    )
    w = RNG.normal(size=(6, 4))
    like, layouts = {"params": {"q": {"kernel": np.zeros((4, 2, 3))}}}, {"q": heads}
    variables = from_torch({"q.weight": w}, like, layouts=layouts).variables
    assert np.array_equal(variables["params"]["q"]["kernel"][:, 1, 2], w[5])
    assert np.array_equal(
        to_torch(variables, {"q.weight": w}, layouts=layouts).variables["q.weight"], w
    )


def test_data_parallel_prefixes_are_left_out():
    state = {f"module.{key}": value for key, value in state_dict().items()}
    done = from_torch(state, template())
    assert np.array_equal(done.variables["params"]["bn"]["scale"], state["module.bn.weight"])
    assert list(to_torch(done.variables, state).variables) == list(state)


def test_haiku_names_its_norms_by_their_modules():
    ones = np.ones((1, 1, 1, 4), np.float32)
    params = {"net/~/bn": {"scale": ones, "offset": 2 * ones}}
    state = {
        f"net/~/bn/~/{name}": {"average": k * ones, "hidden": k * ones / 4, "counter": np.array(2)}
        for name, k in (("mean_ema", 3), ("var_ema", 5))
    }
    like = {
        "params": {
            "net": {"bn": {"scale": np.zeros(4, np.float32), "bias": np.zeros(4, np.float32)}}
        },
        "batch_stats": {
            "net": {"bn": {"mean": np.zeros(4, np.float32), "var": np.zeros(4, np.float32)}}
        },
    }
    variables = from_haiku((params, state), like).variables
    assert variables["batch_stats"]["net"]["bn"]["var"].tolist() == [5.0] * 4
    new_params, new_state = to_haiku(variables, (params, state)).variables
    assert np.array_equal(new_params["net/~/bn"]["offset"], 2 * ones)
    # Without a memory of its start the average is its own sum, and debiasing has nothing to do.
    assert np.array_equal(new_state["net/~/bn/~/mean_ema"]["hidden"], 3 * ones)
    assert new_state["net/~/bn/~/mean_ema"]["counter"] > 10**9


def test_a_depthwise_kernel_of_keras_is_one_with_groups_here():
    kernel = RNG.normal(size=(3, 3, 4, 2))
    like = {"params": {"dw": {"kernel": np.zeros((3, 3, 1, 8))}}}
    variables = from_keras({"dw/kernel": kernel}, like).variables
    ours = variables["params"]["dw"]["kernel"]
    assert np.array_equal(ours[:, :, 0, 5], kernel[:, :, 2, 1])
    assert np.array_equal(to_keras(variables, {"dw/kernel": kernel}).variables["dw/kernel"], kernel)


def test_archives_are_read_as_they_are(tmp_path):
    np.savez(tmp_path / "net.npz", **state_dict())
    found = read_weights(tmp_path / "net.npz")
    assert {key: value.dtype for key, value in found.items()} == {
        key: value.dtype for key, value in state_dict().items()
    }
    done = from_torch(tmp_path / "net.npz", template())
    assert np.array_equal(done.variables["params"]["bn"]["bias"], found["bn.bias"])
    with pytest.raises(ValueError, match="is none of .safetensors, .npz"):
        read_weights(tmp_path / "net.h5")
    with pytest.raises(ValueError, match="not arrays of numbers: a"):
        from_torch({"a": np.array(["text"])}, template())


def test_safetensors_keep_bfloat16(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy", reason="needs the extra `parity`")
    value = np.arange(4).astype(jnp.bfloat16)
    safetensors.save_file({"norm.weight": value}, tmp_path / "net.safetensors")
    like = {"params": {"norm": {"scale": jnp.zeros(4, jnp.bfloat16)}}}
    scale = from_torch(tmp_path / "net.safetensors", like).variables["params"]["norm"]["scale"]
    assert scale.dtype == jnp.bfloat16 and np.array_equal(scale, value)


def test_what_like_is_and_what_a_norm_is_are_checked():
    with pytest.raises(TypeError, match="a dictionary of collections"):
        from_torch(state_dict(), [1, 2])
    with pytest.raises(ValueError, match="two collections have the leaves bn/mean"):
        from_torch({}, {"params": {"bn": {"mean": 1.0}}, "batch_stats": {"bn": {"mean": 1.0}}})
    with pytest.raises(
        TypeError, match="Dense is no norm of flax that is known; .* BatchNorm, LayerNorm"
    ):
        norm_options(nn.Dense(3))
    with pytest.raises(TypeError, match="dict is no norm of torch, haiku, equinox, keras, flax"):
        norm_options({})


FRESH = """
import sys
from jaxnorm import interop

frameworks = ("torch", "haiku", "equinox", "keras", "safetensors")
interop.from_torch({}, {}), interop.from_haiku({}, {}), interop.from_keras({}, {})
assert not set(frameworks) & set(sys.modules)
for name in frameworks:
    sys.modules[name] = None  # as if it were not installed
for call in (
    lambda: interop.read_weights("a.pt"),
    lambda: interop.read_weights("a.safetensors"),
    lambda: interop.from_equinox(None, {}),
):
    try:
        call()
    except ImportError as error:
        assert 'pip install "jaxnorm[parity]"' in str(error), error
    else:
        raise AssertionError
"""


def test_frameworks_are_imported_by_the_functions_that_need_them_alone():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
