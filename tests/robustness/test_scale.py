"""Many mappings, large ones, and no more of them: what the kernel lists, and what it costs.

An arena of 20,000 segments is in `test_arena_random.py`, and every call at the limit on mappings in
`test_limits.py`.
"""

from pathlib import Path

import pytest
from kernel_view import PAGE, amount, child, own_status, perms, vm_flags, vmas_in
from limits import MAX_MAP_COUNT
from marks import MEMORY_IS_COUNTED, MEMORY_IS_PAST_THE_LIMIT

from mmapwrap import Advice, MemoryMapping, MemoryMappingArena

MANY = 30_000
KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


@pytest.mark.not_sanitized(MEMORY_IS_COUNTED)
@pytest.mark.skipif(
    MAX_MAP_COUNT < MANY + 5_000, reason=f"vm.max_map_count is too small for {MANY} mappings"
)
def test_many_mappings_open_at_once_are_all_there_and_cost_little() -> None:
    # In a process of its own: what pages its heap keeps afterwards is nobody's business here.
    program = f"""
        import gc
        from kernel_view import PAGE, own_status
        from mmapwrap import MemoryMapping

        def lines():
            with open("/proc/self/maps") as maps:
                return sum(1 for _ in maps)

        kept = [None] * {MANY}
        MemoryMapping.new(PAGE).close()
        own, tables, listed = own_status("RssAnon"), own_status("VmPTE"), lines()
        for i in range({MANY}):
            kept[i] = MemoryMapping.new(PAGE)
        # Neighbours that are memory of two mappings never become one line.
        assert lines() - listed >= {MANY}, lines() - listed
        each = (own_status("RssAnon") - own) / {MANY}
        assert 0 < each <= 1024, f"{{each:.0f}} bytes of memory for a mapping"
        assert own_status("RssShmem") < 1 << 20  # none of their pages, of which none was touched
        for i in range(0, {MANY}, 1000):
            kept[i][0] = i // 1000
        assert [kept[i][0] for i in range(0, {MANY}, 1000)] == list(range({MANY} // 1000))
        # Half of them go, of which none is a neighbour of another.
        for i in range(0, {MANY}, 2):
            kept[i].close()
        assert {MANY} // 2 <= lines() - listed < {MANY} // 2 + 100
        for mapping in kept:
            mapping.close()
        assert abs(lines() - listed) < 100
        assert own_status("VmPTE") - tables < 4 << 20
    """
    child(program).succeeded()


@pytest.mark.not_sanitized(MEMORY_IS_COUNTED)
def test_reservation_of_a_tebibyte_is_one_line_and_costs_what_is_put_into_it() -> None:
    own, tables = own_status("VmRSS"), own_status("VmPTE")
    with MemoryMappingArena.new(TIB) as arena:
        (line,) = vmas_in(arena.as_ptr(), TIB)
        assert (line.perms, line.start <= arena.as_ptr()) == ("---p", True)
        assert line.end >= arena.as_ptr() + TIB
        places = range(0, TIB, 64 * GIB)
        for number, offset in enumerate(places):
            arena.add_anon(offset, 2 * PAGE)
            arena[offset] = number
        assert [arena[offset] for offset in places] == list(range(len(places)))
        assert [segment.offset for segment in arena.segments()] == list(places)
        assert amount("Rss", arena.as_ptr(), TIB) == len(places) * PAGE
        assert own_status("VmRSS") - own < 16 * MIB
        assert own_status("VmPTE") - tables < MIB
        for offset in places:
            arena.remove(offset, 2 * PAGE)
        assert amount("Rss", arena.as_ptr(), TIB) == 0
        assert len(vmas_in(arena.as_ptr(), TIB)) == 1
        address = arena.as_ptr()
    assert vmas_in(address, TIB) == []


