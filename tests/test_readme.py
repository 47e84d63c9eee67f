"""The README says what the code and the committed pages say, and leads to files that are there."""

import os
import re
import subprocess
import sys

import pandas as pd
import pytest

from fairlth import config
from fairlth.analysis import audit, records, scope
from fairlth.analysis.equal_accuracy import BUDGET
from fairlth.analysis.records import KEYS
from fairlth.analysis.summaries import per_run
from fairlth.config import METHOD_TABLE, paths
from fairlth.config.presets import CLAIMED
from fairlth.workflow import audits, experiments

README = (paths.ROOT / "README.md").read_text()
RESULTS_PAGE = (paths.ROOT / "data" / "results" / "README.md").read_text()
RESULTS = " ".join(RESULTS_PAGE.split())
COMMITTED = subprocess.run(
    ["git", "ls-files", "*.md", "*.ipynb"],
    cwd=paths.ROOT,
    capture_output=True,
    text=True,
    check=True,
).stdout.splitlines()
PRESETS = re.findall(r"^data/results/([a-z_]+)\.md$", "\n".join(COMMITTED), re.M)
INTERVAL = r"-?[\d.]+(%?) \(-?[\d.]+\1 to -?[\d.]+\1\)"  # of percents or ratios
SECTIONS = [
    "Does Ballot work?",
    "Install and run",
    "Ten lines",
    "Your own images, your own network",
    "Which notebook for which question?",
    "The package",
    "Results",
    "Limits",
    "Hardware, data, licences, citation",
]


def cells(line):
    """The cells of a line of a Markdown table."""
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def tables(text):
    """The tables of a Markdown text, each a list of rows from the name of a column to its cell."""
    found = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.M):
        lines = [cells(line) for line in block.splitlines()]
        header = [re.sub(r"\[(.*?)\]\(.*?\)", r"\1", cell) for cell in lines[0]]
        assert len({*header}) == len(header), header
        found.append([dict(zip(header, line, strict=True)) for line in lines[2:]])
    return found


def table(text, *columns):
    """The first table that has these columns, its rows by what stands in the first of them."""
    [rows, *_] = [rows for rows in tables(text) if set(columns) <= set(rows[0])]
    return {row[columns[0]]: row for row in rows}


def page(preset):
    return (paths.ROOT / "data" / "results" / f"{preset}.md").read_text()


