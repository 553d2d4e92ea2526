"""Random programs over the whole library, in child processes: none ends with a signal."""

import os
import sys
from pathlib import Path
from typing import Final

import pytest
from random_programs.public_calls import public_calls
from random_programs.runner import run_programs

# The long run: `MMAPWRAP_RANDOM_STEPS=200000 pytest tests/robustness/test_random_programs.py`. It
# starts from another seed each time, or from MMAPWRAP_RANDOM_SEED; the short one is always the
# same.
STEPS: Final = int(os.getenv("MMAPWRAP_RANDOM_STEPS", "0"))
SEED: Final = int(os.getenv("MMAPWRAP_RANDOM_SEED", "0")) or int.from_bytes(os.urandom(3))
STEPS_OF_A_CHILD: Final = 5000 if STEPS else 1500
SEEDS: Final = [SEED + i for i in range(-(-STEPS // STEPS_OF_A_CHILD))] if STEPS else [1, 2]

done: list[int] = []


@pytest.mark.race
@pytest.mark.timeout(300)  # so long does a slow machine take that has another load as well
@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs_keep_to_the_model_and_end_without_a_signal(
    seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    done.append(run_programs(seed, steps=STEPS_OF_A_CHILD, seconds=100))
    assert done[-1] > 0
    with capfd.disabled():
        sys.stderr.write(f"\nrandom programs: seed {seed}, {sum(done)} steps so far, no signal\n")


# The public calls that no step makes, and why.
NOT_CALLED: Final = {
    "mmap.__reversed__": "it reads as iteration does, which a step makes",
    "MappedRegion.__init__": "is a TypeError always",
    "MemoryMapping.__init__": "is a TypeError always",
    "MemoryMapping.__init_subclass__": "is a TypeError always",
    "MemoryMapping.__reduce__": "is a TypeError always",
    "SharedMemory.__array__": "is a TypeError always",
    "SharedMemory.__reduce__": "starts a thread of multiprocessing, which stays",
    "mmap.__reduce__": "is a TypeError always",
}


@pytest.mark.race
@pytest.mark.timeout(300)
def test_each_public_call_is_made_by_a_step(tmp_path: Path) -> None:
    """A call that is new needs a step, or a reason: see the steps of random_programs."""
    missing = set(public_calls().values()) - NOT_CALLED.keys()
    made = set[str]()
    for seed in range(1, 16):  # three or four are enough, by now
        run_programs(seed, steps=3000, seconds=15, calls=tmp_path / "calls")
        made.update((tmp_path / "calls").read_text().splitlines())
        if made >= missing:
            break
    assert missing - made == set()
    assert made & NOT_CALLED.keys() == set()


def test_calls_that_no_step_makes_are_public_calls() -> None:
    assert set(public_calls().values()) >= NOT_CALLED.keys()
