"""LoReTTa beside the commutative method, asked once and chained, over divisions of the data and seeds of training.

    python examples/svl_mnist/voices_table.py DIR DIVISION...        (reads DIR/DIVISION/image/report.json, writes DIR/voices.md)

A difference is LoReTTa's value minus that of the other column in the same division with the same seed (of perplexities the ratio), with two
95 % intervals by Student's t: over all trainings, which says what other trainings on these divisions would give, and over the means of
divisions, which says what other divisions would.
"""

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from mmtool.metrics.seeds import DIFFERENCE, RATIO, mean_of_seeds

COLUMNS = ("commutative", "commutative, chained", "loretta", "nearest neighbour")
OURS, RIVALS = "loretta", ("commutative, chained", "commutative")
METRICS = ("accuracy", "perplexity")

Values = Mapping[str, Mapping[int | None, float]]  # of one direction and metric: column -> seed -> value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("divisions", nargs="+")
    arguments = parser.parse_args()
    reports = {name: json.loads((arguments.folder / name / "image" / "report.json").read_text()) for name in arguments.divisions}
    lines, compared = [], []
    for metric in METRICS:
        found = {name: values(report["results"], metric) for name, report in reports.items()}
        lines += [*table(metric, found), ""]
        compared += list(differences(metric, found))
    lines += differences_table(compared)
    (arguments.folder / "voices.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    print(json.dumps({"differences": compared, "table": str(arguments.folder / "voices.md")}, ensure_ascii=False))


def values(results: list[dict[str, Any]], metric: str) -> dict[tuple[str, bool], Values]:
    """By direction, and whether it was seen in training."""
    found: dict[tuple[str, bool], dict[str, dict[int | None, float]]] = {}
    for row in sorted(results, key=lambda row: (row["seen"], len(row["given"]))):
        if row["metric"] == metric and row["run"] in COLUMNS:
            direction = f"{' + '.join(row['given'])} → {row['target']}", row["seen"]
            found.setdefault(direction, {}).setdefault(row["run"], {})[row["seed"]] = row["value"]
    return found


def table(metric: str, found: Mapping[str, Mapping[tuple[str, bool], Values]]) -> Iterator[str]:
    """Markdown: the mean over all trainings, and from the least to the most of them."""
    yield f"| {metric}{', %' if metric == 'accuracy' else ''} | {' | '.join(COLUMNS)} |"
    yield "|---" * (1 + len(COLUMNS)) + "|"
    for direction, seen in next(iter(found.values())):
        cells = []
        for column in COLUMNS:
            known = [value for of in found.values() for value in of[direction, seen].get(column, {}).values()]
            cells.append(cell(metric, known) if known else "-")
        yield f"| {direction if seen else f'**{direction}**, never seen'} | {' | '.join(cells)} |"


def cell(metric: str, known: list[float]) -> str:
    if metric == "accuracy":
        return f"{100 * mean(known):.1f} ({100 * min(known):.0f}-{100 * max(known):.0f})"
    middle = mean_of_seeds(metric, known)[0] if len(known) > 1 else known[0]
    return f"{middle:.3g} ({min(known):.3g}-{max(known):.3g})"


def differences(metric: str, found: Mapping[str, Mapping[tuple[str, bool], Values]]) -> Iterator[dict[str, Any]]:
    """A row for each direction and rival, with the difference of every training."""
    ratio = metric == "perplexity"
    for direction, seen in next(iter(found.values())):
        for rival in RIVALS:
            pairs = {name: paired(of[direction, seen], rival, ratio) for name, of in found.items()}
            if all(pairs.values()):
                every, named = [value for of in pairs.values() for value in of.values()], (RATIO if ratio else DIFFERENCE).format(metric)
                middles = [mean_of_seeds(named, list(of.values()))[0] if len(of) > 1 else next(iter(of.values())) for of in pairs.values()]
                yield {
                    "direction": direction,
                    "seen": seen,
                    "rival": rival,
                    "metric": named,
                    "by_training": {f"{name}/{seed}": value for name, of in pairs.items() for seed, value in of.items()},
                    "over_trainings": mean_of_seeds(named, every) if len(every) > 1 else None,
                    "over_divisions": mean_of_seeds(named, middles) if len(middles) > 1 else None,
                }


def paired(of: Values, rival: str, ratio: bool) -> dict[int | None, float]:
    ours, theirs = of.get(OURS, {}), of.get(rival, {})
    return {seed: ours[seed] / theirs[seed] if ratio else ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()}


def differences_table(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield "| loretta against | direction | metric | over trainings | over divisions | trainings in which it is ahead |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        ratio = "ratio" in row["metric"]
        ahead = sum(value < 1 if ratio else value > 0 for value in row["by_training"].values())
        shown = [interval(row[over], ratio) for over in ("over_trainings", "over_divisions")]
        named = row["direction"] if row["seen"] else f"**{row['direction']}**"
        yield f"| {row['rival']} | {named} | {row['metric']} | {' | '.join(shown)} | {ahead} of {len(row['by_training'])} |"


def interval(known: tuple[float, float, float] | None, ratio: bool) -> str:
    if known is None:
        return "-"
    value, low, high = known if ratio else (100 * number for number in known)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]" if ratio else f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


if __name__ == "__main__":
    main()
