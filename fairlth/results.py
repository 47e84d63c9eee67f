"""What is kept of a run: a record as JSON, all records as one tidy table, and what the table says."""

import json
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import fairlth
from fairlth import config, metrics
from fairlth.config import Schedule
from fairlth.metrics import Counts
from fairlth.training import low_precision

DECIDES = fairlth.ORDER[: fairlth.ORDER.index("methods") + 1]  # the modules whose code decides a run's outcome
KEYS = [*config.TASK, "method", "density", "seed", "preset", "pressure"]
CONDITIONS = ["version", "commit", "torch", "device", "precision", "seconds", "shared_seconds", "memory", "cost"]
COLUMNS = [*KEYS, "split", "class", "group", "correct", "total", "feasible", *CONDITIONS]
PAPER = {"magnitude": 0.3800, "lth": 0.3391, "safecompress": 0.1796, "fairscratch": 0.3582}  # arXiv 2407.02805, abstract
CONTROL = "lth_bias"
RIVALS = ("lth", "lth_rate", "constrained", "fairgrape")  # whose curves of shifted biases Ballot is held against
SHIFTS = (0.25, 0.5, 1.0)  # how far every ticket's class biases are shifted as well: its accuracy-fairness curve after training


@dataclass(frozen=True)
class Record:
    """One finished run: counts per class and group, so that any metric can be recomputed, and its conditions.

    `counts` maps "val", "test" and "test+s", where class biases were shifted by s of the way to the fairest shift on validation
    data (see SHIFTS), to {"correct", "total"}, each a list of classes of a list of groups; `layers` is the mask's
    report; `cost` is in dense-training equivalents; `settings` is the preset as it was.
    """

    run: dict[str, Any]
    target: str
    group_by: str
    classes: list[str]
    groups: list[str]
    counts: dict[str, dict[str, list[list[int]]]]
    layers: list[dict[str, Any]]
    cost: float
    feasible: bool | None
    trace: list[dict[str, Any]]
    notes: dict[str, Any]
    settings: dict[str, Any]
    conditions: dict[str, Any]

    def split(self, name: str) -> Counts:
        """The counts of "val" or "test" as arrays (classes, groups)."""
        return Counts(np.array(self.counts[name]["correct"]), np.array(self.counts[name]["total"]))

    @property
    def kept(self) -> int:
        """Weights that the mask keeps."""
        return sum(layer["kept"] for layer in self.layers)

    @property
    def total(self) -> int:
        """Weights that could have been pruned."""
        return sum(layer["total"] for layer in self.layers)


def write(record: Record, path: Path) -> None:
    """Writes a record as JSON, whole or not at all."""
    config.write_atomically(path, json.dumps(asdict(record), indent=1).encode())


