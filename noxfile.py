"""The project's checks: `nox -l` lists them, plain `nox` runs them all.

Whatever is tested is what a user gets: the tree is copied, the sdist is made from the copy, the
wheel from the sdist, and the tests run beside the installed wheel with no source in reach.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import nox
from nox.command import CommandFailed

# The first that asks each Python it finds what it is, and so is not misled by a shim.
nox.needs_version = ">=2026.8.10"
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    "tests",
    "coverage",
    "lint",
    "typing",
    "downstream",
    "dist",
    "docs",
    "floors",
]

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
OLDEST = "3.11"
# The newest comes first, because the first is measured.
PYTHONS = ["3.15", "3.14", "3.13", "3.12", OLDEST, "3.14t"]
# Those for which most libraries have wheels.
PYTHONS_OF_CLIENTS = ["3.13", OLDEST]

# What nothing is built from: caches, environments and earlier builds.
NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "*.o", "*.py[cod]", "*.so", "build", "dist", "venv"
)
# What the tests must not find in place of the installed package.
SOURCE = ["build_ffi.py", "csrc", "mmapwrap", "setup.py"]
# What the type checkers read.
TYPED = [
    "mmapwrap",
    "tests",
    "examples",
    "benchmarks",
    "tools",
    "build_ffi.py",
    "noxfile.py",
    "setup.py",
]

# Some tests wait more than they work, so there are more workers than most machines' processors.
WORKERS = ["--numprocesses=4", "--dist=worksteal"]
# What needs the libraries of the dependency group of this name.
CLIENTS = "tests/clients"
NOT_CLIENTS = f"--ignore={CLIENTS}"

# Tells the Pythons apart that need a compiled module of their own.
ABI = """
import sysconfig
free_threaded = sysconfig.get_config_var("Py_GIL_DISABLED")
print(sysconfig.get_config_var("SOABI") if free_threaded else "abi3")
"""
IS_INSTALLED = """
import sys, mmapwrap
assert mmapwrap.__file__.startswith(sys.prefix), f"not the installed package: {mmapwrap.__file__}"
"""

# What is undefined traps, because UndefinedBehaviorSanitizer's own report goes to a stderr that
# a test may throw away; AddressSanitizer reports the trap to its file. -O1 and the frame pointer
# are for the reports.
SANITIZE = [
    "-fsanitize=address,undefined",
    "-fsanitize-undefined-trap-on-error",
    "-fno-omit-frame-pointer",
    "-g",
    "-O1",
]
WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Werror",
    # After the jump out of an access its frame reads nothing but the failure, which is in memory.
    "-Wno-clobbered",
]
# What cffi writes is no code of ours: it is compiled with the sanitizers, but not with WARNINGS.
GENERATE = """
import sys
from build_ffi import ffibuilder
ffibuilder.emit_c_code(sys.argv[1])
"""
# Without importing it, for the compiled module may be an earlier run's.
WHERE = """
import importlib.util, sysconfig
print(sysconfig.get_path("include"), importlib.util.find_spec("mmapwrap").origin, sep="\\n")
"""
# What tries Python alone, or for long what others try for short.
LEFT_OUT = [
    "test_arena_random.py",
    "test_command_line*.py",
    "test_example*.py",
    "test_mapping_threads.py",
    "test_random_programs.py",
    "test_readme.py",
]
ASAN_OPTIONS = {
    # The library handles these, and so does faulthandler in the tests: what a signal does to a
    # process must not change.
    "handle_segv": 0,
    "handle_sigbus": 0,
    "handle_abort": 0,
    "handle_sigfpe": 0,
    # The trap of what is undefined, which not even faulthandler may take.
    "handle_sigill": 2,
    # Nor may the sanitizer's own alternate stack hide what runs on the stack of a thread.
    "use_sigaltstack": 0,
    # The interpreter keeps much until its process ends.
    "detect_leaks": 0,
    # Sizes that no memory holds are asked for on purpose, and are a MemoryError.
    "allocator_may_return_null": 1,
    # What is freed is watched for a while; with the default of 256 MiB of it each fork, and each
    # look at /proc/self/smaps, takes many times as long.
    "quarantine_size_mb": 16,
    "malloc_context_size": 5,
}

# The tests that tell whether the package works with other versions of cffi, attrs and rich: each
# kind of call of the compiled module, values, and what the command line prints. The
# other tests are about the kernel and the C code, which no dependency changes.
DEPENDENT = [
    "test_advice.py",
    "test_command_line*.py",
    "test_compiled_module.py",
    "test_content.py",
    "test_mapping_constructors.py",
    "test_protection.py",
    "test_ranges.py",
    "test_region.py",
    "test_result.py",
    "test_scalars.py",
    "test_transfers.py",
    "test_unsafe.py",
    "test_volatile.py",
]

# The tests of what one Python may do differently from another: buffers, garbage, threads, forks,
# files, pickles, and what the interpreter calls. The kernel and the C code are the same for all.
PYTHONIC = [
    "test_arrays.py",
    "test_buffer*.py",
    "test_callers_exceptions.py",
    "test_compiled_module.py",
    "test_content.py",
    "test_docstrings.py",
    "test_drop_in.py",
    "test_errors.py",
    "test_file.py",
    "test_fork*.py",
    "test_growth.py",
    "test_layout_lock.py",
    "test_lifetime.py",
    "test_mapping_threads.py",
    "test_messages.py",
    "test_readme.py",
    "test_region.py",
    "test_shared_memory*.py",
    "test_volatile.py",
]

# The tests of programs over the library, and of what the kernel and the C code do alike under each
# Python: the newest runs them.
NEWEST_ALONE = [
    "test_command_line*.py",
    "test_example*.py",
    "test_hugetlb.py",
    "test_injected_failures.py",
]

# Made once in a run: "tree", "sdist", and a wheel for each ABI.
built: dict[str, Path] = {}
# The sessions of this run whose tests were measured.
measured: list[str] = []


def show_pyenv_pythons() -> None:
    """Put pyenv's Pythons on PATH: its shims start only those that are selected."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    folders = sorted(root.glob("versions/3.*/bin"))
    # Free-threaded builds come last, because they may hold a plain python3.x as well.
    folders.sort(key=lambda folder: folder.parent.name.endswith("t"))
    os.environ["PATH"] = os.pathsep.join([os.environ["PATH"], *map(str, folders)])


