"""Installing without a compiler, a broken library, and switching the kernels off."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import jax.numpy as jnp
import pytest
from hatchling.builders.wheel import WheelBuilder

import hatch_build
from jaxnorm.ops.kernels import _library, _native
from tests.ops.kernels.cases import native_serves, needs_native, standardized

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / hatch_build.KERNELS / "native"
needs_compiler = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


def build(tmp_path):
    return hatch_build.build(ROOT, tmp_path)


def test_without_a_compiler_the_reason_is_recorded(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    record = build(tmp_path)
    assert not record["built"] and "no-such-compiler" in record["reason"]
    assert json.loads((tmp_path / "record.json").read_text()) == record


def test_a_failing_compiler_is_quoted_and_leaves_no_library(monkeypatch, tmp_path):
    (tmp_path / hatch_build.LIBRARY).write_text("of an earlier build")
    monkeypatch.setenv("CXX", "false")
    record = build(tmp_path)
    assert record == {"built": False, "reason": "false failed with status 1: no message"}
    assert not (tmp_path / hatch_build.LIBRARY).exists()


def test_a_build_that_is_not_wanted_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXNORM_BUILD_NATIVE", "0")
    assert build(tmp_path)["reason"] == "JAXNORM_BUILD_NATIVE=0 was set at installation"


@needs_compiler
def test_a_build_is_not_repeated_until_something_changes(monkeypatch, tmp_path):
    commands = []

    def execute(command):
        commands.append(command)
        if "-o" in command:
            Path(command[command.index("-o") + 1]).write_text("made")
        return "a compiler"

    monkeypatch.setattr(hatch_build, "execute", execute)
    assert build(tmp_path) == build(tmp_path)
    assert sum("-shared" in command for command in commands) == 1
    monkeypatch.setenv("CXXFLAGS", "-DSOMETHING")
    build(tmp_path)
    assert sum("-shared" in command for command in commands) == 2


def wheel(folder) -> Path:
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    return Path(path)


def files(path: Path) -> set[str]:
    with zipfile.ZipFile(path) as archive:
        return {name for name in archive.namelist() if name.startswith("jaxnorm/ops/kernels/build")}


def test_a_wheel_without_kernels_is_pure_and_tells_why(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXNORM_BUILD_NATIVE", "0")
    here = {path: path.stat().st_mtime_ns for path in (ROOT / hatch_build.BUILT).glob("*")}
    path = wheel(tmp_path)
    assert path.name.endswith("-py3-none-any.whl")
    assert files(path) == {"jaxnorm/ops/kernels/build/record.json"}
    # What was built for the checkout is left as it is.
    assert {path: path.stat().st_mtime_ns for path in (ROOT / hatch_build.BUILT).glob("*")} == here


@needs_native
def test_a_wheel_with_kernels_is_for_this_platform_and_every_python(tmp_path):
    path = wheel(tmp_path)
    assert "-py3-none-" in path.name and not path.name.endswith("-any.whl")
    assert files(path) == {
        "jaxnorm/ops/kernels/build/libjaxnorm.so",
        "jaxnorm/ops/kernels/build/record.json",
    }


@pytest.mark.parametrize(
    ("python", "machine", "asked", "tag"),
    [
        ("macosx-10.9-universal2", "arm64", None, "macosx_11_0_arm64"),
        ("macosx-10.9-universal2", "x86_64", None, "macosx_10_9_x86_64"),
        ("macosx-11.0-arm64", "arm64", "13.3", "macosx_13_0_arm64"),
        ("macosx-14-arm64", "arm64", None, "macosx_14_0_arm64"),
    ],
)
def test_on_macos_the_tag_says_what_the_compiler_is_told(monkeypatch, python, machine, asked, tag):
    monkeypatch.setattr(hatch_build.sys, "platform", "darwin")
    monkeypatch.setattr(hatch_build.platform, "machine", lambda: machine)
    monkeypatch.setattr(hatch_build.sysconfig, "get_platform", lambda: python)
    monkeypatch.delenv("MACOSX_DEPLOYMENT_TARGET", raising=False)
    if asked:
        monkeypatch.setenv("MACOSX_DEPLOYMENT_TARGET", asked)
    _, major, minor, _ = tag.split("_", 3)
    assert hatch_build.platform_tag() == tag
    assert hatch_build.system_flags() == [
        *("-arch", machine),
        f"-mmacosx-version-min={major}.{minor}",
    ]


def test_on_windows_the_wheel_is_plain_and_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(hatch_build.sys, "platform", "win32")
    assert build(tmp_path) == {"built": False, "reason": "the kernels are not built on Windows"}


@needs_compiler
@pytest.mark.parametrize("source", ["kernels.cc", "binding.cc"])
def test_the_sources_are_standard_cpp_17_without_warnings(source, tmp_path):
    command = ["c++", "-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-psabi", "-Werror"]
    command += ["-DJAXNORM_ISA=portable", f"-isystem{hatch_build.find_headers()}"]
    done = subprocess.run([*command, str(SOURCES / source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Makes the next call load the library from an empty folder."""
    monkeypatch.setattr(_library, "BUILT", tmp_path)
    _library.load.cache_clear()
    _library._register.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    _library.load.cache_clear()
    _library._register.cache_clear()


def works() -> bool:
    y, _, _ = standardized(jnp.array([[1.0, 3.0, 5.0]]), (1, 1), epsilon=1.0 / 3, native=None)
    return bool(jnp.allclose(y, jnp.array([[-2.0, 0.0, 2.0]]) / 3**0.5))


def test_without_a_library_plain_jax_serves_and_the_reason_is_told(fresh):
    assert "not installed by its build" in _native.why_not()
    assert not native_serves(jnp.ones((2, 3)), (2, 1), epsilon=1.0)
    assert _native.instruction_set() is None
    assert works()


def test_the_reason_of_the_build_is_told(fresh):
    (fresh / "record.json").write_text('{"built": false, "reason": "no C++ compiler"}')
    assert _native.why_not() == "no C++ compiler"


def test_a_library_that_does_not_load_is_left_alone(fresh):
    (fresh / "libjaxnorm.so").write_text("not a library")
    assert "cannot be loaded" in _native.why_not()
    assert works()


def test_the_environment_variable_switches_the_kernels_off(monkeypatch):
    monkeypatch.setenv("JAXNORM_DISABLE_NATIVE", "1")
    assert "JAXNORM_DISABLE_NATIVE" in _native.why_not()
    assert not native_serves(jnp.ones((2, 3)), (2, 1), epsilon=1.0)


@needs_compiler
def test_a_library_that_xla_refuses_does_not_keep_it_from_starting(fresh):
    # A handler that answers no version at all is what a library of another time looks like.
    source = fresh / "old.cc"
    functions = ("jaxnorm_forward(void*)", "jaxnorm_backward(void*)", "jaxnorm_instruction_set()")
    lines = [f'extern "C" const void* {name} {{ return nullptr; }}' for name in functions]
    lines.append('extern "C" bool jaxnorm_use_instruction_set(const char*) { return false; }')
    source.write_text("\n".join(lines))
    library = fresh / "libjaxnorm.so"
    subprocess.run(["c++", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    code = (
        "from pathlib import Path; from jaxnorm.ops.kernels import _library, _native\n"
        f"_library.BUILT = Path({str(fresh)!r})\n"
        "import jax.numpy as jnp\n"
        "from tests.ops.kernels.test_build import works\n"
        "print(works(), _native.why_not())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith("True XLA refused"), done.stdout + done.stderr