def read(path: Path) -> Record:
    """Reads a record; ValueError in one sentence where the file is not a whole one."""
    try:
        return Record(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a whole record of this version ({error}): delete it and run again.") from error


def conditions(device: torch.device, schedule: Schedule, seconds: float, shared_seconds: float = 0.0) -> dict[str, Any]:
    """What a number depends on beside its run: versions, commit, code, device, precision of the training, time.

    `shared_seconds` is what the shared trainings took that the run read instead of making them; `seconds` is its own time;
    `memory` the process's peak in mebibytes.
    """
    cpu = f"{processor()}, {torch.get_num_threads()} thread(s)"
    named = cpu if device.type == "cpu" else torch.cuda.get_device_name(device)
    named += ", deterministic" if torch.are_deterministic_algorithms_enabled() else ""
    versions = {"version": fairlth.__version__, "commit": _commit(), "code": code_fingerprint(), "torch": torch.__version__}
    spent = {"seconds": round(seconds, 2), "shared_seconds": round(shared_seconds, 2), "memory": round(peak_memory(device), 1)}
    precision = "bfloat16" if low_precision(schedule, device) else "float32"
    return versions | {"device": named, "precision": precision} | spent


def processor() -> str:
    """The name of the machine's processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine() or "cpu")


def peak_memory(device: torch.device) -> float:
    """Mebibytes that the process has held at most, on the device; on CPU its resident memory, nan where that is not told."""
    if device.type != "cpu":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), float("nan"))


def code_fingerprint() -> str:
    """Changes when the code that decides a run's outcome does."""
    return config.code_fingerprint(DECIDES)


def _commit() -> str:
    command = ["git", "-C", str(config.PACKAGE), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def rows(record: Record) -> list[dict[str, Any]]:
    """One row per split and (class, group) cell, in the columns of COLUMNS."""
    head = record.run | {"target": record.target, "group_by": record.group_by, "feasible": record.feasible}
    head |= {name: record.conditions.get(name) for name in CONDITIONS if name != "cost"} | {"cost": record.cost}
    own = record.group_by == "class"  # then only the cells with group = class exist
    return [
        head | {"split": split, "class": c, "group": g, "correct": counts["correct"][i][j], "total": counts["total"][i][j]}
        for split, counts in record.counts.items()
        for i, c in enumerate(record.classes)
        for j, g in enumerate(record.groups)
        if i == j or not own
    ]


def table(records: list[Record]) -> pd.DataFrame:
    """The tidy table of some records: one row per run, split and (class, group) cell."""
    return pd.DataFrame([row for record in records for row in rows(record)], columns=COLUMNS)


def save_table(frame: pd.DataFrame, preset: str) -> Path:
    """Writes data/results/<preset>.csv, the order of rows independent of the order of runs."""
    path = config.TABLES / f"{preset}.csv"
    frame = frame.sort_values([*KEYS, "split"], kind="stable", na_position="first")
    config.write_atomically(path, frame.to_csv(index=False).encode())
    return path


def load(preset: str) -> pd.DataFrame:
    """Reads data/results/<preset>.csv; ValueError where there is none."""
    path = config.TABLES / f"{preset}.csv"
    if not path.exists():
        raise ValueError(f"{path} is not there: run `make reproduce PRESET={preset}` first.")
    text = {"class": str, "group": str, "target": str, "group_by": str}  # a class may be called 0, a group None
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=[""])


def per_run(frame: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """One row per run with its metrics on a split, fractions; the noise floors beside CWV and MCD."""
    found = []
    for keys, cells in frame[frame["split"] == split].groupby(KEYS, dropna=False, sort=False):
        groups = cells.groupby("group", sort=False)[["correct", "total"]].sum()
        found.append(dict(zip(KEYS, keys, strict=True)) | measures(groups["correct"], groups["total"]) | _same(cells))
    return pd.DataFrame(found)


def measures(correct: Any, total: Any) -> dict[str, float]:
    """Every metric of one run from its counts per group."""
    names = ("accuracy", "mean_accuracy", "worst_accuracy", "cwv", "mcd", "cwv_floor", "mcd_floor")
    return {name: getattr(metrics, name)(np.asarray(correct), np.asarray(total)) for name in names}


def _same(cells: pd.DataFrame) -> dict[str, Any]:
    return {name: cells[name].iloc[0] for name in ("cost", "seconds", "shared_seconds", "memory", "feasible")} | {
        "images": int(cells["total"].sum())
    }


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per setting: mean over seeds, ends of the 95 % t interval and n, of each metric; from `per_run`."""
    by = [key for key in KEYS if key != "seed"]
    found = []
    for keys, group in runs.groupby(by, dropna=False, sort=False):
        row = dict(zip(by, keys, strict=True)) | {"n": len(group), "images": int(group["images"].iloc[0])}
        for name in ("accuracy", "mean_accuracy", "worst_accuracy", "cwv", "mcd"):
            interval = metrics.mean_interval(group[name])
            row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
        row |= {name: float(group[name].mean()) for name in ("cwv_floor", "mcd_floor", "cost")}
        found.append(row)
    return pd.DataFrame(found)


def curves(summary: pd.DataFrame, density: float) -> pd.DataFrame:
    """The rows of a summary at one density from which accuracy-fairness curves are drawn, along each method's pressure.

    A column `knob` holds the pressure, the method's own where a run names none; methods without one have a single point.
    """
    rows = summary[(summary["density"] == density) | (summary["method"] == "dense")]
    own = rows["method"].map({name: knob.default for name, knob in config.KNOBS.items()}).astype(float)
    rows = rows.assign(knob=rows["pressure"].astype(float).fillna(own))
    return rows.sort_values("knob", kind="stable")


def readable(frame: pd.DataFrame) -> pd.DataFrame:
    """A summary as people read it: accuracy and MCD in points, CWV x 10^4, each mean with its interval; `chance` are floors."""
    shown = frame[[*config.TASK, "method", "density"]].copy()
    for name, title, scale in (("accuracy", "accuracy %", 100), ("cwv", "CWV x1e4", 1e4), ("mcd", "MCD points", 100)):
        shown[title] = [mean_text(row, name, scale) for _, row in frame.iterrows()]
        if f"{name}_floor" in frame:
            shown[f"{title.split()[0]} chance"] = (frame[f"{name}_floor"] * scale).round(1)
    return shown.assign(n=frame["n"], cost=frame["cost"].round(2)).reset_index(drop=True)


def mean_text(row: pd.Series, name: str, scale: float) -> str:
    """A mean of a summary with half its interval, times `scale`; the mean alone where there is one run."""
    half = (row[f"{name}_high"] - row[name]) * scale
    return f"{row[name] * scale:.1f} ± {half:.1f}" if row["n"] > 1 else f"{row[name] * scale:.1f}"


def shifted(frame: pd.DataFrame) -> pd.DataFrame:
    """`per_run` on the test split as trained (`shift` 0) and with the class biases shifted by each of SHIFTS."""
    splits = {"test": 0.0} | {f"test+{share:g}": share for share in SHIFTS}
    return pd.concat([per_run(frame, split).assign(shift=share) for split, share in splits.items()], ignore_index=True)


def at_equal_accuracy(points: pd.DataFrame, control: str = "lth") -> pd.DataFrame:
    """Every point's CWV over that of a control's curve at the same accuracy, in a column `relative`; below 1 is fairer.

    The curve is that of the control with the same task, density and seed, along the shift of its class biases: straight lines
    in log CWV; beyond its ends the end counts. Points without a curve are left out.

    Args:
        points: from `shifted`.
        control: a method.
    """
    pair, found = [*config.TASK, "density", "seed"], []
    own = points[(points["method"] == control) & points["pressure"].isna()]
    curves = {keys: curve.sort_values("accuracy") for keys, curve in own.groupby(pair)}
    for keys, here in points.groupby(pair, sort=False):
        if (curve := curves.get(keys)) is not None:
            at = np.interp(here["accuracy"], curve["accuracy"], np.log(curve["cwv"]))
            found.append(here.assign(relative=here["cwv"] / np.exp(at)))
    return pd.concat(found, ignore_index=True) if found else points.iloc[:0].assign(relative=[])


def relative_summary(points: pd.DataFrame) -> pd.DataFrame:
    """Geometric means over seeds of `relative`, with 95 % t intervals (of the logarithm) and n, and the mean cost.

    Args:
        points: from `at_equal_accuracy`.
    """
    found, by = [], [*config.TASK, "method", "density", "pressure", "shift"]
    for keys, group in points.groupby(by, dropna=False, sort=False):
        interval = metrics.mean_interval(np.log(group["relative"]))
        row = dict(zip(by, keys, strict=True)) | {"n": len(group), "cost": float(group["cost"].mean())}
        row |= {"accuracy": float(group["accuracy"].mean()), "cwv": float(group["cwv"].mean())}
        ends = {"relative": interval.mean, "relative_low": interval.low, "relative_high": interval.high}
        found.append(row | {name: float(np.exp(value)) for name, value in ends.items()})
    return pd.DataFrame(found)


def duels(points: pd.DataFrame, rivals: Iterable[str] = RIVALS, ours: str = "ballot") -> pd.DataFrame:
    """`ours` as trained against each rival's curve of shifted biases at the same accuracy; one row per rival, task and density.

    Columns of `improvements` (`mean` is 1 less the geometric mean of the ratio of CWVs, fractions) and a verdict: "better"
    where the interval is above 0, "worse" where it is below, else "open".

    Args:
        points: from `shifted`.
        rivals: methods.
    """
    mine, found = points[(points["method"] == ours) & points["pressure"].isna() & (points["shift"] == 0)], []
    for rival in rivals:
        both = at_equal_accuracy(pd.concat([mine, points[points["method"] == rival]]), rival)
        for _, row in relative_summary(both[both["method"] == ours]).iterrows():
            ends = {
                "mean": 1 - row["relative"],
                "low": 1 - row["relative_high"],
                "high": 1 - row["relative_low"],
                "n": row["n"],
            }
            verdict = "better" if ends["low"] > 0 else "worse" if ends["high"] < 0 else "open"
            found.append(row[[*config.TASK, "density"]].to_dict() | {"rival": rival} | ends | {"verdict": verdict})
    return pd.DataFrame(found, columns=[*config.TASK, "density", "rival", "mean", "low", "high", "n", "verdict"])


def readable_duels(rows: pd.DataFrame) -> pd.DataFrame:
    """Duels as people read them."""
    return (
        readable_gains(rows)
        .rename(columns={"CWV lower by": "CWV at equal accuracy lower by"})
        .assign(verdict=[*rows["verdict"]])
    )


def duels_text(rows: pd.DataFrame) -> str:
    """The duels as plain text for a terminal."""
    if rows.empty:
        return ""
    title = "Ballot as trained against rivals whose class biases are shifted to the same accuracy"
    return f"\n{title}\n{readable_duels(rows).to_string(index=False)}\n"


def headline(claims: pd.DataFrame, duels: pd.DataFrame) -> str:
    """What the claims and the duels come to, in a line each: the rivals of the paper, then each rival at equal accuracy."""
    found = claims.loc[claims["claim"].str.endswith("(control)").eq(False), "verdict"].value_counts(sort=False)
    lines = ["Claims of the paper: " + ", ".join(f"{n} {verdict}" for verdict, n in found.items()) + "."]
    for rival, rows in duels.groupby("rival", sort=False):
        n = {verdict: int((rows["verdict"] == verdict).sum()) for verdict in ("better", "open", "worse")}
        lines.append(
            f"At equal accuracy against {rival}: better in {n['better']} of {len(rows)} settings, "
            f"open in {n['open']}, worse in {n['worse']}."
        )
    return "\n".join(lines)


def price(runs: pd.DataFrame, ours: str = "ballot", rivals: Iterable[str] = ("lth", "dense")) -> pd.DataFrame:
    """Accuracy of `ours` less a rival's, paired by task and seed: a row per rival and density with 95 % t interval, fractions.

    A seed's difference is the mean over its tasks, and seeds that lack some of them are left out. Ideally 0 or above.
    """
    pair, found = [*config.TASK, "seed"], []
    runs = runs[runs["pressure"].isna()]
    for rival in rivals:
        theirs = runs[runs["method"] == rival]
        for density, mine in runs[runs["method"] == ours].groupby("density"):
            same = theirs if rival == "dense" else theirs[theirs["density"] == density]
            both = mine.merge(same, on=pair, suffixes=("", "_theirs"))
            seeds = both.assign(gap=both["accuracy"] - both["accuracy_theirs"]).groupby("seed")["gap"].agg(["mean", "count"])
            gaps = seeds.loc[seeds["count"] == seeds["count"].max(), "mean"]
            found.append({"against": rival, "density": density} | metrics.mean_interval(gaps)._asdict())
    return pd.DataFrame(found)


def readable_relative(rows: pd.DataFrame) -> pd.DataFrame:
    """A `relative_summary` as people read it."""
    ends = [f"{low:.2f} to {high:.2f}" for low, high in zip(rows["relative_low"], rows["relative_high"], strict=True)]
    tasks = [config.task_name(row) for _, row in rows.iterrows()]
    shown = rows[["method", "density", "shift"]].assign(
        task=tasks,
        accuracy=(100 * rows["accuracy"]).round(1),
        cwv=(1e4 * rows["cwv"]).round(1),
        relative=rows["relative"].round(2),
    )
    shown = shown.assign(interval=ends, n=rows["n"], cost=rows["cost"].round(2)).reset_index(drop=True)
    return shown.rename(
        columns={"accuracy": "accuracy %", "cwv": "CWV x1e4", "relative": "CWV at equal accuracy", "interval": "95 % interval"}
    )


def costs(runs: pd.DataFrame) -> pd.DataFrame:
    """What each method cost, medians over all its runs: dense trainings, seconds with its shared trainings, peak memory.

    `overhead` is seconds over cost times the seconds of the dense net: what is not training by epochs; near 1 is good.
    """
    spent = runs.assign(seconds=runs["seconds"] + runs["shared_seconds"])
    rows = spent.groupby("method", sort=False)[["cost", "seconds", "memory"]].median()
    rows["overhead"] = rows["seconds"] / rows["cost"] / rows["seconds"].get("dense", np.nan)
    return rows.rename(columns={"cost": "dense trainings", "memory": "peak MiB"}).round(2)


def paired(runs: pd.DataFrame, ours: str = "ballot", metric: str = "cwv") -> pd.DataFrame:
    """`ours` beside each other method, one row per rival, task, density and seed; `gain` is 1 - ours / theirs."""
    pair = [*config.TASK, "density", "seed"]
    runs = runs[runs["pressure"].isna()]  # each method at its own default
    mine = runs.loc[runs["method"] == ours, [*pair, metric]].rename(columns={metric: "ours"})
    theirs = runs.loc[~runs["method"].isin([ours, "dense"]), [*pair, "method", metric]]
    both = theirs.rename(columns={"method": "rival", metric: "theirs"}).merge(mine, on=pair)
    return both.assign(gain=1 - both["ours"] / both["theirs"])


def whole_seeds(both: pd.DataFrame) -> pd.Series:
    """Each seed's mean gain over tasks and densities, of one rival's rows of `paired`; seeds that lack some are left out."""
    seeds = both.groupby("seed")["gain"].agg(["mean", "count"])
    return seeds.loc[seeds["count"] == seeds["count"].max(), "mean"]


def improvements(runs: pd.DataFrame, ours: str = "ballot", metric: str = "cwv") -> pd.DataFrame:
    """How much lower `ours` is than each other method, paired by seed; one row per (task, density, rival) and one over all.

    A seed's improvement over all is the mean over its tasks and densities, see `whole_seeds`; the interval is over seeds.
    """
    found, setting = [], [*config.TASK, "density"]
    for rival, both in paired(runs, ours, metric).groupby("rival", sort=False):
        for keys, cells in both.groupby(setting):
            interval = metrics.mean_interval(cells["gain"])
            found.append(dict(zip(setting, keys, strict=True)) | {"rival": rival} | interval._asdict())
        found.append({"dataset": "all", "rival": rival} | metrics.mean_interval(whole_seeds(both))._asdict())
    return pd.DataFrame(found)


def probability(runs: pd.DataFrame, ours: str = "ballot", metric: str = "cwv") -> pd.DataFrame:
    """Probability of improvement over each rival: the share of pairs of runs (same task, density and seed) that `ours` wins.

    One row per rival: `won` of `pairs`; and the share of whole seeds won, those whose mean gain over tasks and densities is
    above 0, with its 95 % Wilson interval: pairs of one seed share its images and first weights, seeds share nothing.

    Source: Agarwal et al., 2021 ("Deep reinforcement learning at the edge of the statistical precipice"), here paired.
    1/2 means that neither is fairer, 1 that `ours` always is.
    """
    found = []
    for rival, both in paired(runs, ours, metric).groupby("rival", sort=False):
        seeds = whole_seeds(both)
        row = {"rival": rival, "won": int((both["gain"] > 0).sum()), "pairs": len(both)}
        found.append(row | metrics.share_interval(int((seeds > 0).sum()), len(seeds))._asdict())
    return pd.DataFrame(found, columns=["rival", "won", "pairs", "mean", "low", "high", "n"])


def readable_gains(gains: pd.DataFrame) -> pd.DataFrame:
    """Improvements as people read them: percent with the ends of the interval."""
    task = gains["dataset"].where(gains["dataset"] == "all", [config.task_name(row) for _, row in gains.iterrows()])
    ends = [f"{low:.0%} to {high:.0%}" for low, high in zip(gains["low"], gains["high"], strict=True)]
    density = [f"{value:g}" if np.isfinite(value) else "all" for value in gains["density"].astype(float)]
    shown = gains[["rival"]].assign(
        task=task, density=density, lower=gains["mean"].map("{:.0%}".format), interval=ends, n=gains["n"]
    )
    return shown.rename(columns={"lower": "CWV lower by", "interval": "95 % interval"}).reset_index(drop=True)


def claims(runs: pd.DataFrame) -> pd.DataFrame:
    """The paper's headline claims beside ours: its number, our mean, interval, n, and a verdict by rule.

    "reproduced": the interval is above 0 and our mean at least the paper's; "partly": the interval is above 0; "not
    reproduced": it is not; "not run": the rival has no runs here. The last row is the control that the paper does not have,
    a plain ticket with its class biases shifted: "better" where the interval is above 0.
    """
    overall = improvements(runs)
    overall = overall[overall["dataset"] == "all"].set_index("rival") if len(overall) else overall
    found = []
    for rival, paper in (PAPER | {CONTROL: np.nan}).items():
        name = f"CWV lower than {rival}" + (" (control)" if rival == CONTROL else "")
        row = {"claim": name, "paper": paper, "ours": np.nan, "low": np.nan, "high": np.nan, "n": 0}
        if rival in overall.index:
            row |= {"ours": overall["mean"][rival]} | {end: overall[end][rival] for end in ("low", "high", "n")}
        found.append(row | {"verdict": verdict(row)})
    return pd.DataFrame(found)


def verdict(row: dict[str, Any]) -> str:
    """The rule of `claims` for one row."""
    if row["n"] == 0:
        return "not run"
    if np.isnan(row["paper"]):
        return "better" if row["low"] > 0 else "not better"
    if not row["low"] > 0:
        return "not reproduced"
    return "reproduced" if row["ours"] >= row["paper"] else "partly"


def claims_text(rows: pd.DataFrame, preset: str) -> str:
    """The claims table as plain text for a terminal."""
    shown = rows.copy()
    for name in ("paper", "ours", "low", "high"):
        shown[name] = [f"{value:.1%}" if np.isfinite(value) else "-" for value in rows[name]]
    title = f"Claims at preset {preset}: how much lower Ballot's CWV is than its rivals', 95 % interval over n seeds"
    note = "A tiny network on tiny digits: this shows that everything runs, it is no evidence.\n" if preset == "smoke" else ""
    return f"{title}\n{shown.to_string(index=False)}\n{note}"
