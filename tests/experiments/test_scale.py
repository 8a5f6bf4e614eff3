"""The plan for many chips: what is read in a program, and what follows from it."""

import pytest

from experiments.__main__ import main
from experiments.bench import _scale, _scale_table
from experiments.bench._exchanges import Exchange, exchanges
from experiments.bench._large import LARGE

PROGRAM = """\
HloModule jit_step, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

ENTRY %main (x: bf16[8,4]) -> f32[4] {
  %x = bf16[8,4]{1,0} parameter(0)
  %ag.1 = (f32[1,4]{1,0}, f32[8,4]{1,0}) all-gather-start(%x), metadata={op_name="BatchNorm_0/ag"}
  %fusion = f32[4]{0} fusion(%x), kind=kLoop
  %dot.1 = f32[4]{0} dot(%x, %x)
  %all-gather-done.1 = f32[8,4]{1,0:T(8,128)} all-gather-done(%ag.1)
  %fusion.2 = f32[4]{0} fusion(%all-gather-done.1), kind=kLoop
  %sum.2 = f32[4]{0} all-reduce(%fusion.2), to_apply=%add
  %bitcast.3 = f32[2,2]{1,0} bitcast(%sum.2)
  %fusion.3 = f32[4]{0} fusion(%bitcast.3), kind=kLoop, metadata={op_name="BatchNorm_1/sub"}
  ROOT %r = (f32[4]{0:T(256)S(1)}, bf16[3]{0}, f32[]) all-reduce(%f, %x), metadata={op_name="psum"}
}
"""


def test_exchanges_are_read_with_their_bytes_and_what_runs_meanwhile():
    assert exchanges(PROGRAM) == [
        Exchange("all-gather", 128, "BatchNorm_0/ag", True, 2),
        Exchange("all-reduce", 16, "BatchNorm_1/sub", False, 0),  # that of what reads it
        Exchange("all-reduce", 16 + 6 + 4, "psum", False, 0),
    ]
    kernels = [found.of_parameters for found in exchanges(PROGRAM, {(3,), (8, 4)})]
    assert kernels == [128, 0, 6]  # what XLA exchanges along with something else
    assert [found.of_norm for found in exchanges(PROGRAM)] == [True, True, False]


def test_a_sum_for_all_is_received_twice_and_a_scattered_one_in_all_its_parts():
    sums = [Exchange(kind, 10, "", False, 0) for kind in ("all-reduce", "reduce-scatter")]
    assert _scale.received(sums, 4) == 20 + 40


@pytest.mark.parametrize(
    ("target", "chips", "links"),
    [("v5p", 8, 3), ("v5p", 64, 6), ("v5p", 1024, 16), ("v5e", 64, 14)],
)
def test_the_farthest_chip_is_half_of_a_ring_or_a_whole_line_away(target, chips, links):
    assert _scale.hops(target, chips) == links


@pytest.mark.slow
def test_short_models_are_the_whole_ones_with_fewer_layers():
    published = {"ResNet-50": 25_557_032, "ViT-L/16": 304_326_632}
    for model in LARGE:
        short, whole = (_scale.sizes_of(form(), 224) for form in (model.short, model.whole))
        # A mean takes the place of the class token: one token and its position less.
        assert whole.parameters == published[model.name] - 2048 * (model.name == "ViT-L/16")
        assert short.parameters < whole.parameters / 10
        assert short.channels < whole.channels / 10


def test_the_plan_is_the_short_models_exchanges_times_the_layers():
    row = {"model": "ResNet-50", "layout": "data parallel", "chips": 1024, "norms": 49}
    row |= {"compiled_norms": 4, "forward": 4, "forward_bytes": 10**6, "backward": 4}
    row |= {"backward_bytes": 1000, "others_bytes": 10**6, "channels_ratio": 37.7}
    found = _scale_table.plan("v5p", row | {"parameters_ratio": 75.0}, 24.6e9, 1024)
    assert found["norm_exchanges"] == 98
    # 98 times 16 hops of a microsecond; 37.7 MB over six links of 90 GB/s would be faster.
    assert found["norm_seconds"] == pytest.approx(98 * 16e-6)
    assert found["image_seconds"] == pytest.approx(24.6e9 / 459e12)
    # A fifth exchange is that of the norm of a shortcut, of which the whole model has four.
    apart = _scale_table.plan("v5p", row | {"parameters_ratio": 75.0, "forward": 5}, 24.6e9, 1024)
    assert apart["norm_exchanges"] == 53 + 49
    images = found["free_from"]
    step = images * found["image_seconds"] + found["norm_seconds"]
    assert 0.0499 < found["norm_seconds"] / step <= 0.05
    assert f"from {images} images a chip on" in _scale_table.sentences([found])[0]
    assert (
        f"| 1024 (1024) | 16 | 98 | 37.7 | 75 | 1.57 | 0.14 | 0.054 | {images} images"
        in _scale_table.plan_table("v5p", [found])
    )


def test_gathered_moments_grow_with_the_chips_in_both_layouts_and_sums_do_not():
    row = {"model": "ResNet-50", "layout": "data parallel", "chips": 64, "norms": 49}
    row |= {"compiled_norms": 4, "forward": 4, "forward_bytes": 10**6, "backward": 4}
    row |= {"backward_bytes": 1000, "others_bytes": 10**6, "channels_ratio": 2.0}
    row |= {"parameters_ratio": 75.0}
    gathered = _scale_table.plan("v5p", row, 24.6e9, 1024)
    assert gathered["norm_bytes"] == 2 * (16 * 10**6 + 1000)
    # So many bytes over the six links of a chip take longer than 98 times 16 hops.
    large = _scale_table.plan("v5p", row | {"forward_bytes": 10**8}, 24.6e9, 1024)
    assert large["norm_seconds"] == pytest.approx(2 * (16 * 10**8 + 1000) / (6 * 90e9))
    cut = _scale_table.plan("v5p", row | {"layout": "FSDP"}, 24.6e9, 1024)
    assert cut["norm_bytes"] == gathered["norm_bytes"]


@pytest.mark.slow
def test_the_compiled_model_of_a_transformer_has_as_many_parameters_as_it_is_scaled_by():
    (model,) = (model for model in LARGE if model.name == "ViT-L/16")
    small, large = (_scale.sizes_of(model.short(), pixels) for pixels in (64, 224))
    # One position for each patch of 16 x 16 pixels.
    assert large.parameters - small.parameters == (14**2 - 4**2) * 1024


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--count", "scale", "--aot", "h100"], "use one of ['v5e', 'v5p', 'v6e']"),
        (["--count", "atoms", "--aot", "v5e"], "count='atoms' is unknown"),
        (["--count", "registers", "--aot", "v5e"], "use one of ['h100']"),
    ],
)
def test_what_cannot_be_counted_is_refused_with_what_can(tmp_path, capsys, options, said):
    assert main(["bench", *options, "--out", str(tmp_path / "run")]) == 2
    assert said in " ".join(capsys.readouterr().out.split())
