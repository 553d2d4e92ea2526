"""Runs each dangerous case in a child process with each library, and writes how it ended.

`python tools/safety_table.py` prints the table; with `--write docs/safety.md` it replaces the one
there. It needs NumPy, and mmapwrap installed.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

LIBRARIES = ("mmap", "numpy.memmap", "shared_memory", "mmapwrap")
SIZE = 1 << 20

# What maps `file` (SIZE bytes of b"x") or as much memory as `m`, for reading and writing.
OPENING = {
    "mmap": """
        import mmap
        handle = open(file, "r+b")
        m = mmap.mmap(handle.fileno(), 0)
        """,
    "numpy.memmap": """
        import numpy
        m = numpy.memmap(file, dtype="u1", mode="r+")
        """,
    "shared_memory": """
        import multiprocessing.shared_memory as shared
        block = shared.SharedMemory(create=True, size=size)
        file = "/dev/shm/" + block.name
        m = block.buf
        """,
    "mmapwrap": """
        from mmapwrap import *
        m = MemoryMapping.from_file(file)
        """,
}

# What a user does, the same for all libraries or in the words of one. None: it has no such thing.
CASES: dict[str, dict[str, str | None]] = {
    "one byte is read after the file was cut short": {
        "": "os.truncate(file, 0); m[SIZE // 2]",
    },
    "all is copied out after the file was cut short": {
        "": "os.truncate(file, 0); bytes(m[:])",
    },
    "one byte is written after the file was cut short": {
        "": "os.truncate(file, 0); m[SIZE // 2] = 1",
    },
    "something is searched after the file was cut short": {
        "": "os.truncate(file, 0); m.find(b'y')",
        "numpy.memmap": "os.truncate(file, 0); (m == 121).any()",
        "shared_memory": "os.truncate(file, 0); bytes(m).find(b'y')",
    },
    "NumPy sums it while the file is cut short (mmapwrap: inside a guard)": {
        "": "import numpy; a = numpy.frombuffer(m, 'u1'); os.truncate(file, 0); a.sum()",
        "numpy.memmap": "os.truncate(file, 0); m.sum()",
        "mmapwrap": """
            import numpy
            a = numpy.asarray(m)
            with m.fault_guard():
                os.truncate(file, 0)
                a.sum()
            """,
    },
    "one byte is read after the file was cut short, and again once it has grown": {
        "": """
            os.truncate(file, 0)
            try:
                m[SIZE // 2]
            except OSError:
                pass
            os.truncate(file, SIZE)
            m[SIZE // 2]
            """,
    },
    "NumPy sums it after the file was cut short, and again once it has grown (mmapwrap: inside a "
    "guard, and after `recover()`)": {
        "": """
            import numpy
            a = numpy.frombuffer(m, "u1")
            os.truncate(file, 0)
            a.sum()
            os.truncate(file, SIZE)
            a.sum()
            """,
        "mmapwrap": """
            import numpy
            a = numpy.frombuffer(m, "u1")
            os.truncate(file, 0)
            try:
                with m.fault_guard():
                    a.sum()
            except MappingFaultError:
                os.truncate(file, SIZE)
                m.recover()
            a.sum()
            """,
    },
    "memory without any access is read": {
        "": None,
        "mmap": "mmap.mmap(-1, SIZE, prot=0)[0]",
        "mmapwrap": "MemoryMapping.anonymous(SIZE, prot=Protection.none())[0]",
    },
    "what was made read-only is written": {
        "": None,
        "mmapwrap": "m.protect(Protection.read()); m[0] = 1",
    },
    "it is made inaccessible while a thread copies it": {
        "": None,
        "mmapwrap": """
            import threading
            errors = []
            def copy():
                for _ in range(200):
                    try:
                        m.read_slice(bytearray(SIZE), 0)
                    except ProtectionError as error:
                        errors.append(error)
            threads = [threading.Thread(target=copy) for _ in range(2)]
            [thread.start() for thread in threads]
            while any(thread.is_alive() for thread in threads):
                m.protect(Protection.none())
                m.protect(Protection.read())
            if errors:
                raise errors[0]
            """,
    },
    "it is closed, and then a view of it is used": {
        "": "v = memoryview(m); m.close(); v[0]",
        "numpy.memmap": "v = memoryview(m); m._mmap.close(); v[0]",
        "shared_memory": "import numpy; v = numpy.frombuffer(m, 'u1'); block.close(); v[0]",
        "mmapwrap": "v = m.view(); m.close(); v[0]",
    },
    "it is closed, and then an array made by `numpy.frombuffer` is read": {
        "": "import numpy; a = numpy.frombuffer(m, 'u1'); m.close(); a[SIZE // 2]",
        "numpy.memmap": """
            import numpy
            a = numpy.frombuffer(m, "u1")
            m._mmap.close()
            a[SIZE // 2]
            """,
        "shared_memory": """
            import numpy
            a = numpy.frombuffer(m, "u1")
            block.close()
            a[SIZE // 2]
            """,
    },
    "it is closed, and then an array made by `numpy.ndarray(buffer=)` is read": {
        "": "import numpy; a = numpy.ndarray((SIZE,), 'u1', buffer=m); m.close(); a[SIZE // 2]",
        "numpy.memmap": """
            import numpy
            a = numpy.ndarray((SIZE,), "u1", buffer=m)
            m._mmap.close()
            a[SIZE // 2]
            """,
        "shared_memory": """
            import numpy
            a = numpy.ndarray((SIZE,), "u1", buffer=m)
            block.close()
            a[SIZE // 2]
            """,
    },
    "a file over it is read after the file was cut short": {
        "": None,
        "mmap": "os.truncate(file, 0); m.read()",
        "mmapwrap": "f = m.open(); os.truncate(file, 0); f.read()",
    },
    "it grows while a NumPy array of it lives": {
        "": None,
        "mmap": "import numpy; a = numpy.frombuffer(m, 'u1'); m.resize(2 * SIZE); a[0]",
        "mmapwrap": """
            m = MemoryMapping.from_file(file, capacity=4 * SIZE)
            a = m.array("u1")
            m.resize(2 * SIZE)
            a[0]
            """,
    },
    "it shrinks while an array shows its end": {
        "": None,
        "mmap": "import numpy; a = numpy.frombuffer(m, 'u1'); m.resize(SIZE // 2); a[-1]",
        "mmapwrap": "a = m.array('u1'); m.resize(SIZE // 2); a[-1]",
    },
    "another process makes it shorter, and it follows": {
        "": None,
        "mmapwrap": """
            m = MemoryMapping.from_file(file, capacity=4 * SIZE)
            os.truncate(file, SIZE // 2)
            m.refresh()
            m[SIZE // 2]
            """,
    },
    "a child uses memory that it did not inherit": {
        "": None,
        "mmap": "m.madvise(mmap.MADV_DONTFORK); IN_CHILD = lambda: m[0]",
        "mmapwrap": "m.use_dontfork(); IN_CHILD = lambda: m[0]",
    },
}

PROGRAM = """
import os
file, SIZE = {file!r}, {size}
{opening}
IN_CHILD = None
try:
{case}
    if IN_CHILD is not None:
        pid = os.fork()
        if pid == 0:
            try:
                IN_CHILD()
            except BaseException as error:
                os.write(1, type(error).__name__.encode())
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            os.kill(os.getpid(), os.WTERMSIG(status))
    else:
        print("no error")
except Exception as error:
    print(type(error).__name__)
os._exit(0)
"""


def ending(library: str, case: str, folder: Path) -> str:
    """Says how a child process ended that did this."""
    file = folder / "file"
    file.write_bytes(b"x" * SIZE)
    opening = textwrap.dedent(OPENING[library]).replace("size=size", f"size={SIZE}")
    body = textwrap.indent(textwrap.dedent(case).strip(), "    ")
    program = PROGRAM.format(file=str(file), size=SIZE, opening=opening, case=body)
    child = subprocess.run(
        [sys.executable, "-P", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if child.returncode < 0:
        return f"**killed by {signal.Signals(-child.returncode).name}**"
    if child.returncode or not child.stdout.strip():
        raise RuntimeError(f"{library}: {program}\n{child.stderr}")
    return child.stdout.split("\n")[0].strip()


def table() -> str:
    """Runs everything and draws the table in Markdown."""
    lines = [f"| case | {' | '.join(LIBRARIES)} |", "| --- " * (len(LIBRARIES) + 1) + "|"]
    # A disk, because what is on a tmpfs has no file behind it.
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for case, words in CASES.items():
            ends: list[str] = []
            for library in LIBRARIES:
                body = words.get(library, words[""])
                end = "no such thing" if body is None else ending(library, body, Path(folder))
                ends.append(end)
            lines.append(f"| {case} | {' | '.join(ends)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints the table, or writes it between the marks of a page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="PAGE")
    page = parser.parse_args().write
    made = table()
    if page is None:
        print(made, end="")
        return
    begin, end = "<!-- table: begin -->\n", "<!-- table: end -->"
    before, _, rest = page.read_text().partition(begin)
    _, _, after = rest.partition(end)
    page.write_text(before + begin + made + end + after)


if __name__ == "__main__":
    main()
