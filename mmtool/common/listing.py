"""imputed.jsonl: one sealed line for each thing that was imputed, with the digests of its files."""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmtool.common.seal import DIGEST, check_seal, reading, sealed
from mmtool.common.storage import canonical_json, sha256_file, write_bytes

LISTING, AGAIN = "imputed.jsonl", "Impute again."


def write_listing(folder: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """List what lies in a folder. records: each names its `files`, relative to the folder, which are all written."""
    digest = lru_cache(maxsize=64)(sha256_file)  # rows share a table
    lines = []
    for record in records:
        whole = {**record, "sha256": {name: digest(folder / name) for name in record["files"]}}
        lines.append(canonical_json(sealed(json.loads(canonical_json(whole)))) + "\n")
    write_bytes(folder / LISTING, "".join(lines).encode())


def read_listing(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of a listing. Raises DataError at the first line that is not as it was written."""
    path = folder / LISTING
    with reading(path, AGAIN):
        lines = path.read_bytes().splitlines()
    for number, line in enumerate(lines, 1):
        with reading(f"{path}, line {number}", AGAIN):
            record = json.loads(line)
            _ = record["files"], record["given"], record["modality"]
        check_seal(record, f"{path}, line {number}", AGAIN, unsealed="sha256" not in record)
        yield record


def problems_of(folder: Path) -> Iterator[str]:
    """What is missing or changed among the listed files, in words; an earlier version recorded no digests."""
    digest = lru_cache(maxsize=64)(sha256_file)
    for record in read_listing(folder):
        for name in record["files"]:
            if not (folder / name).is_file():
                yield f"{folder / name}: the file is missing. {AGAIN}"
            elif DIGEST in record and digest(folder / name) != record["sha256"].get(name):
                yield f"{folder / name}: the file's sha256 is not the one recorded. {AGAIN}"
