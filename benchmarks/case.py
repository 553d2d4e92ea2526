"""What a benchmark is: a name, how it is prepared, its peers, and what is to be reached."""

import enum
from collections.abc import Callable
from contextlib import AbstractContextManager

import attrs

from benchmarks.bench import Bench
from benchmarks.timing import Measure


class Unit(enum.Enum):
    """What a measure gives. Less is better, but of a share."""

    SECONDS = "second"
    BYTES = "byte"
    SHARE = "share"


class Figure(enum.Enum):
    """What is made of the subject's value and a peer's, in each round."""

    TIMES = "x its time"
    SPEED = "x its speed"
    MORE = "more"
    ITSELF = ""

    def of(self, subject: float, peer: float) -> float:
        """Compare two values of one round."""
        match self:
            case Figure.TIMES:
                return subject / peer
            case Figure.SPEED:
                return peer / subject
            case Figure.MORE:
                return subject - peer
            case Figure.ITSELF:
                return subject


@attrs.frozen
class Target:
    """What a figure should be; without a bound it is there to be seen."""

    figure: Figure
    at_most: float | None = None
    at_least: float | None = None

    @property
    def bound(self) -> float | None:
        """The figure that is just good enough."""
        return self.at_least if self.at_most is None else self.at_most

    def is_reached_by(self, value: float) -> bool:
        """Whether a figure is good enough; with no bound each is."""
        if self.at_most is not None and value > self.at_most:
            return False
        return self.at_least is None or value >= self.at_least


def times(at_most: float | None = None) -> Target:
    """So many times the peer's time."""
    return Target(Figure.TIMES, at_most=at_most)


def speed(at_least: float | None = None) -> Target:
    """So many times the peer's speed."""
    return Target(Figure.SPEED, at_least=at_least)


def more(at_most: float) -> Target:
    """The peer's value and so much more."""
    return Target(Figure.MORE, at_most=at_most)


def itself(*, at_most: float | None = None, at_least: float | None = None) -> Target:
    """A value of its own, whatever the peer's."""
    return Target(Figure.ITSELF, at_most=at_most, at_least=at_least)


@attrs.frozen
class Peer:
    """What mmapwrap is measured beside, and what is to be reached there."""

    name: str
    target: Target


Prepared = AbstractContextManager[tuple[Measure, ...]]


@attrs.frozen
class Case:
    """One benchmark.

    Args:
        name: What is done.
        prepare: Gives what measures mmapwrap, then what measures each peer, in their order.
        peers: What it is measured beside.
        unit: What the measures give.
    """

    name: str
    prepare: Callable[[Bench], Prepared]
    peers: tuple[Peer, ...]
    unit: Unit = Unit.SECONDS
