"""The command line's arguments, what it says of the kernel, and the import of the package."""

import errno
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import version
from pathlib import Path

import pytest
from command_line import AS_NOBODY, needs_root, run
from kernel_view import PAGE, KnownFile, child, kernel_knows_advice

import mmapwrap
from mmapwrap import Advice, DestructiveAdvice, _cli

CLONE = Path(__file__).parents[2]

# --- support ------------------------------------------------------------------------------------


def test_support_agrees_with_the_running_kernel() -> None:
    document = run("support", "--json").document

    kernel = os.uname()
    assert document["kernel"] == {
        "system": kernel.sysname,
        "release": kernel.release,
        "machine": kernel.machine,
    }
    assert document["page_size"] == PAGE
    supported = {feature["name"]: feature["supported"] for feature in document["features"]}
    for advice in (*Advice, *DestructiveAdvice):
        assert supported.pop(f"MADV_{advice.name}") is kernel_knows_advice(advice)
    assert supported.keys() == {"MAP_FIXED_NOREPLACE", "MLOCK_ONFAULT"}
    # Both are older than every kernel that the library is tested on.
    assert all(supported.values())


def test_support_lines_say_the_same_as_the_document() -> None:
    document = run("support", "--json").document
    ended = run("support")

    assert (ended.status, ended.err) == (0, "")
    kernel, heading, *lines = ended.lines
    assert kernel == (
        f"{' '.join(document['kernel'].values())}, pages of {PAGE} bytes, "
        f"mmapwrap {document['mmapwrap']}"
    )
    assert heading.split("\t") == ["group", "feature", "supported", "used by"]
    assert [line.split("\t") for line in lines] == [
        [
            feature["group"],
            feature["name"],
            "yes" if feature["supported"] else "no",
            feature["use"],
        ]
        for feature in document["features"]
    ]


# Makes the kernel refuse what an old one does not know: an advice, MAP_FIXED_NOREPLACE, and, with
# an error of the test's choice, mlock2. Then runs the command.
OLDER_KERNEL = """
    import ctypes, errno, platform, struct, sys
    from mmapwrap import Advice
    from mmapwrap.__main__ import main

    arch, mmap, madvise, mlock2 = {
        "x86_64": (0xC000003E, 9, 28, 325),
        "aarch64": (0xC00000B7, 222, 233, 284),
    }[platform.machine()]
    load, equal, any_bit, answer = 0x20, 0x15, 0x45, 0x06
    allow, refuse = 0x7FFF0000, 0x00050000
    program = [
        (load, 0, 0, 4), (equal, 0, 8, arch),
        (load, 0, 0, 0), (equal, 2, 0, madvise), (equal, 3, 0, mmap), (equal, 5, 4, mlock2),
        (load, 0, 0, 32), (equal, 4, 2, Advice.COLLAPSE),  # madvise's advice
        (load, 0, 0, 40), (any_bit, 2, 0, 0x100000),  # mmap's flags
        (answer, 0, 0, allow),
        (answer, 0, 0, refuse | int(sys.argv[1])),
        (answer, 0, 0, refuse | errno.EINVAL),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    filter = struct.pack("@HP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((38, 1, 0, 0, 0), (22, 2, filter)):  # no new privileges, then the filter
        if libc.prctl(*call) != 0:
            sys.exit(f"prctl({call[0]}): {ctypes.get_errno()}")
    sys.exit(main(["support", "--json"]))
"""


@pytest.mark.parametrize(
    ("error", "supported"),
    [
        (errno.ENOSYS, False),
        (errno.EINVAL, False),
        (errno.EPERM, True),
        (errno.ENOMEM, True),
        (errno.EAGAIN, True),
    ],
)
def test_support_says_what_the_kernel_lacks(error: int, supported: bool) -> None:
    if platform.machine() not in {"x86_64", "aarch64"}:
        pytest.skip("the system calls' numbers are known for x86-64 and aarch64 only")
    ended = child(OLDER_KERNEL, error)
    if ended.errors.startswith("prctl"):
        pytest.skip(f"no system call filter can be set here: {ended.errors}")

    features = json.loads(ended.succeeded())["features"]

    answers = {feature["name"]: feature["supported"] for feature in features}
    assert answers["MADV_COLLAPSE"] is False
    assert answers["MAP_FIXED_NOREPLACE"] is False
    assert answers["MLOCK_ONFAULT"] is supported
    assert answers["MADV_NORMAL"] is True


# --- arguments ----------------------------------------------------------------------------------


