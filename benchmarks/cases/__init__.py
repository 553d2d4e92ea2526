"""All cases, in the order of the table."""

from benchmarks.case import Case
from benchmarks.cases import access, arenas, calls, copies, doors, files, processes, search, threads

ALL: tuple[Case, ...] = (
    *calls.CASES,
    *access.CASES,
    *copies.CASES,
    *search.CASES,
    *threads.CASES,
    *files.CASES,
    *doors.CASES,
    *processes.SHARED_CASES,
    *arenas.CASES,
    *copies.GUARD_CASES,
    *processes.FOOTPRINT_CASES,
)