show_pyenv_pythons()


def group(*names: str) -> tuple[str, ...]:
    """Give the requirements of these dependency groups."""
    return nox.project.dependency_groups(PROJECT, *names)


def run_time() -> list[str]:
    """Give the requirements of the package with all its extras."""
    project = PROJECT["project"]
    return [*project["dependencies"], *chain(*project["optional-dependencies"].values())]


def oldest(requirements: list[str]) -> list[str]:
    """Give the oldest versions that the requirements allow."""
    return [requirement.replace(">=", "==") for requirement in requirements]


def cache(session: nox.Session) -> Path:
    """Give the folder for what sessions leave to each other, in a form that outlives a chdir."""
    return session.cache_dir.resolve()


def fresh(folder: Path) -> Path:
    """Give this folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def make_tree(session: nox.Session) -> Path:
    """Copy the source to where no earlier build and no cache can get into what is built."""
    if "tree" not in built:
        tree = fresh(cache(session) / "tree")
        built["tree"] = shutil.copytree(ROOT, tree, ignore=NOT_SOURCE, dirs_exist_ok=True)
    return built["tree"]


def make_sdist(session: nox.Session) -> Path:
    """Make the sdist."""
    if "sdist" not in built:
        folder = fresh(cache(session) / "dist" / "sdist")
        session.install(*group("build"))
        args = ["--sdist", "--outdir", str(folder), str(make_tree(session))]
        session.run("python", "-m", "build", *args, silent=True)
        (built["sdist"],) = folder.iterdir()
    return built["sdist"]


def make_wheel(session: nox.Session) -> Path:
    """Make the wheel that the session's Python takes, from the sdist."""
    abi = str(session.run("python", "-c", ABI, silent=True, log=False)).strip()
    if abi not in built:
        folder = fresh(cache(session) / "dist" / abi)
        args = ["--no-deps", "--wheel-dir", str(folder), str(make_sdist(session))]
        session.run("python", "-m", "pip", "wheel", *args, silent=True)
        (built[abi],) = folder.iterdir()
    return built[abi]


