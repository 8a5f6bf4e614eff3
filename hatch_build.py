"""Builds the native CPU kernels into the wheel; where that fails, the wheel is pure Python.

The library has no Python in it, only XLA's foreign function interface, whose headers come with
jaxlib: one build serves every Python. What happened is recorded beside it, for
`jaxnorm.show_config()`. `JAXNORM_BUILD_NATIVE=0` skips it, `CXX` and `CXXFLAGS` are honoured, and
`python hatch_build.py` builds in place.
"""

import hashlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

KERNELS = Path("jaxnorm", "ops", "kernels")
BUILT = KERNELS / "build"  # git and hatch leave folders of this name alone
LIBRARY = "libjaxnorm.so"
RECORD = "record.json"

FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-pthread", "-w"]
ARITHMETIC = ["-fno-math-errno", "-fno-trapping-math"]
INSTRUCTION_SETS = {
    "base": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": [
        *("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
        *("-mfma", "-mf16c", "-mprefer-vector-width=512"),
    ],
}


class BuildError(Exception):
    """The kernels cannot be built here; the message says why."""


def build(root: Path, folder: Path) -> dict:
    """Builds the library into `folder`, with its record.

    Args:
        root: the project's folder.
        folder: where the library and the record go; made if it is not there.

    Returns:
        The record: "built", and "reason" or "compiler", "jaxlib" and "instruction_sets".
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        record = compile_library(root / KERNELS / "native", folder)
    except BuildError as error:
        (folder / LIBRARY).unlink(missing_ok=True)
        record = {"built": False, "reason": str(error)}
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    return record


def compile_library(sources: Path, folder: Path) -> dict:
    """Compiles and links the library, unless it is there already, made from the same.

    Args:
        sources: the folder of the C++ files.
        folder: where the library goes.

    Returns:
        What it was built with and from.

    Raises:
        BuildError: it was not wanted, or something that it needs is missing.
    """
    if os.environ.get("JAXNORM_BUILD_NATIVE", "1") == "0":
        raise BuildError("JAXNORM_BUILD_NATIVE=0 was set at installation")
    if sys.platform == "win32":
        raise BuildError("the kernels are not built on Windows")
    compiler, headers = find_compiler(), find_headers()
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    sets = INSTRUCTION_SETS if x86 else {"base": []}
    flags = [*FLAGS, *system_flags(), *shlex.split(os.environ.get("CXXFLAGS", ""))]
    jobs = {"binding": ["binding.cc", *flags, *(["-DJAXNORM_X86"] if x86 else [])]}
    for name, extra in sets.items():
        names = [f"-DJAXNORM_ISA=jaxnorm_{name}"]
        jobs[name] = ["kernels.cc", *flags, *ARITHMETIC, *extra, *names]
    record = {
        "built": True,
        "compiler": execute([*compiler, "--version"]).splitlines()[0],
        "jaxlib": jaxlib_version(headers),
        "instruction_sets": list(sets),
        "inputs": digest(sources, [compiler, *jobs.values()]),
    }
    made = read_record(folder)
    # What was built with older headers serves newer ones too.
    older = made.get("jaxlib", [9999]) <= record["jaxlib"]
    if older and {**made, "jaxlib": record["jaxlib"]} == record and (folder / LIBRARY).exists():
        return made
    with tempfile.TemporaryDirectory() as temporary:
        objects = {name: f"{temporary}/{name}.o" for name in jobs}
        commands = [
            [*compiler, "-c", str(sources / source), f"-I{headers}", *extra, "-o", objects[name]]
            for name, (source, *extra) in jobs.items()
        ]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(execute, commands))
        link([*compiler, *system_flags()], list(objects.values()), folder / f"{LIBRARY}.new")
    # A process that has loaded the old library keeps it.
    os.replace(folder / f"{LIBRARY}.new", folder / LIBRARY)
    return record


def read_record(folder: Path) -> dict:
    """Returns the record in a folder, an empty one where there is none."""
    try:
        return json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}


def digest(sources: Path, commands: list[list[str]]) -> str:
    """Returns a hash of the C++ files and of how they are compiled."""
    files = sorted([*sources.glob("*.h"), *sources.glob("*.cc")])
    texts = [*(path.read_bytes() for path in files), repr(commands).encode()]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def link(compiler: list[str], objects: list[str], library: Path) -> None:
    """Links the library, with the C++ runtime inside where the linker can put it there.

    The library then depends on no particular version of that runtime.
    """
    command = [*compiler, "-shared", "-pthread", *objects, "-o", str(library)]
    inside = ["-static-libstdc++", "-static-libgcc", "-Wl,--exclude-libs,ALL", "-s"]
    try:
        execute([*command, *inside])
    except BuildError:
        execute(command)


def platform_tag() -> str:
    """Returns the tag of the platform that the library runs on, such as linux_x86_64.

    A wheel for Linux is tagged by the C library of the machine that it is built on only once
    auditwheel has looked at it. A Python of macOS may be for two architectures and for older
    systems than the compiler builds for, so there the tag says what the library is compiled for.
    """
    if sys.platform != "darwin":
        return sysconfig.get_platform().replace("-", "_").replace(".", "_")
    version = macos_version()
    return f"macosx_{version[0]}_{version[1]}_{platform.machine()}"


def macos_version() -> tuple[int, int]:
    """Returns the oldest macOS that the library runs on: what is asked for, or what Python does.

    From version 11 on, which is the first for arm64, tags name whole versions only.
    """
    asked = os.environ.get("MACOSX_DEPLOYMENT_TARGET") or sysconfig.get_platform().split("-")[1]
    major, minor = (int(part) for part in f"{asked}.0".split(".")[:2])
    if platform.machine() == "arm64":
        return max(major, 11), 0
    return major, minor if major < 11 else 0


def system_flags() -> list[str]:
    """Returns the flags that hold the compiler to the platform of the tag."""
    if sys.platform != "darwin":
        return []
    version = ".".join(str(number) for number in macos_version())
    return ["-arch", platform.machine(), f"-mmacosx-version-min={version}"]


def find_compiler() -> list[str]:
    """Returns the command of a C++ compiler: `CXX`, or the first of the usual names."""
    if os.environ.get("CXX"):
        return shlex.split(os.environ["CXX"])
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise BuildError("no C++ compiler was found (c++, g++ or clang++, or the variable CXX)")


def find_headers() -> Path:
    """Returns the folder of XLA's headers inside jaxlib, without importing it."""
    spec = importlib.util.find_spec("jaxlib")
    for folder in spec.submodule_search_locations or [] if spec else []:
        headers = Path(folder, "include")
        if (headers / "xla" / "ffi" / "api" / "ffi.h").exists():
            return headers
    raise BuildError("jaxlib, which holds XLA's headers, was not there at installation")


