"""report.json: {"format", "meta", "rows", "files", ...}, sealed by its digest; files: name -> sha256 of what lies beside it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError
from mmtool.common.seal import check_seal, read_json, write_sealed
from mmtool.common.storage import sha256_file
from mmtool.imputation.calibration import FILE as CALIBRATION

FILE, FORMAT, UNSEALED = "report.json", "mmtool-report/3", ("mmtool-report/1", "mmtool-report/2")  # the earlier ones carry no digest
AGAIN = "Evaluate again."


PAGES = ("report.md", "report.html", "samples.json", CALIBRATION)


def write_report_file(folder: Path, content: Mapping[str, Any]) -> None:
    """The record of a report whose other files are written already."""
    files = {name: sha256_file(folder / name) for name in PAGES if (folder / name).exists()}
    write_sealed(folder / FILE, {"format": FORMAT, "files": files, **content})


def damaged_pages(folder: Path, record: Mapping[str, Any]) -> Iterator[str]:
    """In words, pages that are missing or not as they were written; an earlier version wrote report.md alone, without a digest."""
    for name, digest in record.get("files", {PAGES[0]: None}).items():
        if not (folder / name).is_file():
            yield f"{folder / name}: the file is missing. {AGAIN}"
        elif digest and sha256_file(folder / name) != digest:
            yield f"{folder / name}: it was changed or damaged: its sha256 is not the one recorded. {AGAIN}"


def read_report(folder: Path) -> dict[str, Any]:
    """The record of a report. Raises DataError where it is missing, damaged or of another format."""
    record = read_json(folder / FILE, AGAIN)
    if record.get("format") not in (FORMAT, *UNSEALED):
        raise DataError(f"the format {record.get('format')!r} is unknown; this version reads {FORMAT}.", where=folder / FILE, fix=AGAIN)
    check_seal(record, folder / FILE, AGAIN, unsealed=record["format"] in UNSEALED)
    return record
