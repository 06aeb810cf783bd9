"""What an artefact is, what it holds, and whether it is whole: the library side of `info` and `lint`."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError, MmtoolError
from mmtool.common.listing import problems_of, read_listing
from mmtool.common.seal import DIGEST, check_seal, read_json, reading
from mmtool.common.storage import sha256_file
from mmtool.common.urls import as_given
from mmtool.data.presence import PRESENCE, read_presence
from mmtool.data.sample import Modality
from mmtool.data.shards import INDEX, TokenSet, open_token_set, split_directories
from mmtool.data.weaknesses import weaknesses as weaknesses_of
from mmtool.tokenizers.base import load_tokenizer

TOKENIZER, TOKENS, RUN, CHECKPOINT, REPORT, IMPUTED = "tokenizer", "token set", "run", "checkpoint", "report", "imputed files"
ADAPTER, METRICS = "adapter", "metrics.jsonl"
TOKEN_SETS, COMPARISON, PEEK = "token sets of a manifest", "comparison", "samples to look at"
MARKS = {
    "adapter.json": ADAPTER,
    "config.json": RUN,
    "state.json": CHECKPOINT,
    "report.json": REPORT,
    "imputed.jsonl": IMPUTED,
    INDEX: TOKENS,
    PRESENCE: TOKEN_SETS,
    "peek.json": PEEK,
    "comparison.json": COMPARISON,  # without the report that stands beside it in the end
}


@dataclass(frozen=True)
class Artefact:
    """How one sort of artefact is described, and what checks it: `check` gives its problems, or raises one."""

    describe: Callable[[Path], dict[str, Any]]
    check: Callable[[Path], Iterable[str]]


def recognise(path: Path) -> str:
    """Which sort of artefact lies at a path. Raises DataError where it is none."""
    if not path.exists():
        raise DataError("there is no such file or directory.", where=path, fix="Check the path.")
    if path.is_dir():
        for mark, sort in MARKS.items():
            if (path / mark).is_file():
                return sort
        if split_directories(path) != [None]:
            return TOKENS
    elif path.suffix == ".safetensors":
        return TOKENIZER
    elif path.suffix == ".tar":
        return TOKENS
    elif path.name in MARKS:
        return recognise(path.parent)
    fix = "Artefacts are tokenizers (.safetensors), token sets (.tar, shards), runs, adapters, checkpoints, imputed files and reports."
    raise DataError("this is no artefact of mmtool.", where=path, fix=fix)


def describe(path: Path | None) -> dict[str, Any]:
    """What an artefact holds, as JSON values; None is a token set on standard input. Raises DataError where it cannot be read."""
    if path is None:
        return {"artefact": TOKENS, "path": "-", **_token_set([open_token_set(None)])}
    sort = recognise(path)
    return {"artefact": sort, "path": as_given(str(path)), **ARTEFACTS[sort].describe(_home(path))}


def _sort_of(path: Path) -> str | None:
    """Which sort of artefact lies at a path, whole or not; None where there is none."""
    try:
        return recognise(path)
    except DataError:
        return None


def lint(path: Path, repaired: bool = False) -> list[str]:
    """Every problem found in an artefact, none if it is whole. repaired: what interrupted commands left there was removed just now, so that
    a path at which there is nothing else, or no artefact, is as it should be."""
    problems: list[str] = []
    try:
        problems.extend(ARTEFACTS[recognise(path)].check(_home(path)))
    except MmtoolError as error:
        problems.append(str(error))
    return [] if repaired and _sort_of(path) is None else problems


def weaknesses(path: Path) -> list[str]:
    """What would weaken training on a token set that is whole; nothing of other artefacts."""
    return list(weaknesses_of(path)) if _sort_of(path) == TOKENS else []


def _home(path: Path) -> Path:
    """The directory of an artefact that was named by a file inside it."""
    return path.parent if path.is_file() and path.name in MARKS else path


def _describe_tokenizer(path: Path) -> dict[str, Any]:
    tokenizer = load_tokenizer(path)
    return {
        "kind": tokenizer.kind,
        "scheme": tokenizer.scheme,
        "vocabulary_size": tokenizer.vocabulary_size,
        "shape": tokenizer.shape,
        "positions": tokenizer.positions,
        "settings": tokenizer.state()[1],
        "measured": tokenizer.report,
        "fitted_on": None if tokenizer.fitted_on is None else len(tokenizer.fitted_on),
        "fingerprint": sha256_file(path),
        "bytes": path.stat().st_size,
    }


def _check_tokenizer(path: Path) -> list[str]:
    load_tokenizer(path)
    return []


def _describe_token_set(path: Path) -> dict[str, Any]:
    size = sum(file.stat().st_size for file in (path.rglob("*.tar") if path.is_dir() else [path]))
    return {**_token_set([open_token_set(path, split) for split in split_directories(path)]), "bytes": size}


def _token_set(parts: list[TokenSet]) -> dict[str, Any]:
    splits: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for part in parts:
        splits.update(part.splits)
        counts.update(part.counts())
        pairs.update({f"{a} + {b}": count for (a, b), count in part.co_occurrence().items()})
    return {
        "samples": sum(map(len, parts)),
        "splits": dict(splits),
        "modalities": {modality.name: {"samples": counts[modality.name], **_modality(modality)} for modality in parts[0].modalities},
        "together": dict(pairs),
        "protocol": parts[0].protocol,
        "fingerprint": {part.split or "all": part.fingerprint for part in parts},
    }


def _describe_token_sets(path: Path) -> dict[str, Any]:
    presence, files = read_presence(path)
    named = {names or "none of them": count for names, count in presence.items()}
    return {"samples": sum(presence.values()), "presence": named, "files": files}


def _check_token_sets(path: Path) -> Iterator[str]:
    presence, files = read_presence(path)
    for tar in (path / name for name in files if name.endswith(".tar")):
        problems = lint(tar)
        yield from problems
        expected = sum(count for names, count in presence.items() if tar.stem in names.split("+"))
        held = 0 if problems else open_token_set(tar).counts().get(tar.stem, 0)
        if not problems and held != expected:
            yield f"{tar}: it holds {held:,} samples of {tar.stem}, not {expected:,} as presence.json has it. Tokenize the manifest again."


def _modality(modality: Modality) -> dict[str, Any]:
    return {name: value for name, value in modality.to_json().items() if name != "name"}


def _check_token_set(path: Path) -> Iterator[str]:
    for split in split_directories(path):
        try:
            open_token_set(path, split)
        except MmtoolError as error:
            yield str(error)


def _describe_run(path: Path) -> dict[str, Any]:
    from mmtool.training.metrics import read_metrics, speed
    from mmtool.training.run import open_run

    run = open_run(path)
    log = (path / METRICS).read_bytes() if (path / METRICS).exists() else b""
    records = [record for _, record in read_metrics(log) if record is not None]
    return {
        **({"exported": f"step {run.export.step}"} if run.export else {}),
        "method": run.config.method,
        "preset": run.config.preset,
        **{name: run.record[name] for name in ("init_from", "extended") if name in run.record},
        **({"predicts": run.target.to_json(), "finetuned": run.record["finetune"]["config"]} if run.target else {}),
        "checkpoints": run.steps,
        "training": speed(records),
        "last": _unsealed(records[-1]) if records else {},
        "modalities": {modality.name: _modality(modality) for modality in run.layout.modalities},
        "together": {f"{a} + {b}": count for (a, b), count in run.graph.edges.items()},
        "linking": run.graph.linking_modalities(),
        "shape": run.record["shape"],
        "settings": run.record["config"],
        "data": run.record["data"],
        "trained_on": {name: len(items) for name, items in run.training_items().identities.items()},
    }


def _check_run(path: Path) -> Iterator[str]:
    from mmtool.training.checkpoint import list_checkpoints
    from mmtool.training.run import open_run

    run = open_run(path)
    run.tokenizers()
    run.training_items()
    run.values()
    run.method()
    if run.export is not None:
        run.checkpoint()
    for checkpoint in list_checkpoints(run.checkpoints):
        try:
            yield from _check_checkpoint(checkpoint)
        except MmtoolError as error:
            yield str(error)
    if not run.steps:
        yield f"{path}: the run has no checkpoint yet. Train it with `mmtool pretrain`."
    yield from _check_metrics(path / METRICS)


def _check_metrics(path: Path) -> Iterator[str]:
    from mmtool.training.metrics import read_metrics

    for number, (_, record) in enumerate(read_metrics(path.read_bytes()) if path.exists() else (), 1):
        if record is None:
            yield f"{path}: line {number} is damaged. It is dropped when the training continues."


def _describe_adapter(path: Path) -> dict[str, Any]:
    from mmtool.adaptation.adapter import read_record

    record = read_record(path)
    return {name: value for name, value in _unsealed(record).items() if name != "format"}


def _check_adapter(path: Path) -> Iterator[str]:
    from mmtool.adaptation.adapter import WEIGHTS, read_record, training_items

    record = read_record(path)
    training_items(path)
    yield from _check_metrics(path / METRICS)
    if not record.get("finished"):
        yield f"{path}: the adapter is not trained to its end. Run the same `mmtool adapt` command again."
    elif not (path / WEIGHTS).is_file():
        yield f"{path / WEIGHTS}: the file is missing. Adapt again."
    elif sha256_file(path / WEIGHTS) != record["sha256"]:
        yield f"{path / WEIGHTS}: the file's sha256 is not the one recorded. Adapt again."


def _describe_checkpoint(path: Path) -> dict[str, Any]:
    from mmtool.training.checkpoint import read_state

    return {**_unsealed(read_state(path)), "bytes": sum(file.stat().st_size for file in path.iterdir())}


def _check_checkpoint(path: Path) -> list[str]:
    from mmtool.training.checkpoint import open_checkpoint

    open_checkpoint(path)
    return []


def _describe_report(path: Path) -> dict[str, Any]:
    from mmtool.evaluation.report_file import AGAIN, read_report

    report = read_report(path)
    with reading(path, AGAIN):
        return _results(report)


def _results(report: dict[str, Any]) -> dict[str, Any]:
    results: dict[str, dict[str, float]] = {}
    for row in report["rows"]:
        seen = "seen" if row["seen"] else "never seen"
        at = f", at {row['at']:g}" if "at" in row else ""
        of_direction = results.setdefault(f"{' + '.join(row['given'])} -> {row['target']} ({seen})", {})
        of_direction[f"{row['run']}, {row['metric']}{at}"] = row["value"]
    meta = report["meta"]
    return {"runs": [run["name"] for run in meta["runs"]], "label": meta["label"], "samples": meta["samples"], "results": results}


def _check_report(path: Path) -> Iterator[str]:
    from mmtool.evaluation.report_file import AGAIN, damaged_pages, read_report

    report = read_report(path)
    with reading(path, AGAIN):
        _results(report)
    yield from damaged_pages(path, report)


def _runs_of(path: Path) -> list[Path]:
    """The runs of a comparison. Raises DataError where it is none."""
    place, fix = path / "comparison.json", "Run the same `mmtool compare` command again."
    if not str(read_json(place, fix).get("format")).startswith(("mmtool-comparison/", "mmtool-adapter-comparison/")):
        raise DataError("this is no artefact of mmtool.", where=place, fix="Check the path.")
    return sorted(mark.parent for name in ("config.json", "adapter.json") for mark in path.glob(f"runs/*/seed-*/{name}"))


def _describe_comparison(path: Path) -> dict[str, Any]:
    return {"finished": False, "runs": {str(run.relative_to(path / "runs")): _last_step(run) for run in _runs_of(path)}}


def _last_step(run: Path) -> str:
    from mmtool.training.checkpoint import list_checkpoints

    checkpoints = list_checkpoints(run / "checkpoints")
    return f"step {int(checkpoints[-1].name)}" if checkpoints else "no checkpoint yet"


def _check_comparison(path: Path) -> Iterator[str]:
    for run in _runs_of(path):
        yield from lint(run)
    yield f"{path}: the comparison is not finished. Run the same `mmtool compare` command again."


def _describe_peek(path: Path) -> dict[str, Any]:
    place, fix = path / "peek.json", "Run `mmtool peek` again."
    record = read_json(place, fix)
    check_seal(record, place, fix)
    with reading(place, fix):
        return {"samples": {sample["key"]: ", ".join(sample["files"]) for sample in record["samples"]}, "files": record["files"]}


def _check_peek(path: Path) -> Iterator[str]:
    lost = (path / name for name in _describe_peek(path)["files"] if not (path / name).is_file())
    yield from (f"{file}: the file is missing. Run `mmtool peek` again." for file in lost)


def _describe_imputed(path: Path) -> dict[str, Any]:
    records = list(read_listing(path))
    directions = Counter(f"{' + '.join(record['given'])} -> {record['modality']}" for record in records)
    return {"imputed": len(records), "directions": dict(directions)}


def _unsealed(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != DIGEST}


ARTEFACTS = {
    TOKENIZER: Artefact(_describe_tokenizer, _check_tokenizer),
    TOKENS: Artefact(_describe_token_set, _check_token_set),
    RUN: Artefact(_describe_run, _check_run),
    ADAPTER: Artefact(_describe_adapter, _check_adapter),
    CHECKPOINT: Artefact(_describe_checkpoint, _check_checkpoint),
    REPORT: Artefact(_describe_report, _check_report),
    IMPUTED: Artefact(_describe_imputed, problems_of),
    TOKEN_SETS: Artefact(_describe_token_sets, _check_token_sets),
    PEEK: Artefact(_describe_peek, _check_peek),
    COMPARISON: Artefact(_describe_comparison, _check_comparison),
}
