"""What the toolkit writes, recognised by content, and which files each artefact may hold: all that `--force` may ever remove.

A directory is known by a mark file with a format of ours in it. What else it holds has to match one of the patterns of its kind, or to be
listed in the mark: anything else was put there by somebody, and is not ours to remove. A shard has to be listed in the index beside it, and
a tokenizer to be one: other people have files of such names.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtool.common.storage import PARTIAL, sha256_file
from mmtool.kinds import players

HEADER_BYTES = 1 << 20  # of a tokenizer file; a header with all settings takes a few KB
MANIFEST = b"__mmtool__/manifest.json"  # the first member of a token tar
LEFTOVER = re.compile(rf"(.*/)?\.[^/]+{re.escape(PARTIAL)}[^/]*(/.*)?")  # of a writer that was killed


@dataclass(frozen=True)
class Kind:
    """One sort of directory. marks: files by any of which it is known, if `is_mark` holds of their content. paths: regular expressions
    of the files in it, relative to it; listed: files that a mark names besides."""

    name: str
    marks: tuple[str, ...]
    is_mark: Callable[[Path], bool]
    paths: tuple[str, ...]
    listed: Callable[[Path], Iterator[str]] = lambda mark: iter(())

    def known_by(self, folder: Path) -> Path | None:
        """The mark of a folder of this kind, None of any other."""
        return next((folder / mark for mark in self.marks if _is_plain(folder / mark) and self.is_mark(folder / mark)), None)

    def foreign(self, folder: Path) -> Iterator[str]:
        """Files in a folder of this kind that no such artefact holds; links are never ours."""
        mark = self.known_by(folder)
        listed = set(self.listed(mark)) if mark else set[str]()
        pattern = re.compile("|".join(self.paths))
        for entry in files_below(folder):
            name = os.path.relpath(entry.path, folder)
            ours = not entry.is_symlink() and (name in listed or (pattern.fullmatch(name) and _has_its_content(name, Path(entry.path))))
            if not ours and LEFTOVER.fullmatch(name) is None:
                yield name

    def may_hold(self, folder: Path, name: str) -> bool:
        """Whether a path relative to a folder of this kind is that of its files, or of a folder of them."""
        mark = self.known_by(folder)
        inside = [name, *(os.path.relpath(entry.path, folder) for entry in files_below(folder / name))]
        listed = set(self.listed(mark)) if mark else set[str]()
        return any(path in listed or re.fullmatch("|".join(self.paths), path) for path in inside)


def of_format(*names: str) -> Callable[[Path], bool]:
    """Whether a JSON file says that it is of one of these formats, whatever their version."""
    return lambda path: str(_json(path).get("format")).startswith(tuple(f"{name}/" for name in names))


def of_header(line: str) -> Callable[[Path], bool]:
    """Whether a table opens with this line."""
    return lambda path: _first_line(path).rstrip("\r") == line


def is_token_tar(path: Path) -> bool:
    """Whether the first member of a tar is a manifest of token shards."""
    with open(path, "rb") as file:
        return file.read(100).rstrip(b"\0") == MANIFEST


def is_tokenizer(path: Path) -> bool:
    """Whether a safetensors file carries the metadata of a tokenizer."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = _object(file.read(size)) if size <= HEADER_BYTES else {}
    metadata = header.get("__metadata__")
    return isinstance(metadata, dict) and str(_object(str(metadata.get("mmtool"))).get("format")).startswith("mmtool-tokenizer/")


def is_onnx(path: Path) -> bool:
    """Whether an ONNX file names this toolkit as its producer, in a field at its beginning."""
    with open(path, "rb") as file:
        return b"\x12\x06mmtool" in file.read(16)


def is_rejects(path: Path) -> bool:
    """Whether it is a list of rejected samples."""
    return _object(_first_line(path)).keys() == {"file", "key", "reason"}


def is_imputed(path: Path) -> bool:
    """Whether it is a list of imputed modalities and their files."""
    return {"modality", "key", "files"} <= _object(_first_line(path)).keys()


def imputed_files(path: Path) -> Iterator[str]:
    """What a list of imputed modalities names."""
    for line in path.read_text(errors="replace").splitlines():
        files = _object(line).get("files")
        yield from (str(name) for name in files) if isinstance(files, list) else ()


def listed_files(path: Path) -> Iterator[str]:
    """What the mark of a folder of token sets names."""
    files = _json(path).get("files")
    yield from (str(name) for name in files) if isinstance(files, list) else ()


def unedited_card(path: Path) -> Iterator[str]:
    """The card of an export, if it is as it was written: what people filled in is theirs."""
    export, card = _json(path).get("export"), path.with_name("README.md")
    if isinstance(export, dict) and _is_plain(card) and sha256_file(card) == export.get("card"):
        yield card.name


