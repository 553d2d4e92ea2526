"""What an installation adds for shells: the command `mmapwrap`, its completion, its manual page."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from command_line import run

CLONE = Path(__file__).parents[2]
MANUAL = "share/man/man1/mmapwrap.1"

# What the script of an installation does.
COMMAND = [sys.executable, "-c", "import sys, mmapwrap.__main__ as m; sys.exit(m.command())"]
WITHOUT_SHTAB = [
    sys.executable,
    "-c",
    "import sys; sys.modules['shtab'] = None\nfrom mmapwrap.__main__ import main\nsys.exit(main())",
]


def installed(path: Path) -> Path:
    """Give a file of the installation, or skip the test where the package is used from a clone."""
    if not path.exists():
        pytest.skip(f"the package is not installed here: there is no {path}")
    return path


# --- the command --------------------------------------------------------------------------------


def test_usage_of_the_command_names_the_command(tmp_path: Path) -> None:
    assert run("--help", command=COMMAND).out.startswith("usage: mmapwrap [-h] ")
    ended = run("evict", command=COMMAND)
    assert ended.status == 2
    assert ended.err.splitlines() == [
        "usage: mmapwrap evict [-h] [--json] PATH [PATH ...]",
        "mmapwrap evict: error: the following arguments are required: PATH",
    ]


def test_command_is_on_the_path_of_an_environment(tmp_path: Path) -> None:
    script = installed(Path(sysconfig.get_path("scripts"), "mmapwrap"))
    (tmp_path / "empty").touch()
    ended = run("residency", tmp_path, command=[str(script)])
    assert (ended.status, ended.err) == (0, "")
    assert ended.lines == run("residency", tmp_path).lines


# --- the completion -----------------------------------------------------------------------------

COMPLETE = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_shtab_mmapwrap
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["res"], {"residency"}),
        (["--c"], {"--completion"}),
        (["--completion", "z"], {"zsh"}),
        (["evict", "--j"], {"--json"}),
        (["evict", "fi"], {"file"}),
    ],
)
def test_bash_completes_commands_options_and_paths(
    words: list[str], completed: set[str], tmp_path: Path
) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    pytest.importorskip("shtab", reason="the completion needs shtab")
    shown = run("--completion", "bash")
    assert (shown.status, shown.err) == (0, "")
    (tmp_path / "completion").write_text(shown.out)
    (tmp_path / "file").touch()

    ended = subprocess.run(
        ["bash", "-c", COMPLETE, "bash", "completion", "mmapwrap", *words],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )

    assert set(ended.stdout.split()) == completed


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_is_of_the_command_however_it_is_asked_for(shell: str) -> None:
    pytest.importorskip("shtab", reason="the completion needs shtab")
    shown = run("--completion", shell)
    assert shown.status == 0
    assert "mmapwrap" in shown.out
    assert shown.out == run("--completion", shell, command=COMMAND).out


def test_completion_without_shtab_says_what_to_install() -> None:
    ended = run("--completion", "bash", command=WITHOUT_SHTAB)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.splitlines()[-1] == (
        "python -m mmapwrap: error: the completion needs shtab: pip install 'mmapwrap[cli]'"
    )


def test_completion_for_another_shell_is_wrong_usage() -> None:
    ended = run("--completion", "csh")
    assert (ended.status, ended.out) == (2, "")
    assert "invalid choice: 'csh'" in ended.err


# --- the manual page ----------------------------------------------------------------------------


def test_manual_page_is_what_the_parser_says() -> None:
    command = [sys.executable, str(CLONE / "tools" / "generate_man.py"), "--check"]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_manual_page_is_installed() -> None:
    page = installed(Path(sysconfig.get_path("data"), MANUAL))
    assert page.read_bytes() == (CLONE / MANUAL).read_bytes()


def test_manual_page_has_no_mistake_that_man_would_tell() -> None:
    if shutil.which("man") is None:
        pytest.skip("there is no man")
    command = ["man", "--warnings", "-l", str(CLONE / MANUAL)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    assert ended.stderr == ""
    assert "mmapwrap residency" in ended.stdout