def section(name):
    return README.partition(f"## {name}\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def claims():
    return table(section("Results"), "preset", "magnitude")


@pytest.fixture(scope="module")
def equal():
    return table(section("Results"), "preset", BUDGET)


def test_it_is_read_in_ten_minutes():
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 1500
    assert re.findall(r"^## (.*)", README, re.M) == SECTIONS


@pytest.mark.parametrize("word", ["density", "level", "shift", "conflict", "CWV"])
def test_a_term_is_explained_where_it_first_appears(word):
    assert README[re.search(rf"\b{word}", README).start() - 1] == "*"


def test_results_have_a_row_per_committed_page(claims, equal):
    links = {f"[{preset}](data/results/{preset}.md)" for preset in PRESETS}
    assert {*claims} == {"paper", *links}
    assert {*equal} == {*PRESETS}
    for preset in PRESETS:
        assert f"\n# Results at preset `{preset}`" in "\n" + page(preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_claims_are_those_of_the_page(claims, preset):
    theirs = table(page(preset), "claim", "all tasks")
    claimed = {name: row for name, row in theirs.items() if row["paper"] != "–"}
    told = claims[f"[{preset}](data/results/{preset}.md)"]
    rivals = {name: name.removeprefix("CWV lower than ") for name in claimed}
    assert [*told] == ["preset", *rivals.values(), "settings × seeds"]
    for name, row in claimed.items():
        assert told[rivals[name]] == row["all tasks"]
        assert claims["paper"][rivals[name]] == row["paper"]
    [seeds] = {row["n"] for row in claimed.values()}
    numbers = sorted({int(row["settings"]) for row in claimed.values()})  # one rival may have more
    settings = f"({numbers[0]} to {numbers[-1]})" if len(numbers) > 1 else f"{numbers[0]}"
    assert told["settings × seeds"] == f"{settings} × {seeds}"


def test_what_each_part_of_ballot_does_is_that_of_the_page():
    rows = table(page("small"), "claim", "all tasks")
    training = rows["CWV lower by refined training"]
    selection = rows["CWV lower by conflict in the selection"]
    assert (training["verdict"], selection["verdict"]) == ("shown", "not shown")
    told = (
        f"At `small` refined training lowers CWV by {training['all tasks']}, averaged over "
        f"selections; conflict selection is not shown to, {selection['all tasks']}."
    )
    assert told in " ".join(section("Results").split())


def test_the_verdict_on_the_claims_is_that_of_every_page(claims):
    verdicts = {
        row["verdict"]
        for preset in PRESETS
        for row in table(page(preset), "claim", "all tasks").values()
        if row["paper"] != "–"
    }
    assert len(PRESETS) == 5
    said = "All four CWV claims of the paper are reproduced."
    assert (said in " ".join(README.split())) == (verdicts == {"reproduced"})


@pytest.mark.parametrize("preset", PRESETS)
def test_comparisons_at_equal_accuracy_are_those_of_the_page(equal, preset):
    theirs = table(page(preset), "rival", "all tasks")
    assert [*equal[preset]] == ["preset", BUDGET, "lth_rate"]
    for rival in (BUDGET, "lth_rate"):
        row = theirs[rival]
        spent = f"{row['spent']}, {row['rival spent']}"
        assert equal[preset][rival] == f"{row['all tasks']}, {row['verdict']}; {spent}"


def test_the_answer_in_numbers_is_that_of_the_pages():
    ratios = {
        preset: table(page(preset), "rival", "all tasks")[BUDGET]["all tasks"] for preset in PRESETS
    }
    answer = " ".join(section("Does Ballot work?").split())
    told = [
        f"Ballot's CWV is {ratios['small']} times that of `lth_long` and its shifts on the data",
        f"On two untouched data sets it was {ratios['confirm']} times, shown on cifar100 alone",
        f"Over five data sets and three networks it is {ratios['breadth']}, for 45 000",
        f"cifar10 images {ratios['whole']}: both open.",
    ]
    for sentence in told:
        assert sentence in answer
    assert len(re.findall(INTERVAL, answer)) == len(told)
    for preset in ("breadth", "whole"):
        assert table(page(preset), "rival", "all tasks")[BUDGET]["verdict"] == "open"
    for method, accuracy in (("ballot", "Ballot 0.79"), ("fairscratch", "FairScratch 0.45")):
        mean = float(table(page("whole"), "method", "MCD points")[method]["accuracy %"].split()[0])
        assert accuracy in section("Results") and accuracy.endswith(f" {mean / 100:.2f}")
    prose = " ".join(line for line in README.splitlines() if not line.startswith("|"))
    assert "%" not in re.sub(INTERVAL, "", prose).replace("95 %", "").replace("1%}", "")


def test_on_untouched_data_it_was_shown_on_cifar100_alone_and_for_more_training():
    duels = next(rows for rows in tables(page("confirm")) if {"rival", "task"} <= set(rows[0]))
    even = [row for row in duels if row["rival"] == BUDGET]
    verdicts = {(row["task"].split()[0], row["verdict"]) for row in even}
    assert verdicts == {("cifar100", "better"), ("fashion_mnist", "open")}
    row = table(page("confirm"), "rival", "all tasks")[BUDGET]
    assert 1.25 < float(row["spent"]) / float(row["rival spent"]) < 1.33  # over a quarter more


def test_the_first_answer_follows_from_the_pages():
    verdicts = [table(page(preset), "rival", "all tasks")[BUDGET]["verdict"] for preset in PRESETS]
    [answer] = re.findall(r"\*\*(Ballot is .*?)\*\*", section("Does Ballot work?"), re.S)
    answer = " ".join(answer.split())
    assert answer.startswith("Ballot is not shown to be fairer than a plain ticket")
    assert answer.endswith(", except at one of five presets.")
    assert sorted(verdicts) == ["better"] + 4 * ["open"]


def test_the_ten_lines_run(tmp_path):
    [lines] = re.findall(r"```python\n(.*?)```", section("Ten lines"), re.S)
    assert len(lines.splitlines()) <= 10
    done = subprocess.run(
        [sys.executable, "-c", lines],
        cwd=paths.ROOT,
        env=os.environ | {"FAIRLTH_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "340 of 17024 weights, accuracy 9" in done.stdout
    [ticket] = tmp_path.rglob("*.zlib")
    assert str(ticket) in done.stdout


def test_every_notebook_is_named_once_and_no_other():
    linked = re.findall(r"\[(\w+)\]\(notebooks/(\w+)\.ipynb\)", section(SECTIONS[4]))
    assert all(name == target for name, target in linked)
    there = [name for name in COMMITTED if name.startswith("notebooks/")]
    assert sorted(f"notebooks/{target}.ipynb" for _, target in linked) == there


def test_every_method_is_named_as_in_code_and_in_figures():
    listed = " ".join(section("The package").split())
    for method, row in METHOD_TABLE.items():
        told = f"`{method}`" if row.title == method else f"`{method}` ({row.title})"
        assert told in listed, told


def test_the_map_has_every_module_of_the_core_and_every_wing():
    [listed] = re.findall(r"```\nfairlth/\n(.*?)^\w", section("The package"), re.S | re.M)
    top = [path for path in paths.PACKAGE.iterdir() if path.name[0] not in "_."]
    assert sorted(re.findall(r"\w+\.py", listed)) == sorted(
        path.name for path in top if path.suffix == ".py"
    )
    assert sorted(re.findall(r"(\w+)/", listed)) == sorted(
        path.name for path in top if path.is_dir()
    )


def test_whom_tickets_forget_is_what_the_audits_say():
    told = table(RESULTS_PAGE, "", "lth")
    found = pd.concat([audits.table(preset, train=False) for preset in ("small", "breadth")])
    shown = audit.readable_weak(audit.weak_groups(found))
    shown["task"] = [config.task_name(row).split(",")[0] for _, row in shown.iterrows()]
    assert len(shown) == len(told) * 4 == 12
    for _, row in shown.iterrows():
        said = told[row["task"]][row["method"]]
        assert said == f"{row['points more forgotten in weak groups']}, {row['verdict']}"


def test_what_else_the_tables_say_stands_in_the_page():
    text = RESULTS_PAGE.partition("## Whom do tickets forget?")[0]
    for preset in PRESETS:
        assert f"[{preset}]({preset}.md)" in text
    number = r"\d+\.\d+"
    told = [*re.finditer(rf"{number} \({number} to {number}\)|{number} ± {number}", text)]
    assert len(told) >= 7
    for quoted in told:
        before = text[: quoted.start()]
        preset = ["small", *re.findall(rf"`({'|'.join(PRESETS)})`", before)][-1]  # named last
        assert f"| {quoted[0]} " in page(preset), (quoted[0], preset)


def not_run(preset):
    done = experiments.in_table(preset)
    return [run for run in config.every_run(preset) if scope.key(run) not in done]


@pytest.mark.parametrize("preset", ["small", "confirm", "deeper", "breadth", "whole"])
def test_a_complete_table_has_every_run_that_is_planned(preset):
    assert not not_run(preset)


def test_what_the_other_table_lacks_is_told():
    assert len(not_run("whole_gpu")) == 45
    assert "it has 3 of its 48 runs" in RESULTS


def test_which_form_the_ballot_of_confirm_has_is_told():
    rows = records.load("confirm").drop_duplicates([key for key in KEYS if key != "preset"])
    rows = rows[rows["method"].str.startswith("ballot") | rows["method"].eq("shuffled")]
    own = rows["method"].eq("ballot") & rows["pressure"].isna() & rows["density"].isin([0.05, 0.02])
    older = rows["spent"] - rows["cost"] > 1
    assert (older == own).all() and 0 < own.sum() < len(own)
    assert "So are `ballot_select`, `ballot_refine`, `shuffled` and Ballot's other" in RESULTS


def test_what_is_told_of_breadth_is_what_its_table_has():
    runs = per_run(records.load("breadth"), names=("cwv",))
    pairs = runs[["dataset", "model"]].drop_duplicates()
    assert len(pairs) == 15 and "`resnet20`: 15 pairs" in RESULTS
    settings = runs[runs["density"] < 1].drop_duplicates(["method", "dataset", "model", "density"])
    numbers = settings.groupby("method").size()
    more = ["ballot", "lth", "lth_long"]
    assert (
        set(numbers[more]) == {16} and "have sixteen settings, the other methods fifteen" in RESULTS
    )
    assert set(numbers.drop(more)) == {15}
    tuned = settings[settings["dataset"].isin(["cifar10", "utkface"])].groupby("method").size()
    assert set(tuned) == {6} and "Six settings of each are on cifar10 and utkface" in RESULTS


def test_counts_of_settings_are_those_of_the_pages():
    magnitude = r"Pruning alone, magnitude: .* less fair in (\d+ of \d+) settings, fairer in 0"
    assert re.findall(magnitude, page("small")) == ["4 of 6"]
    assert re.findall(magnitude, page("breadth")) == ["4 of 15"]
    assert "not shown at `small`, 1.07 (0.94 to 1.20), but in 4 of 6, and" in RESULTS
    assert "`breadth`, 1.05 (0.99 to 1.11), but in 4 of 15." in RESULTS
    duels = r"times (\w+)'s, n = 3 seeds: \w+; better in (\d+) of (\d+) .* worse in (\d+)\."
    found = {rival: numbers for rival, *numbers in re.findall(duels, page("breadth"))}
    assert found[BUDGET] == ["1", "16", "0"] and found["lth"] == ["8", "16", "1"]
    assert "`lth_long` and its shifts in one of sixteen settings" in RESULTS
    assert (
        "and less fair in none. Compared with `lth` it is fairer in eight and less fair in one"
        in RESULTS
    )


def test_the_hardware_is_told_as_the_tables_have_it():
    assert (
        "`whole_gpu` and `breadth`'s `resnet20` on cifar10 and fer2013 on an NVIDIA H200, "
        "`whole` and `breadth`'s other `resnet20` on an NVIDIA H100."
    ) in RESULTS
    runs = records.load("small").drop_duplicates([key for key in KEYS if key != "preset"])
    assert runs["commit"].str.endswith("-dirty").sum() == 106 and "106 runs of `small`" in RESULTS
    told = []
    for preset in ("breadth", "whole", "whole_gpu"):
        rows = records.load(preset)[["preset", "dataset", "model", "device"]].drop_duplicates()
        on_gpu = rows[rows["device"].str.startswith("NVIDIA")]
        told += [(*row[:3], row[3].split()[1]) for row in on_gpu.itertuples(index=False)]
    assert sorted(told) == [
        ("breadth", "cifar10", "resnet20", "H200"),
        ("breadth", "cifar100", "resnet20", "H100"),
        ("breadth", "fashion_mnist", "resnet20", "H100"),
        ("breadth", "fer2013", "resnet20", "H200"),
        ("breadth", "utkface", "resnet20", "H100"),
        ("whole", "cifar10", "vgg11_small", "H100"),
        ("whole_gpu", "cifar10", "resnet18", "H200"),
    ]


def test_the_cheaper_ballot_of_small_is_that_of_the_epyc():
    assert (
        "What `small` has from the EPYC is of the cheaper form, gender by age band apart."
        in RESULTS
    )
    rows = records.load("small").query("method == 'ballot'")
    from_epyc = rows["device"].str.startswith("AMD EPYC") & rows["group_by"].ne("age_band")
    cheaper = rows["spent"] - rows["cost"] < 0.5  # the older form: 1.3
    assert (cheaper == from_epyc).all() and cheaper.any() and not cheaper.all()


def test_two_kinds_of_hardware_agree_on_one_task_as_told():
    means = []
    for preset in ("deeper", "breadth"):
        runs = per_run(records.load(preset), names=("accuracy", "cwv"))
        runs = runs.query("dataset == 'cifar10' and model == 'resnet20'")
        means.append(runs.groupby("method")[["accuracy", "cwv"]].mean())
    older, newer = means[0].drop("lth_bias"), means[1]  # a control that breadth does not have
    assert set(older.index) == set(newer.index) == set(CLAIMED)
    points = 100 * (newer["accuracy"] - older["accuracy"]).abs().max()
    ratios = newer["cwv"] / older["cwv"]
    assert f"at most {points:.1f} points" in RESULTS
    assert f"by at most {(ratios.drop('ballot') - 1).abs().max():.0%}." in RESULTS
    assert f"has a CWV lower by {1 - ratios['ballot']:.0%}" in RESULTS


@pytest.mark.parametrize("name", [name for name in COMMITTED if name.endswith(".md")])
def test_links_lead_to_files(name):
    path = paths.ROOT / name
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target
