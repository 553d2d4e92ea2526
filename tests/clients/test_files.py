"""Libraries that read a file, with `region.open()` as the file.

Each reads a real file of its format right. Where the file is truncated to half its length, before
the library opens it or after, each gets a MappingFaultError, or makes an error of its own of it;
none dies of a signal.
"""

import bz2
import csv
import gzip
import importlib
import io
import lzma
import pickle
import sys
import tarfile
import zipfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clients import (
    CONTENT,
    Client,
    Stage,
    module_of,
    outcome,
    read_parquet,
    run_client,
    skip_without,
)
from kernel_view import in_process

# --- The standard library -------------------------------------------------------------------------


def read_zipfile(stage: Stage) -> bool:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("content", CONTENT)
    with zipfile.ZipFile(stage.file(made.getvalue())) as archive:
        stage.opened()
        return archive.read("content") == CONTENT


def read_tarfile(stage: Stage) -> bool:
    made = io.BytesIO()
    member = tarfile.TarInfo("content")
    member.size = len(CONTENT)
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.addfile(member, io.BytesIO(CONTENT))
    with tarfile.open(fileobj=stage.file(made.getvalue())) as archive:
        stage.opened()
        content = archive.extractfile("content")
        return content is not None and content.read() == CONTENT


def read_gzip(stage: Stage) -> bool:
    with gzip.GzipFile(fileobj=stage.file(gzip.compress(CONTENT))) as file:
        begin = file.read(10)
        stage.opened()
        return begin + file.read() == CONTENT


def read_bz2(stage: Stage) -> bool:
    with bz2.BZ2File(stage.file(bz2.compress(CONTENT, 1))) as file:
        begin = file.read(10)
        stage.opened()
        return begin + file.read() == CONTENT


def read_lzma(stage: Stage) -> bool:
    with lzma.LZMAFile(stage.file(lzma.compress(CONTENT))) as file:
        begin = file.read(10)
        stage.opened()
        return begin + file.read() == CONTENT


def read_pickle(stage: Stage) -> bool:
    content = [CONTENT[begin : begin + 1000] for begin in range(0, len(CONTENT), 1000)]
    unpickler = pickle.Unpickler(stage.file(pickle.dumps("first") + pickle.dumps(content)))
    first = unpickler.load()
    stage.opened()
    return [first, unpickler.load()] == ["first", content]


def read_csv(stage: Stage) -> bool:
    rows = [[str(number), f'"{number}", {number}'] for number in range(20_000)]
    made = io.StringIO(newline="")
    csv.writer(made).writerows(rows)
    with io.TextIOWrapper(stage.file(made.getvalue().encode()), newline="") as text:
        reader = csv.reader(text)
        first = next(reader)
        stage.opened()
        return [first, *reader] == rows


# --- Numbers and tables -----------------------------------------------------------------------


def read_numpy(stage: Stage) -> bool:
    numbers = np.frombuffer(CONTENT, np.uint32)
    made = io.BytesIO()
    np.savez(made, first=numbers[:10], numbers=numbers)
    with np.load(stage.file(made.getvalue())) as archive:
        stage.opened()
        return np.array_equal(archive["numbers"], numbers)


def read_numpy_at_once(stage: Stage) -> bool:
    made = io.BytesIO()
    np.save(made, np.frombuffer(CONTENT, np.uint32))
    return bool(np.load(stage.file(made.getvalue())).tobytes() == CONTENT)


def read_pandas(stage: Stage) -> bool:
    pandas: Any = importlib.import_module("pandas")
    frame = pandas.DataFrame({"number": np.frombuffer(CONTENT, np.uint32), "text": "a, b"})
    file = stage.file(frame.to_csv(index=False).encode())
    with pandas.read_csv(file, chunksize=1000) as reader:
        first = reader.get_chunk()
        stage.opened()
        read = pandas.concat([first, *reader])
    return bool((read["number"] == frame["number"]).all() and (read["text"] == "a, b").all())


def read_pyarrow(stage: Stage) -> bool:
    pyarrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    table = pyarrow.table({"number": np.frombuffer(CONTENT, np.uint32)})
    made = io.BytesIO()
    parquet.write_table(table, made, row_group_size=10_000)
    return bool(read_parquet(stage.file(made.getvalue()), stage).equals(table))


def read_h5py(stage: Stage) -> bool:
    h5py: Any = importlib.import_module("h5py")
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file["numbers"] = np.frombuffer(CONTENT, np.uint32)
    with h5py.File(stage.file(made.getvalue()), "r") as file:
        stage.opened()
        return bool(file["numbers"][:].tobytes() == CONTENT)


