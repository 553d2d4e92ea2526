"""Random programs over the whole library, in child processes: none ends with a signal."""

import os
import sys
from typing import Final

import pytest
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