def test_version_and_help_are_the_output() -> None:
    assert run("--version").out == f"mmapwrap {version('mmapwrap')}\n"
    assert run("--help").out.startswith("usage: python -m mmapwrap [-h] ")
    for command in ("residency", "prefetch", "evict", "support"):
        ended = run(command, "--help")
        assert (ended.status, ended.err) == (0, "")
        assert ended.out.startswith(f"usage: python -m mmapwrap {command} [-h] [--json]")


@pytest.mark.parametrize(
    "arguments", [[], ["residency"], ["nothing", "."], ["support", "."], ["evict", "--what", "."]]
)
def test_wrong_usage_ends_with_2(arguments: list[str]) -> None:
    ended = run(*arguments)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.startswith("usage: python -m mmapwrap")


@pytest.mark.parametrize("first", ["support", "sup\x1b[2J"])
def test_a_wrong_argument_is_repeated_without_control_characters(first: str) -> None:
    ended = run(first, "--\x1b[2J")
    assert ended.status == 2
    assert "\x1b" not in ended.err
    assert r"\x1b[2J" in ended.err


@pytest.mark.parametrize("command", ["residency", "prefetch", "evict", "support"])
def test_unknown_option_shows_the_usage_of_its_command(command: str) -> None:
    for arguments in (["--bogus"], ["--json", "--bogus"]):
        ended = run(command, *arguments)
        usage, error = ended.err.splitlines()
        assert (ended.status, ended.out) == (2, "")
        assert usage.startswith(f"usage: python -m mmapwrap {command} [-h] [--json]")
        assert error == f"python -m mmapwrap {command}: error: unrecognized arguments: --bogus"


def test_unknown_option_without_a_command_is_named() -> None:
    for arguments, error in (
        (("-x", "--unknown"), "unrecognized arguments: -x --unknown"),
        ((), "the following arguments are required: COMMAND"),
    ):
        ended = run(*arguments)
        assert ended.status == 2
        assert ended.err.splitlines() == [
            "usage: python -m mmapwrap [-h] [--version] [--completion SHELL] COMMAND ...",
            f"python -m mmapwrap: error: {error}",
        ]


def test_unknown_option_before_the_command_shows_the_main_usage() -> None:
    ended = run("--bogus", "residency", ".")
    assert ended.status == 2
    assert ended.err.splitlines() == [
        "usage: python -m mmapwrap [-h] [--version] [--completion SHELL] COMMAND ...",
        "python -m mmapwrap: error: unrecognized arguments: --bogus",
    ]


@pytest.mark.parametrize("command", ["residency", "prefetch", "evict"])
def test_missing_path_shows_the_usage_of_its_command(command: str) -> None:
    ended = run(command)
    assert ended.status == 2
    assert ended.err.splitlines() == [
        f"usage: python -m mmapwrap {command} [-h] [--json] PATH [PATH ...]",
        f"python -m mmapwrap {command}: error: the following arguments are required: PATH",
    ]


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("residncy", "residency"),
        ("Residency", "residency"),
        ("prefech", "prefetch"),
        ("evcit", "evict"),
        ("suport", "support"),
    ],
)
def test_misspelt_command_gets_a_suggestion(misspelt: str, meant: str) -> None:
    ended = run(misspelt, ".")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == (
        f"python -m mmapwrap: error: unknown command '{misspelt}'; did you mean '{meant}'?"
    )


def test_unknown_command_is_told_the_commands() -> None:
    ended = run("/usr/bin")
    assert ended.status == 2
    assert ended.err.splitlines()[-1] == (
        "python -m mmapwrap: error: unknown command '/usr/bin'; "
        "the commands are residency, prefetch, evict, support"
    )


# --- the README's first command -----------------------------------------------------------------


@pytest.mark.parametrize("user", ["this", pytest.param("nobody", marks=needs_root)])
def test_first_command_of_the_readme_shows_the_files_that_it_made(
    user: str, disk_path: Path
) -> None:
    readme = (CLONE / "README.md").read_text()
    (first, *_) = re.findall(r"```sh\n(.*?)\n```", readme, re.DOTALL)
    make, _, show = (shlex.split(part) for part in first.split(" && "))
    assert make[:3] == ["python3", "-m", "venv"]
    assert show[1:4] == ["-P", "-m", "mmapwrap"]
    venv.create(disk_path / make[3], symlinks=True)
    if user == "nobody":
        subprocess.run(["chown", "-R", "65534:65534", disk_path], check=True)

    ended = (
        run(*show[4:], command=AS_NOBODY, cwd=disk_path)
        if user == "nobody"
        else run(*show[4:], cwd=disk_path)
    )

    assert (ended.status, ended.err) == (0, "")
    assert any(line.endswith("\t.venv/pyvenv.cfg") for line in ended.lines)
    assert not any(line.startswith("left out: ") for line in ended.lines)