# --- Images -----------------------------------------------------------------------------------


def read_image(stage: Stage, kind: str, **options: object) -> bool:
    image: Any = importlib.import_module("PIL.Image")
    made = io.BytesIO()
    drawn = image.frombytes("RGB", (400, 300), CONTENT[: 400 * 300 * 3])
    drawn.save(made, kind, **options)
    expected = image.open(io.BytesIO(made.getvalue())).tobytes()
    opened = image.open(stage.file(made.getvalue()))
    stage.opened()
    return bool(opened.tobytes() == expected and opened.format == kind)


def read_png(stage: Stage) -> bool:
    return read_image(stage, "PNG")


def read_jpeg(stage: Stage) -> bool:
    return read_image(stage, "JPEG", quality=95)


def read_tiff(stage: Stage) -> bool:
    return read_image(stage, "TIFF", compression="tiff_lzw")


def read_tifffile(stage: Stage) -> bool:
    tifffile: Any = importlib.import_module("tifffile")
    pages = np.frombuffer(CONTENT, np.uint16).reshape(5, 200, 200)
    made = io.BytesIO()
    tifffile.imwrite(made, pages, photometric="minisblack")
    with tifffile.TiffFile(stage.file(made.getvalue())) as file:
        stage.opened()
        return np.array_equal(file.asarray(), pages)


# --- Programs and records -----------------------------------------------------------------------


def read_elftools(stage: Stage) -> bool:
    elffile: Any = importlib.import_module("elftools.elf.elffile")
    content = Path(sys.executable).read_bytes()
    expected = [s.data() for s in elffile.ELFFile(io.BytesIO(content)).iter_sections()]
    file = elffile.ELFFile(stage.file(content))
    stage.opened()
    return len(expected) > 10 and [s.data() for s in file.iter_sections()] == expected


def read_construct(stage: Stage) -> bool:
    construct: Any = importlib.import_module("construct")
    record = construct.Struct("length" / construct.Int32ub, "data" / construct.Bytes(1000))
    records = [{"length": n, "data": CONTENT[n : n + 1000]} for n in range(400)]
    file = stage.file(b"".join(map(record.build, records)))
    first = record.parse_stream(file)
    stage.opened()
    read = [first, *(record.parse_stream(file) for _ in records[1:])]
    return [{"length": each.length, "data": each.data} for each in read] == records


CLIENTS: dict[str, Client] = {
    "zipfile": read_zipfile,
    "tarfile": read_tarfile,
    "gzip": read_gzip,
    "bz2": read_bz2,
    "lzma": read_lzma,
    "pickle": read_pickle,
    "csv": read_csv,
    "numpy": read_numpy,
    "numpy, at once": read_numpy_at_once,
    "pandas": read_pandas,
    "pyarrow": read_pyarrow,
    "h5py": read_h5py,
    "PIL, PNG": read_png,
    "PIL, JPEG": read_jpeg,
    "PIL, TIFF": read_tiff,
    "tifffile": read_tifffile,
    "elftools": read_elftools,
    "construct": read_construct,
}
OWN_ERRORS = {
    "zipfile": "BadZipFile",
    "numpy": "BadZipFile",
    "PIL, TIFF": "UnidentifiedImageError",
    "elftools": "ELFParseError",
    "construct": "StreamError",
}
"""What some of them may make of the MappingFaultError that they get."""
# numpy.load opens and reads an array in one call.
CASES = [
    case for case in product(CLIENTS, ("before", "after")) if case != ("numpy, at once", "after")
]


def run(client: str, path: str, cut: str) -> None:
    run_client(CLIENTS[client], path, cut)


@pytest.mark.parametrize("client", CLIENTS)
def test_library_reads_a_mapped_file(client: str, disk_path: Path) -> None:
    skip_without(module_of(client))
    assert outcome(in_process(run, client, disk_path / "file", "never")) == ["right"]


@pytest.mark.parametrize(("client", "cut"), CASES)
def test_library_gets_an_error_where_the_file_is_truncated(
    client: str, cut: str, disk_path: Path
) -> None:
    skip_without(module_of(client))
    ended = in_process(run, client, disk_path / "file", cut)
    errors = outcome(ended)
    assert errors[0] in {"MappingFaultError", OWN_ERRORS.get(client)}
    # Pillow makes a warning of the fault while it looks for the format.
    assert "MappingFaultError" in errors or "could not be read in: Input/output" in ended.errors
