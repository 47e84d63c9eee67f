"""Strict records, names for files, exact shares."""

import pytest

from fairlth.config import Schedule, Strict, check_name, exact, share_of


class Pair(Strict):
    """Two fields of a record."""

    left: int
    right: float = 0.0


def test_a_record_is_frozen_and_takes_an_integer_for_a_float():
    pair = Pair(left=1, right=2)
    assert pair.right == 2.0
    with pytest.raises(ValueError, match="frozen"):
        pair.left = 3


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "Pair: left is missing."),
        ({"left": 1, "rigth": 2.0}, "Pair: 'rigth' is not one of its names (left, right)."),
        (
            {"left": "1"},
            "Pair: left='1' is refused: Input should be a valid integer.",
        ),
        (
            {"left": True, "right": "x"},
            "Pair: left=True is refused: Input should be a valid integer; "
            "right='x' is refused: Input should be a valid number.",
        ),
        (
            {"left": 1, "right": float("inf")},
            "Pair: right=inf is refused: Input should be a finite number.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(fields, sentence):
    with pytest.raises(ValueError) as caught:
        Pair(**fields)
    assert str(caught.value) == sentence


def test_a_schedule_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="optimizer='adam' is refused"):
        Schedule(epochs=1, optimizer="adam")


@pytest.mark.parametrize("name", ["a", "A-1_b", "0", "x" * 40])
def test_a_name_for_files(name):
    check_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a b", "-a", "_a", "ä", "a.b", "a\n", "x" * 41, 7, None]
)
def test_no_name_for_files(name):
    with pytest.raises(ValueError, match=r"is no name for files: use letters, digits, _ and -"):
        check_name(name)


@pytest.mark.parametrize(
    ("share", "n", "kept"),
    [(0.29, 100, 29), (0.57, 100, 57), (0.05, 89_000, 4450), (1.0, 7, 7), (0.1, 9, 0), (1, 7, 7)],
)
def test_shares_of_counts_are_exact(share, n, kept):
    """In floats 0.29 * 100 and 0.57 * 100 are less than 29 and 57."""
    assert share_of(share, n) == kept


def test_a_number_is_what_is_written():
    assert exact(0.29) * 100 == 29
    assert exact(1e-5) * 100_000 == 1