def make_sanitized(session: nox.Session, include: str) -> Path:
    """Compile the module with the sanitizers, and our part of it with all warnings as errors."""
    tree = make_tree(session)
    folder = fresh(cache(session) / "sanitize")
    generated = folder / "_mman.c"
    with session.chdir(tree):
        session.run("python", "-c", GENERATE, str(generated))
    compiler = ["gcc", "-D_GNU_SOURCE", "-std=gnu11", "-fPIC", *SANITIZE, f"-I{tree / 'csrc'}"]
    compiler += ["-isystem", include, "-DPy_LIMITED_API=0x030b0000"]
    for source in sorted(tree.glob("csrc/*.c")):
        target = str(folder / f"{source.stem}.o")
        session.run(*compiler, *WARNINGS, "-c", str(source), "-o", target, external=True)
    target = str(folder / "generated.o")
    session.run(*compiler, f"-I{include}", "-c", str(generated), "-o", target, external=True)
    module = folder / "_mman.so"
    objects = map(str, sorted(folder.glob("*.o")))
    session.run("gcc", "-shared", "-fsanitize=address", *objects, "-o", str(module), external=True)
    return module


def make_room(session: nox.Session) -> Path:
    """Unpack the sdist and take away what could be imported in place of the installed package."""
    room = fresh(Path(session.virtualenv.location) / "room")
    shutil.unpack_archive(make_sdist(session), room)
    (room,) = room.iterdir()
    for name in SOURCE:
        path = room / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return room


def run_installed(session: nox.Session, wheel: Path, *commands: list[str], **env: str) -> None:
    """Install the wheel, then run commands on it where the source is out of reach."""
    session.install("--no-deps", "--force-reinstall", str(wheel))
    with session.chdir(make_room(session)):
        session.run("python", "-c", IS_INSTALLED, log=False)
        for command in commands:
            session.run(*command, env=env)


def install_what_there_is(session: nox.Session, requirements: Iterable[str]) -> None:
    """Install wheels, and leave out what has none for the session's Python: its tests say so."""
    wheels = ["--only-binary=:all:", "--prefer-binary"]
    try:
        session.install(*wheels, *requirements)
    except CommandFailed:
        for requirement in requirements:
            session.install(*wheels, requirement, success_codes=[0, 1])


def files_named(names: Iterable[str]) -> list[str]:
    """Give the files of tests with these names, which may be patterns."""
    paths = chain(*(sorted((ROOT / "tests").rglob(name)) for name in names))
    return [str(path.relative_to(ROOT)) for path in paths]


def pytest_commands(
    session: nox.Session, files: Iterable[str] = (), *, races: bool
) -> list[list[str]]:
    """Give the commands that run the tests, of these files or of all.

    Most tests run in four processes. The tests marked `alone` run one after the other when the
    rest is done. Those marked `race` are left out unless `races` are wanted, and those of
    tests/clients, which have a session of their own. With arguments to the session there is one
    command, and all tests that they choose run one after the other.
    """
    if session.posargs:
        return [["pytest", *session.posargs]]
    wanted = "" if races else " and not race"
    return [
        ["pytest", *WORKERS, NOT_CLIENTS, "-m", f"not alone{wanted}", *files],
        ["pytest", NOT_CLIENTS, "-m", f"alone{wanted}", *files],
    ]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on the wheel, measured on the newest Python; arguments go to pytest.

    Of several Pythons in one run the newest runs all tests, the oldest most of what the session
    `floors` does not run on it, and those between them what one Python may do differently from
    another.
    """
    session.install(*run_time(), *group("tests"))
    data = fresh(cache(session) / "coverage" / session.name) / "data"
    python = ["python"]
    # The newest Python runs every line of the library, which the coverage session requires, and the
    # oldest looks for races. To do both on all of them would take twice the time.
    is_first = not measured
    if is_first:
        measured.append(session.name)
        python = ["coverage", "run"]
    # Where the oldest Python is missing, the newest looks for them: they are not left out.
    races = session.python == OLDEST or (is_first and shutil.which(f"python{OLDEST}") is None)
    chosen: list[str] = []
    if not is_first and session.python == OLDEST:
        chosen = [f"--ignore-glob=*/{name}" for name in NEWEST_ALONE + DEPENDENT]
    elif not is_first:
        chosen = files_named(PYTHONIC)
    commands = pytest_commands(session, chosen, races=races)
    commands = [[*python, "-m", *command] for command in commands]
    run_installed(session, make_wheel(session), *commands, COVERAGE_FILE=str(data))


@nox.session(python=PYTHONS_OF_CLIENTS)
def clients(session: nox.Session) -> None:
    """Let CPython's and NumPy's own tests, and many libraries, read through the package."""
    session.install(*run_time(), *group("tests"))
    install_what_there_is(session, group("clients"))
    command = ["pytest", *(session.posargs or [*WORKERS, CLIENTS])]
    run_installed(session, make_wheel(session), command)


@nox.session
def coverage(session: nox.Session) -> None:
    """Require that the last runs of the tests, all that were measured, reached everything."""
    session.install(*group("coverage"))
    folder = cache(session) / "coverage"
    sources = sorted({str(path.parent) for path in folder.glob("*/data.*")})
    if not sources:
        session.error("nothing is measured yet: run `nox -s tests`")
    env = {"COVERAGE_FILE": str(folder / "data")}
    session.run("coverage", "combine", "--keep", "--quiet", *sources, env=env)
    session.run("coverage", "report", env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """Check the code's style and format."""
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check", "--diff")
    sources = map(str, sorted(ROOT.glob("csrc/*.[ch]")))
    session.run("clang-format", "--dry-run", "--Werror", *sources)


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types with two checkers, and that the compiled module's stub is up to date."""
    session.install(*run_time(), *group("typing"))
    session.run("python", "tools/generate_stub.py", "--check")
    python = str(Path(session.bin) / "python")
    everything = [name for name in TYPED if (ROOT / name).exists()]
    # Both sides of every branch on the version. To a type checker for 3.11 NumPy's arrays are no
    # buffers, so there it is the package alone.
    for version, targets in (("3.11", ["mmapwrap"]), ("3.14", everything)):
        session.run("mypy", "--python-version", version, *targets)
        session.run("pyright", "--pythonpath", python, "--pythonversion", version, *targets)


