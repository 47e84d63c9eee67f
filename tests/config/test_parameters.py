import pytest

from fairlth.config import parameters


def test_values_are_json_or_pythons_constants_or_strings():
    pairs = ["a=0.05", "b=true", "c=null", "d=[0, 1]", "e=cifar10", 'f="x"', "g=1e-3", "h=a=b"]
    pairs += ["i=False", "j=True", "k=None", "l=false", "m="]
    found = parameters.parse(pairs)
    expected = {"a": 0.05, "b": True, "c": None, "d": [0, 1], "e": "cifar10", "f": "x"}
    expected |= {"g": 0.001, "h": "a=b", "i": False, "j": True, "k": None, "l": False, "m": ""}
    assert found == expected
    assert [type(found[name]) for name in "bijl"] == [bool] * 4


@pytest.mark.parametrize(
    ("pairs", "sentence"),
    [
        (["n"], "'n' is not a parameter: write name=value"),
        (["=1"], "'=1' is not a parameter: write name=value"),
        (["n=1", "n=2"], "'n' is given twice"),
    ],
)
def test_what_is_no_pair_is_refused(pairs, sentence):
    with pytest.raises(ValueError, match=sentence):
        parameters.parse(pairs)


@pytest.mark.parametrize(
    ("value", "truth"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("True", True),
        ("false", False),
        ("False", False),
    ],
)
def test_both_spellings_of_true_and_false_count(value, truth):
    assert parameters.truth("train", value) is truth


@pytest.mark.parametrize("value", ["maybe", "", "no", 0, 1, None, [], "FALSE"])
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^train=.* is refused: expected true or false\.$"):
        parameters.truth("train", value)
