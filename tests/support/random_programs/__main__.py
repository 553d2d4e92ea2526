"""Runs random programs until enough steps are done, and prints the first that fails."""

import argparse
import itertools
import os
import platform
import sys
import time

from random_programs.runner import ProgramFailedError, run_programs

STEPS_OF_A_CHILD = 10_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="random_programs", description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000, help="at least so many (%(default)s)")
    parser.add_argument(
        "--seed", type=int, help="that of the first child process (another each time)"
    )
    arguments = parser.parse_args()
    first: int | None = arguments.seed
    if first is None:
        first = int.from_bytes(os.urandom(3))
    began, done = time.monotonic(), 0
    for seed in itertools.count(first):
        try:
            done += run_programs(seed, steps=min(STEPS_OF_A_CHILD, arguments.steps - done))
        except ProgramFailedError as failure:
            sys.stdout.write(f"{failure}\nfailed at seed {seed}, after {done} steps\n")
            return 1
        sys.stdout.write(f"seed {seed}: {done} steps so far\n")
        sys.stdout.flush()
        if done >= arguments.steps:
            break
    sys.stdout.write(
        f"{done} steps without a failure in {time.monotonic() - began:.0f} s,"
        f" from seed {first}, on Python {platform.python_version()}, Linux {platform.release()}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
