"""Tables as notebooks show them: whole, one per task, what does not vary in the caption."""

from typing import Any

import pandas as pd

from fairlth import config

CONDITIONS = {  # columns that describe the rows: told in the caption where they do not vary
    *("density", "n", "n, by class", "settings", "pairs", "images", "shift", "batch"),
    *("positive", "smallest group"),
}


class Shown:
    """Tables with their captions; a notebook shows them as HTML, a terminal as text."""

    def __init__(self, parts: list[tuple[str, pd.DataFrame]]) -> None:
        self.parts = parts

    def __repr__(self) -> str:
        texts = [
            f"{caption}\n{_text(frame)}" if caption else _text(frame)
            for caption, frame in self.parts
        ]
        return "\n\n".join(texts)

    def _repr_html_(self) -> str:
        return "\n".join(_caption(caption) + _html(frame) for caption, frame in self.parts)


def shown(frame: pd.DataFrame, caption: str = "") -> Shown:
    """One table, never cut; conditions that do not vary are told in the caption."""
    return Shown([_aside(frame, caption)])


def by_task(frame: pd.DataFrame) -> Shown:
    """One table per task, in the order of its rows; captions tell the conditions that do not vary.

    Args:
        frame: has the columns of `config.TASK`, or a column `task`.
    """
    if "task" not in frame:
        tasks = [config.task_name(row) for _, row in frame.iterrows()]
        frame = frame.assign(task=tasks).drop(columns=config.TASK)
    parts = []
    for task, rows in frame.groupby("task", sort=False):
        named = "over all tasks" if task == "all" else str(task)
        parts.append(_aside(rows.drop(columns="task"), named))
    return Shown(parts)


def _aside(frame: pd.DataFrame, caption: str) -> tuple[str, pd.DataFrame]:
    """A table without the conditions that do not vary, and the caption that names their values."""
    same: dict[str, Any] = {}
    if len(frame) > 1:
        conditions = [name for name in frame if name in CONDITIONS]
        same = {name: frame[name].iloc[0] for name in conditions if _constant(frame[name])}
    words = [caption] if caption else []
    words += [f"{name} {_value(value)}" for name, value in same.items()]
    return ", ".join(words), frame.drop(columns=[*same])


def _constant(column: pd.Series) -> bool:
    return len(set(column.astype(str))) == 1


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _text(frame: pd.DataFrame) -> str:
    return frame.to_string(index=False, max_rows=None, line_width=None, na_rep="–")


def _caption(text: str) -> str:
    return f"<p><strong>{text}</strong></p>\n" if text else ""


def _html(frame: pd.DataFrame) -> str:
    table = frame.to_html(index=False, border=0, na_rep="–")
    return table.replace("<th>", '<th style="text-align: left">').replace(
        "<td>", '<td style="text-align: left; white-space: nowrap">'
    )


def markdown(frame: pd.DataFrame) -> str:
    """A table in Markdown, its cells as they are."""
    return frame.astype(str).to_markdown(index=False, disable_numparse=True)
