"""Forks in the middle of the library's calls, and beside other libraries' fork handlers."""

import importlib.util

import pytest
from kernel_view import child

PRELUDE = """
    import faulthandler, os, signal, sys, threading, time
    from mmapwrap import MemoryMapping, Protection, ProtectionError

    faulthandler.dump_traceback_later(60, exit=True)
    READ_WRITE = Protection.read_write()
"""


def program(body: str) -> str:
    return PRELUDE + body


def test_child_that_a_signal_handler_forks_during_a_wait_goes_on() -> None:
    body = """
    m = MemoryMapping.new(4096)
    children = []

    def fork(*_):
        if not children:
            children.append(os.fork())

    signal.signal(signal.SIGALRM, fork)
    holder = threading.Thread(target=m._pages.exclusively, args=(time.sleep, 1))
    holder.start()
    time.sleep(0.1)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    m.protect(READ_WRITE)
    if children[0] == 0:
        m.protect(Protection.read())
        os._exit(7)
    holder.join()
    print(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
    """
    assert child(program(body), measured=False).succeeded() == "7\n"


def test_thread_of_a_child_forked_inside_a_change_waits_for_its_end() -> None:
    body = """
    m = MemoryMapping.new(4096)
    threads = []
    ends = []

    def view():
        try:
            m.view()
        except ProtectionError:
            ends.append("refused")
        else:
            ends.append("a view")

    def fork_inside(frame, event, argument):
        if event == "call" and frame.f_code.co_name == "_protect_all":
            sys.setprofile(None)
            if os.fork() == 0:
                threads.append(threading.Thread(target=view))
                threads[0].start()
                time.sleep(0.2)
                assert ends == [], "the thread came into the middle of the change"

    sys.setprofile(fork_inside)
    m.protect(Protection.none())
    sys.setprofile(None)
    if threads:
        threads[0].join()
        m.protect(READ_WRITE)
        m.view()
        os._exit(7 if ends == ["refused"] else 1)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
    """
    assert child(program(body), measured=False).succeeded() == "7\n"


def test_fork_handler_of_another_library_may_wait_for_a_thread_that_meets_a_lost_page() -> None:
    text = """
        import ctypes, faulthandler, os, threading

        faulthandler.dump_traceback_later(60, exit=True)
        go, done = os.pipe(), os.pipe()
        is_waited_for = False

        def look():
            os.read(go[0], 1)
            os.write(done[1], bytes([view[0]]))
            os.read(go[0], 1)  # to end, it would need the lock that the fork holds

        @ctypes.CFUNCTYPE(None)
        def prepare():
            if is_waited_for:
                os.write(go[1], b"1")
                print(os.read(done[0], 1))

        # It is registered before the library's own handlers, and so runs after them.
        ctypes.CDLL(None).__register_atfork(prepare, None, None, None)
        from mmapwrap import MappingFaultError, MemoryMapping

        fd = os.memfd_create("x")
        os.ftruncate(fd, 4096)
        m = MemoryMapping.from_file(fd)
        view = m.view()
        threading.Thread(target=look).start()
        try:
            with m.fault_guard():
                os.ftruncate(fd, 0)
                is_waited_for = True
                pid = os.fork()
                if pid == 0:
                    os._exit(7 if view[1] == 0 else 1)
                os.write(go[1], b"1")
        except MappingFaultError as error:
            print(error.pages, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    expected = r"b'\x00'" + "\n1 7\n"
    assert child(text, measured=False).succeeded() == expected


def test_child_forked_while_a_thread_recovers_a_region_meets_errors_and_no_signal() -> None:
    body = """
    from mmapwrap import MappingFaultError, UnsupportedOperationError

    page, count = 4096, 64
    fd = os.memfd_create("recovered")
    os.ftruncate(fd, count * page)
    m = MemoryMapping.from_fd(fd, count * page)
    view = m.view()
    is_running, recoveries = True, 0

    def lose_and_recover():
        global recoveries
        while is_running:
            os.ftruncate(fd, 0)
            try:
                with m.fault_guard():
                    for at in range(0, count * page, 7 * page):
                        view[at]
            except MappingFaultError:
                pass
            os.ftruncate(fd, count * page)
            m.recover()
            recoveries += 1

    thread = threading.Thread(target=lose_and_recover)
    thread.start()
    end = time.monotonic() + 6
    while time.monotonic() < end:
        pid = os.fork()
        if pid == 0:
            try:
                m.recover()
            except UnsupportedOperationError:
                pass
            m.close()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    is_running = False
    thread.join()
    assert recoveries > 0
    """
    assert child(program(body), measured=False).succeeded() == ""


@pytest.mark.skipif(
    importlib.util.find_spec("_testcapi") is None, reason="a Python without its own tests"
)
def test_child_without_memory_for_a_new_lock_ends_the_change_that_it_was_forked_in() -> None:
    body = """
    import _testcapi

    m = MemoryMapping.new(4096)
    lock = m._pages.layout.exclusively
    ends = []

    def fork_without_memory(allocation):
        if os.fork() != 0:
            return
        _testcapi.set_nomemory(allocation, allocation + 1)
        try:
            lock(int)
        except BaseException as error:
            ends.append(type(error).__name__)
        _testcapi.remove_mem_hooks()

    for allocation in range(6):
        ends.clear()
        lock(fork_without_memory, allocation)
        if ends:
            m.protect(Protection.read())
            print(*ends)
            sys.stdout.flush()
            os._exit(0)
        assert os.wait()[1] == 0
    """
    output = child(program(body), measured=False).succeeded()
    assert "MemoryError" in output.split()
