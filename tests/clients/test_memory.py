"""Libraries that read memory or map files themselves, with a region or the drop-in as the memory.

Some of them read by slices and methods, which are guarded copies. The others take the address of
the memory, or copy it in C: where a page is missing that is SIGBUS by nature, and so they work in
the region's `fault_guard()`, as docs/safety.md says.
"""

import importlib
import io
import struct
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

import mmapwrap.mmap

# --- By slices and methods ------------------------------------------------------------------------


def pe_file() -> bytes:
    """A program for Windows, with all the headers and two sections: code and CONTENT."""
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    coff = struct.pack("<HHIIIHH", 0x8664, 2, 0, 0, 0, 240, 0x22)
    sizes = (0x1000, len(CONTENT), 0, 0x1000, 0x1000)
    addresses = (0x140000000, 0x1000, 0x200)
    versions = (6, 0, 0, 0, 6, 0, 0)
    stack_and_heap = (1 << 20, 4096, 1 << 20, 4096)
    optional = struct.pack("<HBB5I", 0x20B, 14, 0, *sizes)
    optional += struct.pack("<QII6HI", *addresses, *versions)
    optional += struct.pack("<3IHH4QII", 0x80000, 0x400, 0, 3, 0, *stack_and_heap, 0, 16)
    directories = bytes(16 * 8)
    section = struct.Struct("<8s6I2HI")
    code = section.pack(b".text", 0x1000, 0x1000, 0x1000, 0x400, 0, 0, 0, 0, 0x60000020)
    size = len(CONTENT)
    data = section.pack(b".data", size, 0x2000, size, 0x1400, 0, 0, 0, 0, 0xC0000040)
    headers = dos + b"PE\0\0" + coff + optional + directories + code + data
    return headers.ljust(0x400, b"\0") + b"\x90" * 0x1000 + CONTENT


def sections_of(program: Any) -> list[tuple[bytes, bytes]]:
    """The sections that pefile found."""
    return [(each.Name.rstrip(b"\0"), each.get_data()) for each in program.sections]


SECTIONS = [(b".text", b"\x90" * 0x1000), (b".data", CONTENT)]


def read_pefile(stage: Stage) -> bool:
    pefile: Any = importlib.import_module("pefile")
    program = pefile.PE(data=stage.map(pe_file()), fast_load=True)
    stage.opened()
    return sections_of(program) == SECTIONS


def read_pefile_with_the_drop_in(stage: Stage) -> bool:
    pefile: Any = importlib.import_module("pefile")
    pefile.mmap = mmapwrap.mmap
    stage.map(pe_file()).close()
    program = pefile.PE(str(stage.path), fast_load=True)
    assert type(program.__data__) is mmapwrap.mmap.mmap
    stage.opened()
    return sections_of(program) == SECTIONS


def read_maxminddb(stage: Stage) -> bool:
    maxminddb: Any = importlib.import_module("maxminddb")
    reader: Any = importlib.import_module("maxminddb.reader")
    netaddr: Any = importlib.import_module("netaddr")
    writer = importlib.import_module("mmdb_writer").MMDBWriter(4, "Networks")
    networks = {f"10.{n // 256}.{n % 256}.0/24": f"network {n} " * 10 for n in range(1000)}
    for network, name in networks.items():
        writer.insert_network(netaddr.IPSet([network]), {"name": name})
    writer.to_db_file(str(stage.path))
    reader.mmap = mmapwrap.mmap
    stage.map(stage.path.read_bytes()).close()
    with maxminddb.open_database(stage.path, maxminddb.MODE_MMAP) as database:
        stage.opened()
        return {str(network): record["name"] for network, record in database} == networks


# --- By address, in a guard -----------------------------------------------------------------------


def read_pefile_in_full(stage: Stage) -> bool:
    pefile: Any = importlib.import_module("pefile")
    mapping = stage.map(pe_file())
    # It counts the bytes of a `bytearray` of all, which C copies.
    with mapping.fault_guard():
        program = pefile.PE(data=mapping)
        stage.opened()
        return sections_of(program) == SECTIONS


