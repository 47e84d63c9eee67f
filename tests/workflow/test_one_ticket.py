"""`fairlth ticket`: from a folder, a data set or the hub to five files, and what it refuses."""

import io
import json
import re
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from PIL import Image

from fairlth import config, data, models
from fairlth.config import PRESETS, paths
from fairlth.shipping import card as cards
from fairlth.shipping import export
from fairlth.shipping import ticket as tickets
from fairlth.workflow import cli, cost, experiments, one_ticket, yours
from fairlth.workflow.one_ticket import ENDINGS, Wish

SIZES = {"train": 8, "val": 3, "test": 4}  # images per class


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Empty folders of results and data; no data set, network or preset stays known."""
    monkeypatch.setattr(paths, "HOME", tmp_path / "home")
    monkeypatch.setattr(paths, "RUNS", tmp_path / "home/runs")
    monkeypatch.setattr(paths, "DATA", tmp_path / "sets")
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    tables = (data.SOURCES, models.MODELS, models.OWN, PRESETS, config.USUAL_TARGETS)
    known = [dict(table) for table in tables]
    monkeypatch.setattr(yours, "LOOKED", {})
    yield tmp_path / "home"
    for table, before in zip(tables, known, strict=True):
        table.clear()
        table.update(before)


@pytest.fixture
def shapes(tmp_path):
    """A folder of three classes in train/, val/ and test/: red, green and blue, half of them
    dark.
    """
    return draw(tmp_path / "shapes", 8)


def draw(folder, side, sizes=SIZES):
    rows = []
    generator = np.random.default_rng(0)
    for split, n in sizes.items():
        for channel, label in enumerate(("red", "green", "blue")):
            (folder / split / label).mkdir(parents=True)
            for number in range(n):
                pixels = generator.integers(0, 60, (side, side, 3), dtype=np.uint8)
                pixels[..., channel] += 60 if number % 2 else 180
                file = f"{split}/{label}/{number}.png"
                Image.fromarray(pixels).save(folder / file)
                rows.append((file, "dark" if number % 2 else "bright"))
    pd.DataFrame(rows, columns=["file", "tone"]).to_csv(folder / "groups.csv", index=False)
    return folder


@pytest.fixture
def no_onnx(monkeypatch):
    """What takes longest is left out where a test asks nothing of it."""
    monkeypatch.setattr(export, "onnx", lambda *about: b"onnx")


def words(folder, *more):
    usual = ["ticket", str(folder), "--preset", "smoke", "--network", "mlp"]
    return [*usual, *more]


class TestACommand:
    def test_tells_what_there_is_and_the_numbers_of_the_records(
        self, shapes, home, no_onnx, capsys
    ):
        assert cli.main(words(shapes, "--group-by", "tone")) == 0
        said = capsys.readouterr().out
        told = [" ".join(line.split()) for line in said.splitlines()]
        for line in (
            "45 images of 8 x 8 pixels",
            "label: blue 15, green 15, red 15",
            "split: train 24, valid 9, test 12",
            "images 24 9 12",
            "label red 8 3 4",
            "tone dark 12 3 6",
            "network mlp: 32,960 weights to prune in 3 layers, of which ballot keeps 3,296",
            "a training: 10 epochs of 1 steps (--epochs N asks for others)",
            "on 12 test images, one training each, 95 % Wilson intervals; CWV over tone",
        ):
            assert line in told, line
        assert "\nread as 8 x 8 pixels in 3 channel(s), 0.0 MB: preset smoke has at most 64" in said
        assert re.search(r"^about \d+ s on .*: 38 steps of \d\.\d{3} s; predictions", said, re.M)
        made = one_ticket.plan(Wish(str(shapes), "tone", network="mlp", preset="smoke"))
        for run in (made.dense, made.run):
            correct, total = made.done[run].split("test")
            name = "the dense net" if run.method == "dense" else "ballot at density 0.1"
            [row] = [line for line in said.splitlines() if line.startswith(name)]
            groups = correct.sum(0) / total.sum(0)
            assert f" {100 * correct.sum() / total.sum():.1f} (" in row
            assert f" {1e4 * groups.var():.1f} " in row
            assert f" {groups.min():.1%} of 6" in row
            assert f" {(correct.sum(1) / total.sum(1)).min():.1%} of 4" in row

    def test_leaves_five_files_of_one_network_and_trains_nothing_the_second_time(
        self, shapes, home, capsys, monkeypatch
    ):
        assert cli.main(words(shapes)) == 0
        first = {path: path.read_bytes() for path in home.rglob("shipped/*/*")}
        said = capsys.readouterr().out
        assert sorted(said.splitlines()[-5:]) == sorted(str(path) for path in first)
        files = {ending: path for path in first for ending in ENDINGS if path.name.endswith(ending)}
        assert {*files} == {*ENDINGS}
        assert {path.name for path in first} == {
            f"shapes_mlp_ballot_d0.1_s0{ending}" for ending in ENDINGS
        }
        made = one_ticket.plan(Wish(str(shapes), network="mlp", preset="smoke"))
        found = tickets.load(files[tickets.ENDING])
        assert found.mask.n_kept == 3296 and found.card.run == made.run.model_dump()
        content = first[files[".onnx"]]
        notes = {prop.key: prop.value for prop in onnx.load_from_string(content).metadata_props}
        assert json.loads(notes["classes"]) == ["blue", "green", "red"]
        logits = export.logits(export.session(content), made.data.test)
        right = int((logits.argmax(1) == made.data.test.y).sum())
        assert right == made.done[made.run].split("test").correct.sum()
        assert first[files[".md"]].decode() == cards.markdown(found.card)
        assert first[files[".png"]].startswith(b"\x89PNG")
        monkeypatch.setattr(experiments, "run", None)
        monkeypatch.setattr(cost, "seconds_on", None)
        assert cli.main(words(shapes)) == 0
        said = capsys.readouterr().out
        assert "there already and used: the dense net, ballot at density 0.1\n" in said
        assert "nothing is left to train\n" in said
        assert {path: path.read_bytes() for path in home.rglob("shipped/*/*")} == first

    def test_the_picture_has_a_panel_per_class_and_per_group(self, shapes):
        made = one_ticket.plan(Wish(str(shapes), "tone", network="mlp", preset="smoke"))
        dense = experiments.run(made.dense, paths.RUNS)
        both = one_ticket.picture([dense, dense])
        by_class = one_ticket.picture([replace(dense, group_by="class"), dense])
        sizes = [Image.open(io.BytesIO(content)).size for content in (both, by_class)]
        assert round(sizes[0][0] / sizes[1][0]) == 2 and sizes[0][1] == sizes[1][1]

    def test_of_many_classes_the_fewest_images_are_told(self, shapes, monkeypatch):
        made = one_ticket.plan(Wish(str(shapes), network="mlp", preset="smoke"))
        rows = " ".join(one_ticket.found(made).split())
        assert "label blue 8 3 4" in rows and "label: fewest" not in rows
        monkeypatch.setattr(one_ticket, "MOST_GROUPS", 2)
        rows = " ".join(one_ticket.found(made).split())
        assert "each of 3 label: fewest 8 3 4" in rows and "label blue 8" not in rows

    def test_a_dense_net_that_is_there_is_not_counted(self, shapes, capsys, monkeypatch):
        monkeypatch.setattr(cost, "seconds_on", lambda run, data: 10.0)
        made = one_ticket.plan(Wish(str(shapes), network="mlp", preset="smoke", method="magnitude"))
        assert one_ticket.time_needed(made).startswith("about 3 min on ")  # 10 and 10 steps
        experiments.run(made.dense, paths.RUNS)
        made = one_ticket.plan(Wish(str(shapes), network="mlp", preset="smoke", method="magnitude"))
        told = one_ticket.time_needed(made)
        assert told.startswith("there already and used: the dense net\nabout 2 min on ")

    @pytest.mark.filterwarnings("default:.*It is made anew now")
    def test_a_damaged_ticket_is_made_anew(self, shapes, home, no_onnx, capsys):
        assert cli.main(words(shapes)) == 0
        [path] = home.rglob("tickets/*ballot*.zlib")
        whole = path.read_bytes()
        path.write_bytes(whole[:-1])
        capsys.readouterr()
        assert cli.main(words(shapes)) == 0
        said = capsys.readouterr()
        assert "copy it again. It is made anew now.\n" in said.err
        assert "== training ballot at density 0.1\n" in said.err
        assert "there already and used: the dense net\n" in said.out
        assert path.read_bytes() == whole

    def test_a_dead_ticket_has_every_file_but_onnx_and_status_1(self, shapes, home, capsys):
        assert cli.main(words(shapes, "--method", "random", "--density", "0.0001")) == 1
        assert "no ONNX file: the ticket is dead." in capsys.readouterr().err
        assert {path.suffix[1:] for path in home.rglob("shipped/*/*")} == {
            "zlib",
            "json",
            "md",
            "png",
        }

    def test_a_loss_that_is_no_number_is_one_sentence_and_status_1(
        self, shapes, monkeypatch, capsys
    ):
        def explode(made, say):
            raise FloatingPointError("the training loss became nan: choose a lower one.")

        monkeypatch.setattr(one_ticket, "make", explode)
        assert cli.main(words(shapes)) == 1
        assert "\nthe training loss became nan: choose a lower one.\n" in capsys.readouterr().err


@pytest.mark.skipif(
    find_spec("torch_pruning") is None, reason="torch-pruning is not installed (extra `units`)"
)
class TestWholeUnits:
    def test_the_onnx_file_has_no_removed_unit_and_equal_outputs(self, shapes, home, capsys):
        assert cli.main(words(shapes, "--method", "units_norm", "--density", "0.2")) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert (
            "network mlp: 32,960 weights to prune in 3 layers, of which units_norm keeps at most "
            "6,592, in whole units; the ONNX file is the network without the others a training: "
        ) in told
        [path] = home.rglob("shipped/*/*.zlib")
        found = tickets.load(path)
        units = int(found.mask["linear1.weight"].any(1).sum())
        assert 1 <= units < len(found.mask["linear1.weight"])
        content = path.with_name(path.name.replace(tickets.ENDING, ".onnx")).read_bytes()
        shapes_there = [list(one.dims) for one in onnx.load_from_string(content).graph.initializer]
        assert [units, 3 * 8 * 8] in shapes_there
        x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = found.model(x).numpy()
        assert np.allclose(export.outputs(export.session(content), x), expected, atol=1e-4)

    def test_a_share_of_the_flops_is_told_as_one(self, shapes, monkeypatch):
        flops = PRESETS["smoke"].model_copy(update={"count_flops": True})
        monkeypatch.setitem(PRESETS, "smoke", flops)
        wish = Wish(str(shapes), network="mlp", preset="smoke", method="units_norm", density=0.2)
        told = one_ticket.found(one_ticket.plan(wish))
        assert "of which units_norm keeps at most 0.2 of the FLOPs, in whole units" in told
        told = one_ticket.found(one_ticket.plan(replace(wish, method="lth_rate")))
        assert "of which lth_rate keeps 6,592\n" in told


class TestBadInput:
    @pytest.mark.parametrize(
        ("more", "sentence"),
        [
            (["--group-by", "race"], "group_by='race' is refused: shapes has no column 'race'"),
            (["--target", "race"], "target='race' is refused: shapes has no column 'race'"),
            (["--method", "snip"], "method='snip' is unknown: choose one of dense"),
            (["--method", "dense"], "method='dense' is refused: it prunes nothing"),
            (["--network", "lenet"], "model='lenet' is unknown: choose one of mlp"),
            (["--density", "2"], "density=2.0 is refused"),
            (["--density", "1e-9"], "density=1e-09 "),
            (["--preset", "huge"], "preset='huge' is refused: choose one of smoke"),
            (["--side", "0"], "side=0 is refused: expected 1 to 1024 pixels."),
            (["--side", "2000"], "side=2000 is refused: expected 1 to 1024 pixels."),
            (["--epochs", "0"], "--epochs 0 is refused: expected at least 2, since weights of"),
            (
                ["--epochs", "1"],
                "--epochs 1 is refused: expected at least 2, since weights of preset smoke go back "
                "to their state after 1 epoch(s).",
            ),
            (
                ["--epochs", "0", "--preset", "finetune"],
                "--epochs 0 is refused: expected at least 1, since weights of preset finetune go",
            ),
            (
                ["--weights", "draw", "--keep", "head", "--keep", "stem.*"],
                "--weights draw, --keep head, --keep stem.* cannot be had with network='mlp', which "
                "is no Python file of yours: leave it out, or give --network FILE.py:FUNCTION.",
            ),
            (["--trained"], "--trained cannot be had with network='mlp', which is no Python file"),
            (["--network", "none.py:build"], "network='none.py:build' cannot be used ("),
            (["--network", "convnet", "--side", "4"], "model 'convnet'"),
        ],
    )
    def test_is_one_sentence_and_status_2_before_training(
        self, more, sentence, shapes, home, monkeypatch, capsys
    ):
        monkeypatch.setattr(experiments, "run", None)
        assert cli.main(words(shapes, *more)) == 2
        *steps, last = capsys.readouterr().err.strip().splitlines()
        assert sentence in last and all(step.startswith("== ") for step in steps)
        assert not list(home.rglob("*.*"))

    def test_a_word_that_names_nothing(self, capsys):
        for word in ("", "nowhere", "no/such/folder", "no folder"):
            assert cli.main(words(word)) == 2
            told = f"{word!r} is neither a folder nor a data set: give the path of a folder"
            assert told in capsys.readouterr().err

    def test_a_folder_of_the_users_is_not_written_over(self, shapes, tmp_path, no_onnx, capsys):
        out = tmp_path / "out"
        assert cli.main(words(shapes, "--out", str(out))) == 0
        stem = "shapes_mlp_ballot_d0.1_s0"
        assert sorted(path.name for path in out.iterdir()) == sorted(
            f"{stem}{ending}" for ending in ENDINGS
        )
        (out / f"{stem}.json").write_text("my notes")
        there = {path: path.read_bytes() for path in out.iterdir()}
        assert cli.main(words(shapes, "--out", str(out))) == 2
        told = f"{out / stem}.safetensors.zlib is there and is not of this ticket: move it away"
        assert told in capsys.readouterr().err
        assert {path: path.read_bytes() for path in out.iterdir()} == there

    def test_what_was_made_of_other_images_stays(self, shapes, home, tmp_path, no_onnx, capsys):
        out = str(tmp_path / "out")
        for more in ([], ["--out", out]):
            assert cli.main(words(shapes, *more)) == 0
        (shapes / "train/red/0.png").write_bytes((shapes / "train/red/2.png").read_bytes())
        assert cli.main(words(shapes, "--out", out)) == 2
        assert "is not of this ticket" in capsys.readouterr().err
        assert cli.main(words(shapes)) == 0
        assert len(list(home.rglob("shipped/*/*.zlib"))) == 2

    def test_packages_of_the_extra_are_asked_for_first(self, shapes, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        assert cli.main(words(shapes)) == 2
        assert "onnxscript is not installed: pip install 'fairlth[all]'" in capsys.readouterr().err


class TestTimm:
    """Networks of timm by name."""

    @pytest.mark.parametrize(("name", "sized"), [("test_vit", True), ("test_resnet", False)])
    def test_a_network_of_timm_is_built_for_the_images(self, tmp_path, name, sized):
        pytest.importorskip("timm", reason="timm is not installed (extra `timm`)")
        folder = draw(tmp_path / "some", 32, {"train": 8, "test": 2})
        made = one_ticket.plan(Wish(str(folder), network=f"timm/{name}", preset="smoke"))
        assert made.run.model == name and made.data.in_shape == (3, 32, 32)
        network = models.build(name, made.data.in_shape, 3, torch.Generator().manual_seed(0))
        other = models.build(name, made.data.in_shape, 3, torch.Generator().manual_seed(1))
        size = getattr(getattr(network, "patch_embed", None), "img_size", None)
        assert size == ((32, 32) if sized else None)
        pairs = zip(models.prunable(network).values(), models.prunable(other).values(), strict=True)
        assert not any(torch.equal(one, another) for one, another in pairs)

    def test_a_name_of_the_package_is_not_taken(self):
        pytest.importorskip("timm", reason="timm is not installed (extra `timm`)")
        assert yours.network("timm/resnet18")[0] == "my_resnet18"

    def test_a_name_that_timm_lacks_is_refused_with_others_near_it(self):
        timm = pytest.importorskip("timm", reason="timm is not installed (extra `timm`)")
        sentence = (
            f"network='timm/test_vitt' is refused, timm {timm.__version__} has no such network: "
            "choose another, such as test_vit"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
            yours.network("timm/test_vitt")

    def test_a_name_of_trained_weights_is_refused_since_they_are_not_loaded(self):
        pytest.importorskip("timm", reason="timm is not installed (extra `timm`)")
        with pytest.raises(ValueError, match=r"names trained weights, .* write timm/resnet18 to"):
            yours.network("timm/resnet18.a1_in1k")

    def test_a_folder_may_be_called_timm(self, tmp_path, monkeypatch):
        (tmp_path / "timm").mkdir()
        (tmp_path / "timm/net.py").write_text("def build(in_shape, n_classes):\n    return None\n")
        monkeypatch.chdir(tmp_path)
        name, build = yours.network("timm/net.py:build")
        assert name == "net" and build is not None

    def test_without_timm_the_sentence_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "timm", None)
        with pytest.raises(ValueError, match=re.escape("pip install 'fairlth[timm]'.")):
            yours.network("timm/test_vit")


class TestSizes:
    def test_a_folder_of_224_pixels_goes_through_resnet18_at_224(
        self, tmp_path, home, no_onnx, capsys
    ):
        folder = draw(tmp_path / "large", 224, {"train": 8, "test": 2})
        made = one_ticket.plan(Wish(str(folder), network="resnet18", side=224, epochs=2))
        assert made.data.in_shape == (3, 224, 224)
        assert made.run.preset == "small-side224-epochs2"
        assert made.run.settings.image_size == 224 and made.run.settings.schedule.epochs == 2
        told = one_ticket.found(made)
        assert "read as 224 x 224 pixels in 3 channel(s), 4.5 MB: preset small-side224" in told
        assert "30 images of 224 x 224 pixels" in told
        pixels = np.asarray(Image.open(folder / "test/blue/0.png")).transpose(2, 0, 1)
        assert any((image.numpy() == pixels).all() for image in made.data.test.x)
        more = "--side 224 --epochs 2 --method random --network convnet --preset smoke"
        assert cli.main(["ticket", str(folder), *more.split()]) == 0
        [card] = home.rglob("shipped/*/*.json")
        assert json.loads(card.read_text())["in_shape"] == [3, 224, 224]

    def test_a_preset_caps_the_side_and_says_so(self, tmp_path):
        folder = draw(tmp_path / "large", 100)
        made = one_ticket.plan(Wish(str(folder), network="mlp", preset="smoke"))
        assert made.data.in_shape == (3, 64, 64) and made.run.preset == "smoke"
        told = "preset smoke has at most 64 (--side N asks for another size)"
        assert told in one_ticket.found(made)

    @pytest.mark.parametrize(
        ("side", "preset"), [(12, "smoke"), (64, "smoke"), (65, "smoke-side65")]
    )
    def test_a_side_that_is_asked_for_is_had(self, side, preset, shapes):
        made = one_ticket.plan(Wish(str(shapes), network="mlp", preset="smoke", side=side))
        assert made.data.in_shape == (3, side, side) and made.run.preset == preset

    def test_a_data_set_of_the_package_has_no_more_than_its_side(self, capsys):
        assert cli.main(words("digits", "--side", "9")) == 2
        assert "side=9 is refused: digits has 8 pixels per side." in capsys.readouterr().err
        made = one_ticket.plan(Wish("digits", network="mlp", preset="smoke", side=8))
        assert made.run.preset == "smoke" and made.data.in_shape == (1, 8, 8)

    @pytest.mark.parametrize(("preset", "least"), [("smoke", 2), ("finetune", 1)])
    def test_the_least_epochs_that_are_told_can_be_had(self, preset, least, shapes):
        wish = Wish(str(shapes), network="mlp", preset=preset, epochs=least, density=0.2)
        assert one_ticket.plan(wish).run.settings.schedule.epochs == least

    def test_presets_stay_as_they_are(self, shapes):
        before = {name: preset.model_dump_json() for name, preset in PRESETS.items()}
        one_ticket.plan(Wish(str(shapes), network="mlp", preset="smoke", side=65, epochs=3))
        assert PRESETS["smoke-side65-epochs3"].schedule.epochs == 3
        assert {name: PRESETS[name].model_dump_json() for name in before} == before

    def test_a_preset_of_the_users_is_not_taken_for_it(self, shapes):
        PRESETS["smoke-side65"] = PRESETS["small"]
        with pytest.raises(ValueError, match="preset 'smoke-side65' is one of yours: call it othe"):
            one_ticket.plan(Wish(str(shapes), network="mlp", preset="smoke", side=65))


class TestWhereImagesAre:
    def test_a_data_set_of_the_package_wins_over_a_folder_of_its_name(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        draw(tmp_path / "digits", 8)
        assert yours.images("digits", None, 64) == "digits"
        assert yours.images("./digits", None, 64) == "my_digits"
        assert data.SOURCES["digits"].folder is None
        assert data.SOURCES["my_digits"].folder == tmp_path / "digits"

    @pytest.mark.parametrize(
        ("folder", "name"),
        [("Fotos 2024", "Fotos_2024"), ("_x", "x"), ("日本", "images"), ("convnet", "my_convnet")],
    )
    def test_a_name_for_files_is_made_of_a_folders(self, folder, name, tmp_path):
        assert yours.images(str(draw(tmp_path / folder, 8)), None, 64) == name

    def test_a_folder_of_the_data_folder_by_its_name(self):
        draw(paths.DATA / "birds", 8)
        assert yours.images("birds", None, 64) == "birds"
        assert data.SOURCES["birds"].side == 8

    def test_a_data_set_that_was_added_by_its_name(self, shapes):
        told = str(data.add_folder("mine", shapes, side=8))
        assert yours.images("mine", None, 64) == "mine"
        assert yours.found("mine") == f"mine: the folder {shapes}\n{told}"

    def test_parquet_files_of_the_data_folder_by_their_columns(self, shapes):
        import datasets

        rows = pd.read_csv(shapes / "groups.csv")
        table = {
            "photo": [str(shapes / file) for file in rows["file"]],
            "kind": [file.split("/")[1] for file in rows["file"]],
        }
        made = datasets.Dataset.from_dict(table).cast_column("photo", datasets.Image())
        (paths.DATA / "birds").mkdir(parents=True)
        made.to_parquet(paths.DATA / "birds/train-0.parquet")
        wish = Wish("birds", network="mlp", preset="smoke", image="photo", target="kind", side=8)
        found = one_ticket.plan(wish)
        assert found.data.classes == ["blue", "green", "red"] and found.run.target is None
        sizes = [len(split) for split in (found.data.train, found.data.val, found.data.test)]
        assert sizes == [29, 7, 9]

    def test_a_repository_of_the_hub_by_its_splits(self, shapes, monkeypatch):
        import datasets

        asked = []
        labels = datasets.ClassLabel(names=["red", "green", "blue"])
        features = datasets.Features({"image": datasets.Image(), "label": labels})

        def load(repository, configuration, split):
            asked.append((repository, configuration, split))
            folder = {"train": "train", "validation": "val", "test": "test"}[split]
            files = sorted((shapes / folder).glob("*/*.png"))
            table = {
                "image": [str(file) for file in files],
                "label": [labels.str2int(file.parent.name) for file in files],
            }
            return datasets.Dataset.from_dict(table, features=features)

        names = ["train", "validation", "test", "extra"]
        monkeypatch.setattr(datasets, "get_dataset_split_names", lambda repository: names)
        monkeypatch.setattr(datasets, "load_dataset", load)
        downloading = PRESETS["smoke"].model_copy(update={"downloads": True})
        monkeypatch.setitem(PRESETS, "smoke", downloading)
        made = one_ticket.plan(Wish("me/birds.v2", network="mlp", preset="smoke", side=8))
        assert made.run.dataset == "birds_v2" and made.data.classes == ["red", "green", "blue"]
        assert asked == [("me/birds.v2", None, name) for name in names[:3]]
        sizes = [len(split) for split in (made.data.train, made.data.val, made.data.test)]
        assert sizes == [24, 9, 12]

    def test_a_repository_that_cannot_be_had_is_one_sentence(self, monkeypatch, capsys):
        import datasets

        def fail(repository):
            raise ConnectionError("no network")

        monkeypatch.setattr(datasets, "get_dataset_split_names", fail)
        assert cli.main(words("me/birds")) == 2
        told = "'me/birds' is no folder here and not to be had from the hub (no network): correct"
        assert told in capsys.readouterr().err


BUILD = """
from torch import nn

