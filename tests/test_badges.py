import pytest

from fairlth import badges

README = badges.README.read_text()


def test_every_notebook_gets_one_badge_and_a_second_call_replaces_it():
    once = badges.badged(README, "some/where")
    assert once.count("[![Open in Colab]") == len(list((badges.config.ROOT / "notebooks").glob("*.ipynb")))
    assert "(https://colab.research.google.com/github/some/where/blob/main/notebooks/02_walkthrough.ipynb)" in once
    assert once.count("!pip install git+https://github.com/some/where") == 1
    assert badges.badged(once, "else/where") == badges.badged(README, "else/where")


@pytest.mark.parametrize("wrong", ["", "name", "https://host/owner/name", "owner/name/more"])
def test_an_address_of_another_form_is_refused(wrong):
    with pytest.raises(ValueError, match="expected owner/name"):
        badges.badged(README, wrong)
