import pytest

from fairlth import command


def refuse(error):
    raise error


def test_bad_input_is_a_sentence_and_status_2(capsys):
    done = []
    assert command.ended(lambda: done.append("done")) == 0 and done == ["done"]
    assert (
        command.ended(lambda: refuse(ValueError("x is refused."))) == command.ended(lambda: refuse(OSError("disk full"))) == 2
    )
    assert capsys.readouterr() == ("", "x is refused.\ndisk full\n")
    with pytest.raises(KeyError):
        command.ended(lambda: refuse(KeyError("a fault of ours")))