def read_capstone(stage: Stage) -> bool:
    capstone: Any = importlib.import_module("capstone")
    disassembler = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    mapping = stage.map(b"\x90\xc3" * 20_000)
    with mapping.fault_guard():
        stage.opened()
        names = [name for _, _, name, _ in disassembler.disasm_lite(mapping, 0)]
    return names == ["nop", "ret"] * 20_000


def read_pyarrow_parquet(stage: Stage) -> bool:
    pyarrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    table = pyarrow.table({"number": np.frombuffer(CONTENT, np.uint32)})
    made = io.BytesIO()
    parquet.write_table(table, made)
    mapping = stage.map(made.getvalue())
    with mapping.fault_guard():
        file = pyarrow.BufferReader(pyarrow.py_buffer(mapping))
        return bool(read_parquet(file, stage).equals(table))


def read_pyarrow_ipc(stage: Stage) -> bool:
    pyarrow: Any = importlib.import_module("pyarrow")
    ipc: Any = importlib.import_module("pyarrow.ipc")
    table = pyarrow.table({"number": np.frombuffer(CONTENT, np.uint32)})
    made = io.BytesIO()
    with ipc.new_file(made, table.schema) as writer:
        writer.write_table(table)
    mapping = stage.map(made.getvalue())
    with mapping.fault_guard():
        file = ipc.open_file(pyarrow.py_buffer(mapping))
        stage.opened()
        return bool(file.read_all().equals(table))


def read_h5py_image(stage: Stage) -> bool:
    h5py: Any = importlib.import_module("h5py")
    made = io.BytesIO()
    with h5py.File(made, "w") as file:
        file["numbers"] = np.frombuffer(CONTENT, np.uint32)
    mapping = stage.map(made.getvalue())
    with mapping.fault_guard(), h5py.File(h5py.h5f.open_file_image(mapping)) as file:
        return bool(file["numbers"][:].tobytes() == CONTENT)


def store_in_lmdb(stage: Stage) -> bool:
    """Store a mapped file as a value: lmdb maps its own file, which is out of reach."""
    lmdb: Any = importlib.import_module("lmdb")
    mapping = stage.map(CONTENT)
    with lmdb.open(str(stage.path.parent / "database"), map_size=1 << 24) as environment:
        with environment.begin(write=True) as transaction, mapping.fault_guard():
            stage.opened()
            transaction.put(b"content", mapping)
        with environment.begin(buffers=True) as transaction:
            stored = transaction.get(b"content")
            return bytes(stored) == CONTENT and mapping.find(stored) == 0


CLIENTS: dict[str, Client] = {
    "pefile": read_pefile,
    "pefile, drop-in": read_pefile_with_the_drop_in,
    "pefile, guard": read_pefile_in_full,
    "maxminddb, drop-in": read_maxminddb,
    "capstone, guard": read_capstone,
    "pyarrow, parquet, guard": read_pyarrow_parquet,
    "pyarrow, ipc, guard": read_pyarrow_ipc,
    "h5py, guard": read_h5py_image,
    "lmdb, guard": store_in_lmdb,
}
# A truncated file that is mapped anew is a short file, and no page is missing. h5py copies an image
# as it opens it.
NO_CASES = {
    ("pefile, drop-in", "before"),
    ("maxminddb, drop-in", "before"),
    ("h5py, guard", "after"),
}
CASES = [case for case in product(CLIENTS, ("before", "after")) if case not in NO_CASES]


def run(client: str, path: str, cut: str) -> None:
    run_client(CLIENTS[client], path, cut)


def skip_without_modules_of(client: str) -> None:
    skip_without(module_of(client))
    if client.startswith("maxminddb"):
        skip_without("mmdb_writer")


@pytest.mark.parametrize("client", CLIENTS)
def test_library_reads_a_mapped_file(client: str, disk_path: Path) -> None:
    skip_without_modules_of(client)
    assert outcome(in_process(run, client, disk_path / "file", "never")) == ["right"]


@pytest.mark.parametrize(("client", "cut"), CASES)
def test_library_gets_an_error_where_the_file_is_truncated(
    client: str, cut: str, disk_path: Path
) -> None:
    skip_without_modules_of(client)
    error, *_ = outcome(in_process(run, client, disk_path / "file", cut))
    assert error == "MappingFaultError"
