"""Every direction of imputation by itself: all that was measured of it, and the samples that came out worst and best."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from mmtool.evaluation.figures.markdown import table
from mmtool.evaluation.figures.plots import TITLES
from mmtool.evaluation.page import markdown

OPEN = 3  # directions that are open from the start
HEADINGS = {"worst": "farthest from the truth", "best": "nearest to the truth"}
Key = tuple[tuple[str, ...], str]


def directions_of(rows: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]], most: int) -> tuple[list[dict[str, Any]], int]:
    """What the page shows of each direction, those never seen together first, and how many there are, of which it shows at `most` some."""
    measured: dict[Key, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["metric"] in TITLES and "at" not in row:
            measured.setdefault(_key(row), []).append(row)
    ordered = sorted(measured, key=lambda key: (len(key[0]), _seen(measured[key])))[:most]
    looked_at: dict[Key, list[Mapping[str, Any]]] = {}
    for sample in samples:
        looked_at.setdefault(_key(sample), []).append(sample)
    shown = [_direction(key, measured[key], looked_at.get(key, ()), place) for place, key in enumerate(ordered)]
    return shown, len(measured)


def _direction(key: Key, rows: Sequence[Mapping[str, Any]], samples: Sequence[Mapping[str, Any]], place: int) -> dict[str, Any]:
    title = f"{' + '.join(key[0])} → {key[1]}"
    lines = table(rows, "method", lambda row: row["run"], lambda row: _words(row["metric"]), [*map(_words, TITLES)])
    return {
        "title": title,
        "anchor": f"direction-{markdown.anchor(' '.join(key[0]))}-to-{markdown.anchor(key[1])}",
        "seen": _seen(rows),
        "open": place < OPEN,
        "table": _table(lines, title),
        "looks": _looks(samples),
    }


def _words(metric: str) -> str:
    return metric.replace("_", " ").replace("r2", "R²")


def _table(lines: str, title: str) -> Markup:
    text = lines.splitlines()
    return markdown.table(text, title, len(text))


def _looks(samples: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The samples of each run at either end."""
    grouped: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for sample in samples:
        grouped.setdefault((sample["run"], sample["rank"]), []).append(sample)
    return [{"title": f"{run}: {HEADINGS[rank]}", "samples": group} for (run, rank), group in grouped.items()]


def _seen(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all runs saw it, as report.md has it."""
    return all(row["seen"] for row in rows)


def _key(row: Mapping[str, Any]) -> Key:
    return tuple(row["given"]), row["target"]
