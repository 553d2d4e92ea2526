"""What a case came to: medians, ratios, and whether the target was reached."""

import statistics
from collections.abc import Sequence

import attrs

from benchmarks.bench import Bench
from benchmarks.case import Case, Peer
from benchmarks.timing import interleaved


@attrs.frozen
class Comparison:
    """mmapwrap beside one peer: each value is a median over the rounds.

    Args:
        peer: The peer, and what was to be reached.
        value: The peer's own value.
        figure: What the target is about: the median of the rounds' ratios, not that of medians.
    """

    peer: Peer
    value: float
    figure: float

    @property
    def is_reached(self) -> bool:
        """Whether the figure is as it should be."""
        return self.peer.target.is_reached_by(self.figure)


@attrs.frozen
class Result:
    """The samples of a case, first mmapwrap's and then each peer's, one of each for each round."""

    case: Case
    samples: Sequence[Sequence[float]]

    @property
    def value(self) -> float:
        """The median of mmapwrap itself."""
        return statistics.median(self.samples[0])

    def comparisons(self) -> list[Comparison]:
        """Compare with each peer."""
        subject, *peers = self.samples
        return [
            Comparison(
                peer,
                statistics.median(taken),
                statistics.median(map(peer.target.figure.of, subject, taken)),
            )
            for peer, taken in zip(self.case.peers, peers, strict=True)
        ]


def measured(case: Case, bench: Bench) -> Result:
    """Run one case."""
    with case.prepare(bench) as measures:
        assert len(measures) == 1 + len(case.peers), f"{case.name}: a measure for each peer"
        return Result(case, interleaved(measures, bench.effort))