def test_sparse_file_of_100_gib_is_mapped_whole_and_takes_what_is_written(disk_path: Path) -> None:
    size = 100 * GIB
    path = disk_path / "sparse"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(size)
    own, tables = own_status("RssAnon"), own_status("VmPTE")
    with MemoryMapping.from_file(path) as m:
        assert (m.size, len(m)) == (size, size)
        assert perms(m.as_ptr(), PAGE) == perms(m.as_ptr() + size - PAGE, PAGE) == ["rw-s"]
        (line,) = vmas_in(m.as_ptr(), size)
        assert line.end - line.start == size
        places = [*range(0, size, 10 * GIB), size - PAGE]
        for number, offset in enumerate(places, 1):
            m[offset] = number
            m.msync(offset, 1)
        assert amount("Rss", m.as_ptr(), size) <= len(places) * MIB
        # A MiB for the tables of addresses that are far apart: a page for each level of each.
        assert own_status("VmPTE") - tables < MIB
        assert own_status("RssAnon") - own < 16 * MIB
        assert m.residency(size - MIB).total == MIB // PAGE
        assert m.find(b"\x0b", size - MIB) == size - PAGE
    with path.open("rb") as file:
        for number, offset in enumerate(places, 1):
            file.seek(offset)
            assert file.read(2) == bytes((number, 0))
    assert path.stat().st_blocks * 512 <= len(places) * MIB


def test_calls_on_all_100_gib_of_a_sparse_file_reads_nothing_in(disk_path: Path) -> None:
    path = disk_path / "sparse"
    path.touch()
    with path.open("r+b") as file:
        file.truncate(100 * GIB)
    with MemoryMapping.from_file(path) as m:
        m.advise(Advice.RANDOM)
        assert "rr" in vm_flags(m.as_ptr(), m.size)
        m.drop_page_cache(0, m.size)
        m.msync()
        assert amount("Rss", m.as_ptr(), m.size) == 0


@pytest.mark.not_sanitized(MEMORY_IS_PAST_THE_LIMIT)
@pytest.mark.skipif(
    MAX_MAP_COUNT > 1_000_000, reason=f"vm.max_map_count is {MAX_MAP_COUNT}: to reach it takes long"
)
@pytest.mark.flaky(reruns=3)  # the interpreter may meet the limit first, for its own objects
def test_mapping_past_the_limit_is_out_of_memory_and_leaves_nothing(disk_path: Path) -> None:
    path = disk_path / "file"
    path.write_bytes(b"x" * PAGE)
    program = """
        import errno, os, sys
        from kernel_view import PAGE, spare_memory
        from mmapwrap import MemoryMapping, MemoryMappingArena, OutOfMemoryError, SharedMemory

        def lines():
            with open("/proc/self/maps") as maps:
                return sum(1 for _ in maps)

        path, limit, spare = sys.argv[1], int(sys.argv[2]), spare_memory()
        arena = MemoryMappingArena.new(16 * PAGE)
        memory = SharedMemory.new("scale", PAGE)
        kept = [None] * (limit + 1)
        descriptors = len(os.listdir("/proc/self/fd"))

        def fill(made):
            try:
                while True:
                    kept[made] = MemoryMapping.new(PAGE)
                    made += 1
            except OutOfMemoryError as error:
                assert (error.errno, error.syscall) == (errno.ENOMEM, "mmap"), error
            except MemoryError:
                pass  # the interpreter has met the limit first, for its own objects
            return made

        def close_from(start):
            for i in range(start, made):
                kept[i].close()

        made = fill(0)
        assert limit - 5_000 < made <= limit, made
        room = made - 64  # to count in: the interpreter maps memory too
        close_from(room)
        before = lines()
        made = fill(room)
        for make in (
            lambda: MemoryMapping.new(PAGE),
            lambda: MemoryMapping.from_file(path),
            lambda: MemoryMapping.anonymous(PAGE, align=1 << 21),
            lambda: MemoryMapping.anonymous(1 << 20, populate=True),
            lambda: memory.map(),
            lambda: MemoryMappingArena.new(PAGE),
            lambda: arena.add_anon(4 * PAGE, PAGE),
        ) * 10:
            try:
                make()
            except OutOfMemoryError as error:
                assert error.errno == errno.ENOMEM, error
            except MemoryError:
                pass
            else:
                raise AssertionError("not refused")
        assert arena.segments() == ()
        close_from(room)
        assert abs(lines() - before) < 10, (lines(), before)
        assert len(os.listdir("/proc/self/fd")) == descriptors
        with MemoryMapping.from_file(path) as m:
            assert m[0] == ord("x")
        arena.add_anon(4 * PAGE, PAGE)
        for mapping in kept:
            if mapping is not None:
                mapping.close()
        assert lines() < 1000
    """
    child(program, path, MAX_MAP_COUNT, measured=False).succeeded()
