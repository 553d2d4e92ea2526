"""Wrong uses of pages. Type checkers find each line that says `wrong`; nothing runs it."""

from mmapwrap import Advice, DestructiveAdvice, MemoryMapping, MemoryMappingArena, Protection


def advice(mapping: MemoryMapping) -> None:
    mapping.advise()  # wrong: missing
    mapping.advise(DestructiveAdvice.DONTNEED)  # wrong: type
    mapping.advise(4)  # wrong: type
    mapping.advise(Advice.DONTNEED)  # wrong: unknown
    mapping.advise_destructive(Advice.RANDOM)  # wrong: type
    mapping.remove_range()  # wrong: missing
    mapping.drop_page_cache(0)  # wrong: missing


def calls(mapping: MemoryMapping) -> None:
    mapping.protect(1)  # wrong: type
    mapping.protect("rw")  # wrong: type
    mapping.msync(mode=1)  # wrong: type
    mapping.msync(mode="sync")  # wrong: type
    mapping.msync(0, None, Advice.NORMAL)  # wrong: type
    mapping.lock("0")  # wrong: type
    mapping.populate(progress=tell)  # wrong: type
    mapping.resize(8192, False)  # wrong: surplus
    mapping.flush()  # wrong: unknown
    mapping.madvise(3)  # wrong: unknown


def tell(done: int) -> None: ...


def arenas(arena: MemoryMappingArena) -> None:
    arena.add_anon(0)  # wrong: missing
    arena.add_fd(0, 4096, "file")  # wrong: type
    arena.segments()[0].prot = Protection.read()  # wrong: frozen


def attributes(mapping: MemoryMapping) -> None:
    mapping.size = 3  # wrong: frozen
    mapping.prot = Protection.read()  # wrong: frozen
    mapping.closed = True  # wrong: frozen
    mapping.note = "mine"  # wrong: unknown
