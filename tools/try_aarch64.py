"""Try the aarch64 wheel on an emulated processor: tests/smoke.py on Debian's Python, under qemu.

    python tools/try_aarch64.py WHEEL FOLDER

Needs qemu's user mode (Debian's qemu-user or qemu-user-static) and apt. Debian's packages of Python
for arm64 are unpacked into FOLDER, where the next run finds them; nothing is installed on the
machine. Where something is missing the wheel is not tried, in one line that says so. The exit
status is 1 where a check has failed.
"""

import shutil
import subprocess
import sys
from pathlib import Path

SMOKE = Path(__file__).resolve().parent.parent / "tests" / "smoke.py"


class MissingError(Exception):
    """The machine lacks what is needed to try the wheel."""


def tool(*names: str) -> str:
    """Give the path of the first of these programs that there is."""
    for name in names:
        if path := shutil.which(name):
            return path
    raise MissingError(f"{names[0]} is not installed")


def apt(folder: Path, *arguments: str) -> None:
    """Run apt-get for arm64, with the machine's sources and no other part of its state."""
    for each in ("lists/partial", "archives/partial"):
        (folder / each).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    options = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "",  # another user, who might not get into the folder
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder,
        "Dir::Cache::archives": folder / "archives",
    }
    given = [f"-o{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [tool("apt-get"), "-qq", *given, *arguments],
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.splitlines() or ["no reason"])[0]
        raise MissingError(f"apt-get has no Python for arm64: {reason}")


def unpack_python(folder: Path) -> Path:
    """Unpack Debian's Python for arm64, and give its root."""
    root = folder / "root"
    if root.exists():
        return root
    apt(folder, "update")
    apt(folder, "install", "--yes", "--download-only", "--no-install-recommends", "python3")
    unpacked = folder / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    for package in sorted((folder / "archives").glob("*.deb")):
        subprocess.run([tool("dpkg-deb"), "-x", package, unpacked], check=True)
    return unpacked.rename(root)


def run_smoke(wheel: Path, folder: Path) -> int:
    """Install the wheel for the emulated Python, run the checks, and give their exit status."""
    qemu = tool("qemu-aarch64-static", "qemu-aarch64")
    root = unpack_python(folder)
    python = (root / "usr/bin/python3").resolve()
    emulated = [qemu, "-L", str(root), str(python)]
    site = folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    # pip takes the wheel by its tags, as it would there.
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    target = ["--only-binary=:all:", "--platform=manylinux_2_17_aarch64", "--implementation=cp"]
    version = python.name.removeprefix("python")
    there = [f"--python-version={version}", f"--target={site}", str(wheel)]
    subprocess.run([*pip, *target, *there], check=True)
    smoke = [*emulated, "-P", str(SMOKE), "--emulated"]
    return subprocess.run(smoke, check=False, env={"PYTHONPATH": str(site)}).returncode


def main(wheel: Path, folder: Path) -> int:
    """Try the wheel, or say why not; give the exit status."""
    try:
        return run_smoke(wheel, folder)
    except MissingError as reason:
        print(f"the aarch64 wheel is not tried: {reason}")
        return 0


if __name__ == "__main__":
    sys.exit(main(*(Path(argument).resolve() for argument in sys.argv[1:])))
