"""How names, sizes, shares and places become text."""

import pytest

from mmapwrap._cli.text import percent, percent_text, places_text, printable, size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 52, "1023.9 KiB"),
        (2**20 - 51, "1.0 MiB"),
        (2**20 - 1, "1.0 MiB"),
        (3 * 2**40, "3.0 TiB"),
        (2**63 - 1, "8.0 EiB"),
    ],
)
def test_a_size_has_one_decimal_and_less_than_1024_of_its_unit(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "-"),
        (0, 7, "0.0%"),
        (7, 7, "100.0%"),
        (1, 3, "33.3%"),
        (2, 3, "66.7%"),
        (1, 10**9, "0.1%"),
        (10**9 - 1, 10**9, "99.9%"),
    ],
)
def test_a_share_is_all_or_nothing_only_when_it_is(part: int, whole: int, text: str) -> None:
    assert percent_text(part, whole) == text


def test_a_share_of_nothing_is_no_number() -> None:
    assert percent(0, 0) is None
    assert percent(1, 4) == 25


def test_places_are_graded_by_what_is_resident() -> None:
    resident = [0, 1, 20, 40, 60, 80, 100, 120, 140, 159, 160]
    assert places_text((pages, 160) for pages in resident) == "01123456778"


def test_places_of_an_empty_file_are_a_field_too() -> None:
    assert places_text([]) == "-"


@pytest.mark.parametrize(
    ("name", "encoding", "text"),
    [
        ("plain name", "utf-8", "plain name"),
        ("back\\slash", "utf-8", "back\\\\slash"),
        ("\n\r\t\0\x7f", "utf-8", r"\n\r\t\x00\x7f"),
        ("\x85\xa0\u200b\u2028", "utf-8", r"\u0085\u00a0\u200b\u2028"),
        ("\udce9", "utf-8", r"\xe9"),
        ("é", "utf-8", "é"),
        ("é", "latin-1", "é"),
        ("é", "ascii", r"\u00e9"),
        ("\U0001f600", "latin-1", r"\U0001f600"),
        ("\ud800", "utf-8", r"\ud800"),
    ],
)
def test_a_name_is_printable_and_tells_every_name_apart(
    name: str, encoding: str, text: str
) -> None:
    assert printable(name, encoding) == text
