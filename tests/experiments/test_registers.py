"""What ptxas says of a module becomes a row per kernel."""

from experiments.bench._registers import Kernel, kernels, registers_table

PTX = """
.visible .entry _forward(
	.param .u64 .ptr .global .align 16 _forward_param_0
)
.reqntid 256, 1, 1
{
	ret;
}
.visible .entry fusion(
	.param .u64 .ptr .global .align 16 fusion_param_0
)
.maxntid 1024, 1, 1
{
	ret;
}
"""
SAID = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_forward' for 'sm_90a'
ptxas info    : Function properties for _forward
    8 bytes stack frame, 24 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers
ptxas info    : Compiling entry function 'fusion' for 'sm_90a'
ptxas info    : Function properties for fusion
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 31 registers, used 1 barriers, 8320 bytes smem
"""


def test_every_kernel_of_a_module_has_its_threads_registers_and_spills():
    found = kernels(PTX, SAID)
    assert found == [Kernel("_forward", 256, 48, 24), Kernel("fusion", 1024, 31, 0)]
    rows = [{"case": "layer 8x64", "dtype": "float32", **kernel._asdict()} for kernel in found]
    assert registers_table(rows).splitlines()[2:] == [
        "| layer 8x64 | float32 | `_forward` 256, 48; `fusion` 1024, 31 | 24 |"
    ]
