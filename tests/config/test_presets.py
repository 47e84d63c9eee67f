"""Presets of your own, from the file that FAIRLTH_PRESETS names."""

import pytest

from fairlth import config
from fairlth.config import PRESETS


def test_own_presets_differ_from_the_one_that_they_are_like(tmp_path):
    path = tmp_path / "presets.json"
    path.write_text(
        '{"mine": {"like": "small", "seeds": [7], "schedule": {"epochs": 4}, "tasks": [{"dataset": "digits", "model": "mlp"}]}}'
    )
    mine, small = config.own_presets(path)["mine"], PRESETS["small"]
    assert mine.seeds == (7,) and mine.schedule.epochs == 4 and mine.tasks[0].dataset == "digits"
    assert mine.schedule.lr == small.schedule.lr and mine.densities == small.densities


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be used"),
        ('{"mine": {"like": "huge"}}', "there is no preset 'huge' to be like"),
        ('{"mine": {"seeds": [0]}}', "like"),
        ('{"mine": {"like": "small", "sedes": [0]}}', "'sedes' is not one of its names"),
        ('{"mine": {"like": "small", "seeds": ["0"]}}', "seeds.0='0' is refused"),
        (None, "No such file"),
    ],
)
def test_a_bad_file_of_presets_is_one_sentence(text, sentence, tmp_path):
    path = tmp_path / "presets.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=r"^FAIRLTH_PRESETS=.*expected such as") as caught:
        config.own_presets(path)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)