def is_listed_shard(path: Path) -> bool:
    """Whether the index beside a shard lists it, and it is one."""
    shards = _json(path.with_name("index.json")).get("shards") if _is_plain(path.with_name("index.json")) else None
    names = [shard.get("name") for shard in shards if isinstance(shard, dict)] if isinstance(shards, list) else []
    return path.name in names and is_token_tar(path)


def _has_its_content(name: str, path: Path) -> bool:
    """Whether a file is what its name says, where others may have files of that name."""
    return all(is_ours(path) for named, is_ours in CONTENTS if named.fullmatch(name))


def files_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder that is no folder: files, and links to anything, which are not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except NotADirectoryError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from files_below(Path(entry.path))
        else:
            yield entry


def kind_of(folder: Path, kinds: Sequence[Kind]) -> Kind | None:
    """What a directory is, None where it is no artefact."""
    return next((kind for kind in kinds if kind.known_by(folder)), None)


def _below(folder: str, paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{folder}/(?:{path})" for path in paths)


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _first_line(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline(HEADER_BYTES).rstrip("\n")


def _json(path: Path) -> dict[str, Any]:
    return _object(path.read_bytes())


def _object(text: str | bytes) -> dict[str, Any]:
    """A JSON object; an empty one for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


FIGURES = (
    *(
        "accuracy",
        "perplexity",
        "r2",
        "spearman",
        "c_index(?:_stratified)?",
        "crps",
        "coverage_(?:50|80|95)",
        "intervals",
        "calibration",
        "probability",
        r"ranking-\d+",
        "ood",
    ),
    *("retrieval-(?:sample|class)", "prediction_(?:accuracy|macro_f1|r2)", "probes", "few_shots", "robustness", "curves"),
    *("donor-(?:accuracy|r2|spearman|c_index|c_index_stratified)", "masked_(?:accuracy|r2)"),
)
METRICS, TRAINED_ON = r"metrics\.jsonl", r"trained_on\.safetensors"
SPLIT = (r"index\.json", r"\d{5,}\.tar")
CHECKPOINTS = _below(r"checkpoints/\d+", (r"(?:model|optimizer)\.safetensors", r"state\.json"))
USED = (  # of a run, by whoever imputes with it
    r"config\.json",
    METRICS,
    TRAINED_ON,
    r"values\.safetensors",
    r"tokenizers/[^/]+\.safetensors",
    *_below("gallery", SPLIT),
)
RUN = (*USED, r"tracking\.json", r"tensorboard/events\.[^/]+", *CHECKPOINTS)
EXPORT = (*USED, r"model\.safetensors")
ADAPTER = (r"adapter\.json", r"adapter\.safetensors", METRICS, TRAINED_ON, *CHECKPOINTS)
REPORT = (
    *(r"report\.(?:json|md|html)", rf"(?:{'|'.join(FIGURES)})\.(?:png|svg)", r"contact_sheet\.png", r"texts\.tsv"),
    *(r"samples\.json", r"asked\.json", r"calibration\.safetensors"),
    *(rf"{player}/[^/]+/\d+-[^/]+\.(?:{'|'.join(map(re.escape, suffixes))})" for player, suffixes in players().items()),
    *(r"predictions(?:-\d+)?\.csv", r"reconstructions(?:-\d+)?\.png"),
)
COMPARISON = (r"comparison\.json", *REPORT, *_below(r"runs/[^/]+/seed-\d+", (*RUN, *ADAPTER)), *_below(r"seeds/\d+", REPORT))
SPLITS = ("train", "validation", "test")
CONTENTS = ((re.compile(r"(.*/)?\d+\.tar"), is_listed_shard), (re.compile(r"(.*/)?tokenizers/[^/]+\.safetensors"), is_tokenizer))

KINDS = (
    Kind("comparison", ("comparison.json",), of_format("mmtool-comparison", "mmtool-adapter-comparison"), COMPARISON),
    Kind("run", ("config.json",), of_format("mmtool-run"), RUN),
    Kind("export", ("config.json",), of_format("mmtool-export"), EXPORT, unedited_card),
    Kind("adapter", ("adapter.json",), of_format("mmtool-adapter"), ADAPTER),
    Kind("report", ("report.json",), of_format("mmtool-report"), REPORT),
    Kind("imputed files", ("imputed.jsonl",), is_imputed, (r"imputed\.jsonl",), imputed_files),
    Kind("shards", tuple(f"{split}/index.json" for split in SPLITS), of_format("mmtool-index"), _below(f"(?:{'|'.join(SPLITS)})", SPLIT)),
    Kind("token sets", ("presence.json",), of_format("mmtool-presence"), (r"presence\.json",), listed_files),
    Kind("samples to look at", ("peek.json",), of_format("mmtool-peek"), (r"peek\.json",), listed_files),
    Kind("split of shards", ("index.json",), of_format("mmtool-index"), SPLIT),
)
FILES = (is_token_tar, is_tokenizer, is_onnx, is_rejects)
