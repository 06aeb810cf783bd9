"""What a report rests on, as tables: which modalities the samples hold, what was run, with which settings, versions and fingerprints."""

import json
from collections.abc import Mapping
from typing import Any

from mmtool.data.graph import CoOccurrence

SIDES = ("train", "test")
TITLES = {"train": "training samples", "test": "held-out samples"}
DIGITS = 12  # of a fingerprint; report.json has all


def presence_of(meta: Mapping[str, Any], max_lines: int) -> dict[str, Any] | None:
    """Combinations of modalities with their samples, and training samples of each pair; None where the report does not say."""
    if "presence" not in meta:
        return None
    graphs = {side: CoOccurrence.from_json(meta["presence"][side]) for side in SIDES}
    counts = {held: [graphs[side].combinations.get(held, 0) for side in SIDES] for side in SIDES for held in graphs[side].combinations}
    names = sorted(set().union(*counts))
    ordered = sorted(counts.items(), key=lambda item: ([-count for count in item[1]], sorted(item[0])))
    lines = [{"names": sorted(held), "counts": of_sides} for held, of_sides in ordered if held]
    return {
        "names": names,
        "sides": [TITLES[side] for side in SIDES],
        "lines": lines[:max_lines],
        "more": len(lines[max_lines:]),
        "pairs": [{"name": name, "pairs": _pairs(graphs["train"], name, names)} for name in names],
    }


def _pairs(graph: CoOccurrence, name: str, names: list[str]) -> list[dict[str, Any]]:
    """Training samples that hold this modality and each other one; depth: of the colour, up to a half."""
    alone = {other: sum(count for held, count in graph.combinations.items() if other in held) for other in names}
    counts = [alone[name] if other == name else graph.edges.get((min(name, other), max(name, other)), 0) for other in names]
    most = max(1, *alone.values())
    return [{"count": count, "depth": f"{0.5 * count / most:.3f}"} for count in counts]


def facts_of(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tables of the runs, of fingerprints and of versions."""
    trained = meta.get("trained", {})
    runs = [(run["name"], run.get("method", ""), *_of_run(run, trained.get(run["name"], {}))) for run in meta["runs"]]
    prints = [(TITLES.get(side, side), text[:DIGITS]) for side, text in meta.get("data", {}).items()]
    prints += [(f"tokenizer of {name}", text[:DIGITS]) for name, text in meta.get("tokenizers", {}).items()]
    tables = [
        {"title": "Runs", "heads": ("run", "method", "seeds", "steps", "parameters", "trained on", "mmtool"), "lines": runs},
        {"title": "Fingerprints", "heads": ("of", "sha256 begins with"), "lines": prints},
        {"title": "Versions", "heads": ("package", "version"), "lines": list(meta.get("made", {}).get("versions", {}).items())},
    ]
    return [table for table in tables if table["lines"]]


def _of_run(run: Mapping[str, Any], trained: Mapping[str, Any]) -> tuple[str, ...]:
    """Seeds, steps, parameters, fingerprint of the training samples and version; '-' where the report does not say."""
    seeds = ", ".join(map(str, run.get("seeds", [run.get("seed", "-")])))
    numbers = (f"{trained[name]:,}" if trained.get(name) is not None else "-" for name in ("step", "parameters"))
    return seeds, *numbers, trained.get("data", "-")[:DIGITS], trained.get("version") or "-"


def configs_of(meta: Mapping[str, Any]) -> list[dict[str, str]]:
    """Settings as readable JSON: of the evaluation, and of the trainings."""
    settings = {"Settings of the evaluation": meta.get("config")}
    settings |= {f"Settings of {name}": trained.get("config") for name, trained in meta.get("trained", {}).items()}
    return [{"title": title, "text": _readable(config)} for title, config in settings.items() if config]


def _readable(config: Mapping[str, Any]) -> str:
    return json.dumps(config, indent=1, sort_keys=True, ensure_ascii=False)
