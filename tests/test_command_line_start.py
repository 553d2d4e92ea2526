"""The command line's arguments, what it imports, and what it says of the kernel."""

import errno
import json
import os
import platform
import re
from importlib.metadata import version

import pytest
from command_line import (
    run,
)
from kernel_view import PAGE, KnownFile, child, kernel_knows_advice

from mmapwrap import Advice, DestructiveAdvice

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
    assert heading.split() == ["group", "feature", "supported", "used", "by"]
    assert [line.split(maxsplit=3) for line in lines] == [
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


# --- arguments, and what is imported ------------------------------------------------------------


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


def test_a_wrong_argument_is_repeated_without_control_characters() -> None:
    ended = run("support", "--\x1b[2J")
    assert ended.status == 2
    assert "\x1b" not in ended.err
    assert r"--\x1b[2J" in ended.err


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


def test_the_command_in_a_pipe_does_without_rich(known_file: KnownFile) -> None:
    program = """
        import sys
        from mmapwrap.__main__ import main
        assert main(["prefetch", sys.argv[1]]) == 0
        sys.exit(", ".join(name for name in sys.modules if name.split(".")[0] == "rich"))
    """
    assert child(program, known_file.path).errors == "\n"