# --- what is imported ---------------------------------------------------------------------------


def test_the_library_imports_nothing_of_the_command_line() -> None:
    program = """
        import sys
        before = set(sys.modules)
        import mmapwrap
        print(*sorted(set(sys.modules) - before))
    """
    imported = child(program).succeeded().split()
    assert "mmapwrap" in imported
    unwanted = re.compile(r"mmapwrap\.(_cli|__main__)|(argparse|json|rich)(\.|$)")
    assert [name for name in imported if unwanted.match(name)] == []


def test_each_module_of_the_command_line_imports_only_modules_above_it_in_the_map() -> None:
    names = re.findall(r"^- `(\w+)`:", _cli.__doc__ or "", re.MULTILINE)
    modules = {path.stem: path for path in Path(_cli.__file__).parent.glob("[a-z]*.py")}
    assert sorted(names) == sorted(modules)
    for position, name in enumerate(names):
        source = modules[name].read_text()
        assert set(re.findall(r"import mmapwrap\._|from mmapwrap\.(_\w+)", source)) <= {"_cli"}
        imported = re.findall(r"from mmapwrap\._cli\.(\w+) import", source)
        assert set(imported) <= set(names[:position]), name
        assert ("from rich" in source) is (name == "drawing")


def test_the_command_in_a_pipe_does_without_rich(known_file: KnownFile) -> None:
    program = """
        import sys
        from mmapwrap.__main__ import main
        assert main(["prefetch", sys.argv[1]]) == 0
        sys.exit(", ".join(name for name in sys.modules if name.split(".")[0] == "rich"))
    """
    assert child(program, known_file.path).errors == "\n"


# --- the import of the package ------------------------------------------------------------------


def test_import_without_the_compiled_module_says_what_to_do(tmp_path: Path) -> None:
    source = Path(mmapwrap.__file__).parent
    copy = tmp_path / "mmapwrap"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("_mman*.so"))
    # Without `site` no editable installation finds the compiled module elsewhere.
    command = [sys.executable, "-S", "-c", "import mmapwrap"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env={**kept, "PYTHONPATH": sysconfig.get_path("platlib")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        f"ImportError: {copy} holds the source of mmapwrap without its compiled module: install "
        "mmapwrap with `pip install .`, then start Python outside the clone or with `python -P`"
    )
    assert ended.stderr.count("Traceback") == 1


@pytest.mark.parametrize(
    ("missing", "start"),
    [
        ("mmapwrap._core._mman", "holds the source of mmapwrap"),
        ("_cffi_backend", "import of _cffi"),
    ],
)
def test_import_error_is_replaced_only_where_the_compiled_module_is_missing(
    missing: str, start: str
) -> None:
    program = """
        import sys
        sys.modules[sys.argv[1]] = None
        try:
            import mmapwrap
        except ImportError as error:
            print(error.name, error)
    """
    name, _, message = child(program, missing).succeeded().partition(" ")
    assert name == missing
    assert start in message


@pytest.mark.parametrize("start", ["import mmapwrap", "import mmapwrap.unsafe"])
def test_import_on_another_python_than_cpython_is_refused(start: str) -> None:
    program = """
        import sys
        sys.implementation.name = "pypy"
        try:
            exec(sys.argv[1])
        except ImportError as error:
            print(error)
    """
    refusal = "mmapwrap works on CPython only, and this is pypy\n"
    assert child(program, start).succeeded() == refusal


def test_build_on_another_python_than_cpython_is_refused() -> None:
    setup = CLONE / "setup.py"
    if not setup.exists():
        pytest.skip("the tests run beside an installed wheel, without setup.py")
    program = """
        import runpy, sys
        sys.implementation.name = "pypy"
        runpy.run_path(sys.argv[1])
    """
    refused = child(program, setup)
    assert (refused.status, refused.output) == (1, "")
    assert refused.errors == "mmapwrap works on CPython only, and this is pypy.\n"


def test_version_is_that_of_the_installed_package_and_read_when_asked_for() -> None:
    program = """
        import sys
        import mmapwrap
        assert "importlib.metadata" not in sys.modules
        print(mmapwrap.__version__)
    """
    assert child(program, measured=False).succeeded() == f"{version('mmapwrap')}\n"
    assert mmapwrap.__version__ == version("mmapwrap")


def test_unknown_name_of_the_package_is_an_attribute_error() -> None:
    assert not hasattr(mmapwrap, "version")
    with pytest.raises(AttributeError, match=r"^module 'mmapwrap' has no .* 'mmap_all'$"):
        getattr(mmapwrap, "mmap_all")  # noqa: B009, the type checkers know that there is none