def build(in_shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_shape[0] * in_shape[1] ** 2, n_classes))

def broken(in_shape, n_classes):
    return nn.Linear(7, n_classes)
"""
TRAINED = """
import torch
from torch import nn

def build(in_shape, n_classes):
    n_inputs = in_shape[0] * in_shape[1] ** 2
    net = nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, 9), nn.ReLU(), nn.Linear(9, n_classes))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in net.parameters():
            value.normal_(0, 0.3, generator=generator)
    return net
"""


class TestYourNetwork:
    def test_a_function_of_a_file_is_the_network(self, shapes, tmp_path, home, no_onnx):
        file = tmp_path / "net.py"
        file.write_text(BUILD)
        network = ["--network", f"{file}:build"]
        assert cli.main([*words(shapes), *network]) == 0
        [path] = home.rglob("shipped/*/*.zlib")
        assert path.name == f"shapes_net_ballot_d0.1_s0{tickets.ENDING}"
        assert tickets.load(path).card.total == 3 * 8 * 8 * 3
        file.write_text(BUILD.replace("nn.Flatten()", "nn.AvgPool2d(1), nn.Flatten()"))
        assert cli.main([*words(shapes), *network]) == 0
        both = list(home.rglob("shipped/*/*.zlib"))
        assert path in both and [other.name for other in both] == [path.name, path.name]

    @pytest.mark.parametrize("inside", [False, True])
    def test_modules_beside_the_file_can_be_imported(
        self, inside, shapes, tmp_path, home, no_onnx, monkeypatch
    ):
        monkeypatch.chdir(tmp_path)
        folder = tmp_path / "mine"
        folder.mkdir()
        module = f"layers_{inside}"
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, module)  # so that it is forgotten afterwards
        (folder / f"{module}.py").write_text(BUILD)
        lines = [
            "def build(*sizes):",
            f"    from {module} import build",
            "    return build(*sizes)",
        ]
        own = lines if inside else [f"from {module} import build"]
        (folder / "net.py").write_text("\n".join(own))
        before = list(sys.path)
        assert cli.main([*words(shapes), "--network", "mine/net.py:build"]) == 0
        assert sys.path == before
        [path] = home.rglob("shipped/*/*.zlib")
        assert tickets.load(path).card.total == 3 * 8 * 8 * 3

    def test_the_path_stays_where_the_file_fails_or_takes_its_folder_off(
        self, shapes, tmp_path, capsys
    ):
        file = tmp_path / "net.py"
        before = list(sys.path)
        for head, sentence in (
            ("import no_such_module_there", "cannot be used (No module named 'no_such_mod"),
            (f"import sys\nsys.path.remove({str(tmp_path)!r})", "model 'net' cannot be built"),
        ):
            file.write_text(f"{head}\n{BUILD}".replace("nn.Flatten()", "none"))
            assert cli.main([*words(shapes), "--network", f"{file}:build"]) == 2
            assert sentence in capsys.readouterr().err.splitlines()[-1]
            assert sys.path == before

    def test_trained_weights_are_asked_about_in_the_words_of_the_command(
        self, shapes, tmp_path, capsys
    ):
        file = tmp_path / "net.py"
        file.write_text(TRAINED)
        command = [*words(shapes), "--network", f"{file}:build"]
        assert cli.main(command) == 2
        assert capsys.readouterr().err.splitlines()[-1] == (
            "model 'net' looks trained (1.weight is the same for two seeds): give "
            "--weights keep to start from them, or --weights draw to lose them and draw all anew "
            "for each seed."
        )
        assert cli.main([*command, "--trained", "--weights", "draw"]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == (
            "--trained and --weights draw contradict each other: leave one of them out."
        )

    def test_weights_trained_and_keep_are_those_of_models_add(self, shapes, tmp_path):
        file = tmp_path / "net.py"
        file.write_text(TRAINED)
        wish = Wish(str(shapes), network=f"{file}:build", preset="smoke", weights="draw")
        first = {}
        for name, more in (
            ("draw", {}),
            ("keep", {"weights": "keep"}),
            ("trained", {"weights": None, "trained": True}),
        ):
            one_ticket.plan(replace(wish, **more))
            assert models.OWN["net"][1:] == (name != "draw", name == "trained")
            made = models.build("net", (3, 8, 8), 3, torch.Generator().manual_seed(1))
            first[name] = made[1].weight
        assert torch.equal(first["keep"], first["trained"])
        assert not torch.equal(first["keep"], first["draw"])

    def test_a_notebook_names_a_network_by_the_same_words(self, shapes, tmp_path):
        file = tmp_path / "net.py"
        file.write_text(TRAINED)
        run = one_ticket.plan(Wish(str(shapes), network="mlp", preset="smoke")).run
        for weights, told in (("draw", (False, False)), ("keep", (True, False))):
            assert yours.known(f"{file}:build", run, weights) == "net"
            assert models.OWN["net"][1:] == told
        yours.known(f"{file}:build", run, "trained")
        assert models.OWN["net"].trained
        assert yours.known("mlp", run) == "mlp"
        sentence = "weights='trained' cannot be had with model='mlp', which comes with the package"
        with pytest.raises(ValueError, match=sentence):
            yours.known("mlp", run, "trained")
        with pytest.raises(ValueError, match="expected keep, draw or trained"):
            yours.known(f"{file}:build", run, "Trained")
        with pytest.raises(ValueError, match="looks trained"):
            yours.known(f"{file}:build", run)

    @pytest.mark.parametrize(
        ("more", "preset"),
        [
            ([], "small"),
            (["--weights", "draw"], "small"),
            (["--weights", "keep"], "finetune"),
            (["--trained"], "finetune"),
            (["--trained", "--preset", "smoke"], "smoke"),
        ],
    )
    def test_given_weights_are_trained_at_the_rate_of_preset_finetune(
        self, more, preset, monkeypatch
    ):
        """A network that is trained loses what it knows at the learning rate of preset small."""
        asked = []

        def note(wish):
            asked.append(wish)
            raise ValueError("enough.")

        monkeypatch.setattr(one_ticket, "plan", note)
        assert cli.main(["ticket", "folder", *more]) == 2
        [wish] = asked
        assert wish.preset == preset

    def test_of_a_trained_network_no_dense_training_is_counted(self, shapes, tmp_path, monkeypatch):
        monkeypatch.setattr(cost, "seconds_on", lambda run, data: 10.0)
        file = tmp_path / "net.py"
        file.write_text(TRAINED)
        wish = Wish(str(shapes), network=f"{file}:build", preset="smoke", method="magnitude")
        both = one_ticket.plan(replace(wish, weights="keep"))
        assert ": 20 steps of 10.000 s;" in one_ticket.time_needed(both)
        made = one_ticket.plan(replace(wish, trained=True))
        assert ": 10 steps of 10.000 s;" in one_ticket.time_needed(made)
        assert experiments.run(made.dense, paths.RUNS).cost == 0
        made = one_ticket.plan(replace(wish, trained=True))
        told = one_ticket.time_needed(made)
        assert told.startswith("there already and used: the dense net\nabout 2 min on ")
        record = experiments.run(made.run, paths.RUNS)
        made = replace(made, done={made.run: record})
        assert one_ticket.time_needed(made).endswith("\nnothing is left to train")

    def test_layers_that_are_named_stay_whole(self, shapes, tmp_path, home, no_onnx, capsys):
        file = tmp_path / "net.py"
        file.write_text(TRAINED.replace("nn.Linear(9, n_c", "nn.Linear(9, 9), nn.Linear(9, n_c"))
        command = [*words(shapes), "--network", f"{file}:build", "--weights", "keep"]
        assert cli.main([*command, "--keep", "3", "--keep", "[4-9]"]) == 0
        [path] = home.rglob("shipped/*/*.json")
        assert [row["layer"] for row in json.loads(path.read_text())["layers"]] == ["1.weight"]
        assert cli.main([*command, "--keep", "head"]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == (
            "model 'net': keep='head' names no layer that could be pruned: choose from 1, 3, 4."
        )

    def test_what_was_made_of_another_network_of_its_name_stays(
        self, shapes, tmp_path, no_onnx, capsys
    ):
        file = tmp_path / "net.py"
        file.write_text(BUILD)
        out = tmp_path / "out"
        command = [*words(shapes), "--network", f"{file}:build", "--out", str(out)]
        for _ in range(2):
            assert cli.main(command) == 0
        there = {path: path.read_bytes() for path in out.iterdir()}
        layers = "nn.Flatten(), nn.ReLU()"  # as many layers to prune, and as many weights
        file.write_text(BUILD.replace("nn.Flatten()", layers))
        assert cli.main(command) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert told == (
            f"{out}/shapes_net_ballot_d0.1_s0.safetensors.zlib is there and is not of this "
            "ticket: move it away or give another --out."
        )
        assert {path: path.read_bytes() for path in out.iterdir()} == there

    @pytest.mark.parametrize(
        ("function", "sentence"),
        [(":none", "(it has no 'none')"), ("", "(it has no '')"), (":broken", "model 'net'")],
    )
    def test_a_function_that_cannot_be_is_one_sentence(
        self, function, sentence, shapes, tmp_path, capsys
    ):
        file = tmp_path / "net.py"
        file.write_text(BUILD)
        assert cli.main([*words(shapes), "--network", f"{file}{function}"]) == 2
        assert sentence in capsys.readouterr().err.strip().splitlines()[-1]
