"""The process in which programs run, until one fails or enough steps are done."""

import argparse
import threading
import time
from pathlib import Path

import numpy.random
from hypothesis import HealthCheck, Phase, Verbosity, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from kernel_view import vmas

from random_programs.calls import in_threads
from random_programs.machine import Machine
from random_programs.program import Log
from random_programs.public_calls import Calls

_LOADED = numpy.random
"""Hypothesis loads it in the first program, and what it maps stays."""

PROGRAMS = 5
"""Of one seed; between two seeds it is time to see whether to go on."""
LENGTH = 100


def run(number: int, *, shortens: bool) -> None:
    """Runs the programs of a seed."""
    run_state_machine_as_test(
        seed(number)(Machine),
        settings=settings(
            max_examples=PROGRAMS,
            stateful_step_count=LENGTH,
            deadline=None,
            database=None,
            phases=[Phase.generate, *([Phase.shrink] if shortens else [])],
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            report_multiple_bugs=False,
            print_blob=False,
            verbosity=Verbosity.normal if shortens else Verbosity.quiet,
        ),
    )


def main() -> None:
    """Prints the steps that were done."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--log", help="file for the lines of the program that runs")
    parser.add_argument("--calls", help="file for the names of the public calls that are made")
    parser.add_argument("--shorten", action="store_true", help="for minutes, what an error came of")
    arguments = parser.parse_args()
    until = time.monotonic() + arguments.seconds
    log = Machine.log = Log(arguments.log)
    # Threads map stacks and heaps that stay, small stacks for ever: once before, so that no program
    # is blamed for them.
    threading.stack_size(1 << 18)
    in_threads(*[lambda: bytearray(1 << 20)] * 8)
    before = len(vmas())
    number = arguments.seed * 1000
    if arguments.calls:
        Machine.calls = Calls()
    while log.steps < arguments.steps and time.monotonic() < until:
        run(number, shortens=arguments.shorten)
        number += 1
    if Machine.calls is not None:
        Path(arguments.calls).write_text("\n".join(Machine.calls.made))
    assert len(vmas()) - before <= 10, "mappings are left behind"
    print(log.steps)  # noqa: T201 - what the parent reads


if __name__ == "__main__":
    main()
