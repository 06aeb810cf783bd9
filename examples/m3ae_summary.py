"""The results of several `mmtool compare` runs as one JSON document, with the differences that were asked for.

    python examples/m3ae_summary.py --out OUT NAME... [--difference NAME:A:B ...]

Reads OUT/NAME.json, the JSON line of each comparison. A difference is that of the probe accuracies of the columns A and B, paired by seed,
with a 95 % interval over seeds by Student's t.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from scipy.stats import t

METRIC = "probe accuracy"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--difference", action="append", default=[], metavar="NAME:A:B")
    arguments = parser.parse_args()
    results: list[dict[str, Any]] = []
    for name in arguments.names:
        found = json.loads((arguments.out / f"{name}.json").read_text())
        results += [{**row, "comparison": name} for row in found["results"]]
    for asked in arguments.difference:
        results += differences(results, *asked.split(":"))
    print(json.dumps({"results": results, "report": str(arguments.out)}, ensure_ascii=False))


def differences(results: list[dict[str, Any]], name: str, one: str, other: str) -> list[dict[str, Any]]:
    """A row for each subset of modalities, pooling and number of shots that both columns have been probed with."""
    found: dict[tuple[Any, ...], dict[str, dict[int, float]]] = {}
    for row in results:
        if row["comparison"] == name and row["metric"].startswith(METRIC) and row["run"] in (one, other):
            asked = tuple(row["given"]), row["metric"], row.get("at")
            found.setdefault(asked, {one: {}, other: {}})[row["run"]][row["seed"]] = row["value"]
    rows = []
    for (given, metric, at), sides in found.items():
        gaps = [sides[one][seed] - sides[other][seed] for seed in sorted(sides[one].keys() & sides[other].keys())]
        if gaps:
            where = {"comparison": name, "run": f"{one} - {other}", "method": "m3ae", "seed": None, "given": list(given)}
            rows.append({**where, "target": "difference", "metric": metric, "at": at, **interval(gaps), "n": len(gaps)})
    return rows


def interval(values: list[float]) -> dict[str, float | None]:
    """Mean and its interval over seeds; no interval of a single seed."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return {"value": mean, "low": None, "high": None}
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    half = float(t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    return {"value": mean, "low": mean - half, "high": mean + half}


if __name__ == "__main__":
    main()