def make_cross_wheels(session: nox.Session) -> list[Path]:
    """Make the wheels that are published, of the one for the session's Python."""
    folder = fresh(cache(session) / "dist" / "wheels")
    script = str(make_tree(session) / "tools" / "cross_wheels.py")
    zig_cache = str(cache(session) / "zig")
    env = {"ZIG_GLOBAL_CACHE_DIR": zig_cache, "ZIG_LOCAL_CACHE_DIR": zig_cache}
    session.run("python", script, str(make_wheel(session)), str(folder), env=env, silent=True)
    return sorted(folder.iterdir())


def wheel_for(platform: str, wheels: Iterable[Path]) -> Path:
    """Give the wheel whose tags have this platform."""
    (wheel,) = (each for each in wheels if f"{platform}." in each.name)
    return wheel


@nox.session
def downstream(session: nox.Session) -> None:
    """Check uses of the installed wheel with five type checkers; all its types must be known."""
    session.install(*run_time(), *group("downstream"))
    complete = ["pyright", "--verifytypes", "mmapwrap", "--ignoreexternal"]
    uses = ["python", "tests/downstream/check.py"]
    run_installed(session, make_wheel(session), complete, uses)


@nox.session
def dist(session: nox.Session) -> None:
    """Make what is published, check it, and install it; `-- --to FOLDER` copies the files there.

    That is the sdist, and the wheels for x86-64 and aarch64, glibc and musl.
    """
    session.install(*group("dist"))
    tree, sdist, own = make_tree(session), make_sdist(session), make_wheel(session)
    if "-abi3-" not in own.name:
        session.error("a free-threaded Python has no stable ABI: run this with another")
    wheels = make_cross_wheels(session)
    files = [str(each) for each in (sdist, *wheels)]
    session.run("python", "tools/check_dist.py", str(tree), *files)
    session.run("python", "tools/check_modules.py", *files[1:])
    session.run("abi3audit", "--strict", "--summary", *files[1:])
    session.run("check-wheel-contents", *files[1:])
    session.run("twine", "check", "--strict", *files)
    # The authors have no address, and the project has no home yet.
    unknown = ["AuthorEmail", *(() if "urls" in PROJECT["project"] else ("Url",))]
    session.run("pyroma", "--min=10", f"--skip-tests={','.join(unknown)}", str(sdist))
    session.run("python", "tools/check_setup.py", str(tree))
    session.run("cibuildwheel", "--platform=linux", "--print-build-identifiers", str(tree))
    smoke = str(tree / "tests" / "smoke.py")
    for source in (tree, sdist, wheel_for("manylinux_2_17_x86_64", wheels)):
        home = fresh(Path(session.virtualenv.location) / "fresh")
        session.run("python", "-m", "venv", "--without-pip", str(home))
        pip = ["python", "-m", "pip", "--python", str(home / "bin" / "python")]
        session.run(*pip, "install", str(source), silent=True)
        session.run(*pip, "check")
        with session.chdir(home):
            session.run("bin/python", "-P", smoke, external=True)
    aarch64 = str(wheel_for("manylinux_2_17_aarch64", wheels))
    session.run("python", "tools/try_aarch64.py", aarch64, str(cache(session) / "aarch64"))
    if session.posargs[:1] == ["--to"]:
        folder = Path(session.posargs[1])
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, folder)