def jaxlib_version(headers: Path) -> list[int]:
    """Returns the version of the jaxlib that `headers` belong to."""
    text = (headers.parent / "version.py").read_text()
    found = re.search(r"^_version = ['\"](\d+)\.(\d+)\.(\d+)", text, re.MULTILINE)
    if found is None:
        raise BuildError(f"{headers.parent} does not say which version of jaxlib it is")
    return [int(number) for number in found.groups()]


def execute(command: list[str]) -> str:
    """Runs a command and returns what it printed.

    Raises:
        BuildError: it cannot be run or fails; the message has its first line of error.
    """
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{command[0]}: {error}") from error
    if result.returncode:
        lines = [line for line in result.stderr.splitlines() if "error" in line.lower()]
        reason = (lines or result.stderr.splitlines() or ["no message"])[0]
        raise BuildError(f"{command[0]} failed with status {result.returncode}: {reason}")
    return result.stdout


class NativeKernels(BuildHookInterface):
    """Hatchling's hook: an editable installation builds in place, a wheel takes the files along."""

    def initialize(self, version: str, build_data: dict) -> None:
        """Builds before the wheel is written."""
        root = Path(self.root)
        if version == "editable":
            record = build(root, root / BUILT)
        else:
            # A copy: a wheel without kernels must not take them from the checkout it is made in.
            self.folder = Path(tempfile.mkdtemp(prefix="jaxnorm-"))
            if (root / BUILT).exists():
                shutil.copytree(root / BUILT, self.folder, dirs_exist_ok=True)
            record = build(root, self.folder)
            for name in (LIBRARY, RECORD) if record["built"] else (RECORD,):
                build_data["force_include"][str(self.folder / name)] = (BUILT / name).as_posix()
            if record["built"]:
                build_data["pure_python"] = False
                build_data["tag"] = f"py3-none-{platform_tag()}"
        self.app.display_info(f"native kernels: {record.get('reason', 'built')}")

    def finalize(self, version: str, build_data: dict, artifact_path: str) -> None:
        """Removes what was built for the wheel."""
        if version != "editable":
            shutil.rmtree(self.folder, ignore_errors=True)


if __name__ == "__main__":
    project = Path(__file__).parent
    sys.stdout.write(json.dumps(build(project, project / BUILT), indent=2) + "\n")
