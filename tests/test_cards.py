import dataclasses
import json

import pytest

from fairlth import cards, config, data, experiments, metrics, tickets
from fairlth.analysis import summaries
from fairlth.data import Data


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run's record, its data and its card."""
    run = config.Run(dataset="digits", model="mlp", method="magnitude", density=0.05, seed=0, preset="smoke")
    runs = tmp_path_factory.mktemp("cards")
    record = experiments.run(run, runs)
    return record, data.load(run), tickets.read_card(config.ticket_path(run, runs))


def test_a_card_says_what_was_trained_on_what(made):
    record, loaded, card = made
    assert card.run == record.run and card.conditions == record.conditions
    assert (card.model, card.in_shape, card.n_classes) == ("mlp", [1, 8, 8], 10)
    assert card.weights == {"kept": 851, "total": 17024}
    assert card.data["images"] == {"train": 1079, "val": 269, "test": 449} and card.data["name"] == "digits"
    assert card.data["licence"].startswith("CC BY 4.0") and card.data["sha256"] == cards.fingerprint(loaded)
    assert "127.5" in card.input and "coarse guesses" in " ".join(card.limits)


def test_its_metrics_are_the_records(made):
    record, _, card = made
    correct, total = record.split("test").by_group()
    assert card.test["images"] == 449
    assert card.test["cwv"] == metrics.cwv(correct, total) and card.test["cwv_error"] == metrics.cwv_error(correct, total)
    assert card.test["mcd_floor"] == metrics.mcd_floor(correct, total)
    assert card.test["accuracy_low"] < card.test["accuracy"] < card.test["accuracy_high"]
    assert card.test["groups"] == {name: [c, n] for name, c, n in zip(record.groups, correct, total, strict=True)}


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("part", ["x", "y", "group"])
def test_one_changed_value_changes_the_fingerprint(random_data, split, part):
    before = cards.fingerprint(random_data)
    assert before == cards.fingerprint(random_data)
    changed = getattr(getattr(random_data, split), part).clone()
    changed.view(-1)[-1] ^= 1
    other = dataclasses.replace(getattr(random_data, split), **{part: changed})
    assert cards.fingerprint(Data(**vars(random_data) | {split: other})) != before


def test_the_order_of_bytes_in_memory_does_not(random_data):
    other = random_data.train.to(random_data.train.x.device)
    assert cards.fingerprint(Data(**vars(random_data) | {"train": other})) == cards.fingerprint(random_data)


def test_a_group_without_images_is_none_in_json(made):
    record, loaded, _ = made
    counts = json.loads(json.dumps(record.counts))
    for kind in ("correct", "total"):
        counts["test"][kind][9][9] = 0
    card = cards.card_of(dataclasses.replace(record, counts=counts), loaded, "t.safetensors", b"")
    assert card.test["cwv"] is None and card.test["groups"]["9"] == [0, 0] and "cwv_error" not in card.test
    text = cards.markdown(card)
    assert "| CWV × 10⁴, 0 is fair | – | standard error –, chance alone – |" in text
    assert "| 9 | 0 | 0 | – | – to – |" in text


def test_the_markdown_holds_every_part(made):
    record, _, card = made
    text = cards.markdown(card)
    measures = summaries.measures(*record.split("test").by_group())
    assert text.startswith("# Ticket `digits_mlp_magnitude_d0.05_s0.safetensors`\n")
    assert "`mlp`, 851 of 17,024 weights kept" in text and f"sha256 `{card.sha256}`" in text
    assert "## On 449 test images" in text
    assert f"| accuracy % | {measures['accuracy'] * 100:.1f} | 95 % interval " in text
    assert f"| MCD, points, 0 is fair | {measures['mcd'] * 100:.1f} | chance alone {measures['mcd_floor'] * 100:.1f} |" in text
    assert all(f"\n| {name} | " in text for name in record.groups)
    assert cards.INTENDED_USE in text and all(f"* {limit}" in text for limit in cards.LIMITS)
    assert "None" not in text and "nan" not in text