@nox.session(python="3.13")
def docs(session: nox.Session) -> None:
    """Build the manual with each warning an error, and run the examples of all its pages."""
    session.install(*run_time(), *group("docs", "tests"))
    html = fresh(cache(session) / "docs")
    sphinx = ["python", "-m", "sphinx", "-n", "-W", "--keep-going", "-q", "-E"]
    sphinx += ["-b", "html", "-d", str(html / "doctrees"), "docs", str(html / "html")]
    examples = ["pytest", *WORKERS, "tests/docs/test_readme.py", *session.posargs]
    run_installed(session, make_wheel(session), sphinx, examples)
    session.log(f"the manual begins at {html / 'html' / 'index.html'}")


@nox.session
def free_threaded(session: nox.Session) -> None:
    """Make the wheels of free-threaded Pythons in containers; arguments go to cibuildwheel."""
    session.install(*group("dist"))
    session.run(
        "cibuildwheel",
        "--platform=linux",
        *session.posargs,
        env={"CIBW_BUILD": "cp*t-*", "CIBW_ARCHS": "native"},
    )


@nox.session
def stress(session: nox.Session) -> None:
    """Run random programs on the installed wheel: 200,000 steps, or `-- --steps N --seed S`."""
    session.install(*run_time(), *group("tests"))
    command = ["python", "-m", "random_programs", *session.posargs]
    run_installed(session, make_wheel(session), command, PYTHONPATH="tests/support")


@nox.session
def sanitize(session: nox.Session) -> None:
    """Run the tests on C code in which wrong accesses and undefined behaviour are reported."""
    session.install(*run_time(), *group("tests"))
    session.install("--no-deps", "--force-reinstall", str(make_wheel(session)))
    where = str(session.run("python", "-P", "-c", WHERE, silent=True, log=False))
    include, package = where.splitlines()
    (installed,) = Path(package).parent.glob("_core/_mman.*.so")
    shutil.copyfile(make_sanitized(session, include), installed)
    runtime = session.run("gcc", "-print-file-name=libasan.so", silent=True, external=True)
    # Reports go to files, because a report of a child that a test lets crash would be lost. Also a
    # child that has given up root writes there.
    with tempfile.TemporaryDirectory() as reports:
        Path(reports).chmod(0o777)
        options = ":".join(f"{name}={value}" for name, value in ASAN_OPTIONS.items())
        env = {
            "LD_PRELOAD": str(runtime).strip(),  # before the interpreter's first allocation
            "ASAN_OPTIONS": f"{options}:log_path={reports}/address",
            # Otherwise small objects come out of larger pieces, and their ends are not watched.
            "PYTHONMALLOC": "malloc",
        }
        try:
            with session.chdir(make_room(session)):
                left_out = [f"--ignore-glob=*/{name}" for name in LEFT_OUT]
                # The sanitizer maps memory of its own at any time, also where a test has just seen
                # something go. Its reports count whether a test is run again or not.
                again = ["--reruns=2", "--only-rerun=AssertionError"]
                for command in pytest_commands(session, [*left_out, *again], races=True):
                    session.run(*command, env=env)
        finally:
            if found := [path.read_text() for path in sorted(Path(reports).iterdir())]:
                session.error("\n".join(["the sanitizers found:", *found]))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the installed wheel beside its peers; arguments go to the benchmarks."""
    session.install(*run_time(), *group("bench"))
    # They run elsewhere, and what they write is wanted where nox was called.
    command = ["python", "-m", "benchmarks", "--base", session.invoked_from, *session.posargs]
    run_installed(session, make_wheel(session), command)


@nox.session(python=OLDEST)
def floors(session: nox.Session) -> None:
    """Build with the oldest versions that pyproject.toml allows, and test what depends on them."""
    session.install(*oldest(PROJECT["build-system"]["requires"]))
    folder = fresh(cache(session) / "dist" / "floors")
    args = ["--no-build-isolation", "--no-deps", "--wheel-dir", str(folder)]
    session.run("python", "-m", "pip", "wheel", *args, str(make_sdist(session)), silent=True)
    (wheel,) = folder.iterdir()
    session.install(*oldest(run_time()), *group("tests"))
    commands = pytest_commands(session, files_named(DEPENDENT), races=True)
    run_installed(session, wheel, *commands)
