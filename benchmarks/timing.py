"""Samples, taken in rounds: each round measures the subject and its peers, one after the other.

So whatever else the machine does hits all of them alike, and the ratio of one round's values is
worth more than that of two medians.
"""

import time
from collections.abc import Callable, Sequence

import attrs

Measure = Callable[[], float]


@attrs.frozen
class Effort:
    """How much is done for a case.

    Args:
        least: The seconds that a sample of something short lasts at least.
        budget: The seconds after which no further round starts.
        fewest: Rounds to make, whatever they take.
        most: Rounds to make at most.
    """

    least: float
    budget: float
    fewest: int
    most: int


QUICK = Effort(least=0.008, budget=1.5, fewest=3, most=21)
FULL = Effort(least=0.02, budget=8.0, fewest=7, most=51)


def looped(run: Callable[[int], float], least: float) -> Measure:
    """Give the seconds of one turn of a loop, which turns as often as it takes to last long enough.

    Args:
        run: Turns the loop so many times, and gives the seconds that it took.
        least: The seconds that it should last.
    """
    loops = 1
    while (seconds := run(loops)) < least:
        grown = int(loops * 1.2 * least / max(seconds, 1e-9)) + 1
        loops = max(2 * loops, min(grown, 100 * loops))
    return lambda: run(loops) / loops


def once(work: Callable[[], object]) -> Measure:
    """Give the seconds of something that takes long."""

    def measure() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return measure


def interleaved(measures: Sequence[Measure], effort: Effort) -> list[list[float]]:
    """Take the samples of each measure: as many of one as of the others, in turns."""
    for measure in measures:
        measure()  # what only the first time costs is not what is asked
    samples: list[list[float]] = [[] for _ in measures]
    contestants = list(zip(measures, samples, strict=True))
    start = time.monotonic()
    for done in range(effort.most):
        if done >= effort.fewest and time.monotonic() - start > effort.budget:
            break
        for measure, taken in contestants:
            taken.append(measure())
        contestants.reverse()  # nobody always comes right after the same one
    return samples
