"""Programs that meet lost pages, each in a process of its own, which a signal may end."""

from textwrap import dedent

from kernel_view import Child, KnownFile, child

PREAMBLE = """
    import faulthandler, os, signal, sys, time
    import numpy as np
    from kernel_view import PAGE
    from mmapwrap import MappingFaultError, MemoryMapping

    def lost():
        os.truncate(sys.argv[1], 16 * PAGE)
        m = MemoryMapping.from_file(sys.argv[1])
        os.truncate(sys.argv[1], 8 * PAGE)
        return m

    def fault(call):
        try:
            call()
        except MappingFaultError as error:
            print(error.offset // PAGE, error.pages, flush=True)

    def guarded(m):
        view = m.view()
        with m.fault_guard():
            assert view[9 * PAGE] == 0

"""


def run_faulting(program: str, known_file: KnownFile, timeout: float = 60) -> Child:
    """Run a program that has these helpers on a file of its own."""
    return child(dedent(PREAMBLE) + dedent(program), known_file.path, timeout=timeout)
