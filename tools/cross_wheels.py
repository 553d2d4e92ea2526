"""Make the wheels for x86-64 and aarch64, glibc and musl, from one that this machine has made.

    python tools/cross_wheels.py WHEEL FOLDER

A wheel for the stable ABI differs between these platforms by its compiled module and its tag alone.
So the wheel is unpacked, and packed again for each platform with a module that zig has compiled for
it from the C code beside this folder. zig comes as a Python package, and brings the headers and
libraries of both architectures and both C libraries with it.

Prints the path of each wheel.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# build_ffi.py is where Python does not look for modules when it runs a file in tools/.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from build_ffi import CSRC, FLAGS, MACROS, SOURCES, ffibuilder

# By zig's name of the platform: the tag of its wheels. The C library is the oldest of the tag.
PLATFORMS = {
    "x86_64-linux-gnu.2.17": "manylinux_2_17_x86_64.manylinux2014_x86_64",
    "aarch64-linux-gnu.2.17": "manylinux_2_17_aarch64.manylinux2014_aarch64",
    "x86_64-linux-musl": "musllinux_1_2_x86_64",
    "aarch64-linux-musl": "musllinux_1_2_aarch64",
}
MODULE = "mmapwrap/_core/_mman.abi3.so"


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and give what it prints."""
    return subprocess.run(command, cwd=cwd, check=True, text=True, stdout=subprocess.PIPE).stdout


def copy_headers(folder: Path) -> Path:
    """Copy Python's headers.

    The stable ABI is the same on all platforms of 64 bits, so the headers of the Python that runs
    this do for each. Debian has one pyconfig.h of them in a folder of each architecture, and
    another that looks for the folder of the target, where it would find none.
    """
    source = Path(sysconfig.get_path("include"))
    headers = shutil.copytree(source, folder / "include")
    own = source.parent / (sysconfig.get_config_var("MULTIARCH") or "") / source.name / "pyconfig.h"
    if own.exists():
        shutil.copyfile(own, headers / "pyconfig.h")
    return headers


def compile_module(platform: str, sources: list[Path], headers: Path, folder: Path) -> Path:
    """Compile the module for a platform, stripped."""
    zig = (sys.executable, "-m", "ziglang", "cc", "-target", platform)
    macros = [f"-D{name}={value}" for name, value in MACROS.items()]
    flags = ["-c", "-fPIC", "-DNDEBUG", *FLAGS, *macros, f"-I{headers}", f"-I{CSRC}"]
    run(*zig, *flags, *sources, cwd=folder)
    # musl's loader gives its C library to every module. It has another name on each distribution,
    # so the module names none.
    link = ["-nostdlib"] if platform.endswith("musl") else []
    module = folder / Path(MODULE).name
    run(*zig, "-shared", "-s", *link, *sorted(folder.glob("*.o")), "-o", module, cwd=folder)
    return module


def pack(unpacked: Path, module: Path, tag: str, folder: Path) -> Path:
    """Pack the content of a wheel with this module in it, and with the platform's tag."""
    room = module.parent
    content = shutil.copytree(unpacked, room / unpacked.name)
    shutil.copyfile(module, content / MODULE)
    wheel = (sys.executable, "-m", "wheel")
    run(*wheel, "pack", content, "--dest-dir", room, cwd=room)
    (packed,) = room.glob("*.whl")
    name = run(*wheel, "tags", "--remove", "--platform-tag", tag, packed, cwd=room).strip()
    return Path(shutil.move(room / name, folder / name))


def main(wheel: Path, folder: Path) -> None:
    """Make the wheels in the folder, and print their paths."""
    with tempfile.TemporaryDirectory() as temporary:
        room = Path(temporary)
        run(sys.executable, "-m", "wheel", "unpack", wheel, "--dest", room / "wheel", cwd=room)
        (unpacked,) = (room / "wheel").iterdir()
        headers = copy_headers(room)
        generated = room / "_mman.c"
        with contextlib.redirect_stdout(sys.stderr):
            ffibuilder.emit_c_code(str(generated))
        sources = [generated, *(CSRC.parent / source for source in SOURCES)]

        def make(platform: str) -> Path:
            place = room / platform
            place.mkdir()
            module = compile_module(platform, sources, headers, place)
            return pack(unpacked, module, PLATFORMS[platform], folder)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            print(*pool.map(make, PLATFORMS), sep="\n")


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))
