"""The card of a run: data, method, numbers, limits and licences as Markdown, for whoever is given the run.

It says what the run knows of itself, and numbers only where they were measured. What only people know stands as `[fill in: ...]`.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from mmtool.training.config import PretrainConfig
from mmtool.training.metrics import read_metrics
from mmtool.training.run import METRICS, Run, open_run

DIGITS = 12  # of a fingerprint


def card_of(path: Path) -> str:
    """The card of the run at `path`. Raises DataError where there is none."""
    run = open_run(path)
    log = (path / METRICS).read_bytes() if (path / METRICS).exists() else b""
    records = [record for _, record in read_metrics(log) if record is not None]
    parts = [f"# {path.resolve().name}", "[fill in: what the run is for, and for whom]"]
    parts += [*_data(run), *_method(run), *_numbers(run, records), *_limits(run), *_licences()]
    return "\n\n".join(parts) + "\n"


def _data(run: Run) -> Iterator[str]:
    held = run.graph.combinations
    counts = {item.name: sum(count for names, count in held.items() if item.name in names) for item in run.layout.modalities}
    lines = [(item.name, item.kind, f"{item.vocabulary_size:,}" if item.vocabulary_size else "-") for item in run.layout.modalities]
    yield "## Data"
    yield "[fill in: where the data comes from, how and when it was collected, what its subjects agreed to]"
    yield _table(("modality", "kind", "codes", "training samples"), [(*line, f"{counts[line[0]]:,}") for line in lines])
    ordered = sorted(((sorted(names), count) for names, count in held.items() if names), key=lambda item: (-item[1], item[0]))
    yield f"Held together in training: {'; '.join(f'{_joined(names)} ({count:,})' for names, count in ordered)}."
    yield f"Fingerprint of the training samples: `{run.record['data'][:DIGITS]}`."


def _method(run: Run) -> Iterator[str]:
    config, usual = run.config, PretrainConfig().to_json()
    changed = {name: value for name, value in config.to_json().items() if value != usual[name] and name != "method"}
    yield "## Method"
    version = run.record.get("version", "(an early version)")
    yield f"`{config.method}`, preset `{config.preset}`, seed {config.seed}, begun with mmtool {version}."
    if run.target is not None:
        yield f"Finetuned to predict `{run.target.label}`."
    if changed:
        yield "Settings that are not the usual ones:"
        yield "\n".join(f"- `{name}`: `{value}`" for name, value in sorted(changed.items()))


def _numbers(run: Run, records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Of the last checkpoint and the last validation."""
    steps = run.steps
    losses: Mapping[str, float] = next((record["loss"] for record in reversed(records) if "loss" in record), {})
    measured = next((record for record in reversed(records) if record.get("validation")), None)
    yield "## Numbers"
    trained = f"{steps[-1]:,} steps" if steps else "no checkpoint yet"
    yield f"Trained: {trained}{'' if run.complete else ', not to the end of its budget'}."
    if losses:
        yield "Last training losses: " + ", ".join(f"{name} {value:.4g}" for name, value in losses.items()) + "."
    if measured:
        yield f"Measured on the validation split at step {measured['step']:,} (`a->b`: perplexity of b given a):"
        yield _table(("what", "value"), [(name, f"{value:.4g}") for name, value in measured["validation"].items()])
    else:
        yield "Nothing was measured on held-out samples while it was trained."
    yield "[fill in: accuracy or error on test samples, with intervals; `mmtool evaluate` writes them]"


def _limits(run: Run) -> Iterator[str]:
    names = [item.name for item in run.layout.modalities]
    unseen = [(pair, run.graph.path({pair[0]}, pair[1])) for pair in combinations(names, 2) if not run.graph.linked(*pair)]
    linked = [f"{_joined(pair)} (through {_joined(path[1:-1])})" for pair, path in unseen if path]
    apart = [_joined(pair) for pair, path in unseen if not path]
    yield "## Limits"
    if linked:
        yield f"Never seen together in training, so that imputing one from the other rests on what links them: {'; '.join(linked)}."
    if apart:
        yield f"Never seen together and not linked, so that neither can be imputed from the other: {'; '.join(apart)}."
    yield "What it imputes is what it learned from these samples to expect: plausible, not measured. It was not tried on others."
    yield "[fill in: uses that it is not fit for, groups that the data lacks]"


def _licences() -> Iterator[str]:
    yield "## Licences and contact"
    yield _table(("of", "licence"), [("training data", "[fill in: licence, or terms of use]"), ("weights", "[fill in: licence]")])
    yield "Contact: [fill in: name, address]"


def _joined(names: Sequence[str]) -> str:
    return " + ".join(names)


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = "|" + "---|" * len(heads)
    return "\n".join([f"| {' | '.join(heads)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)])
