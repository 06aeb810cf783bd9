"""report.json: {"format", "meta", "rows", ...}, sealed by its digest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError
from mmtool.common.seal import check_seal, read_json, write_sealed

FILE, FORMAT, UNSEALED = "report.json", "mmtool-report/3", ("mmtool-report/1", "mmtool-report/2")  # the earlier ones carry no digest
AGAIN = "Evaluate again."


def write_report_file(folder: Path, content: Mapping[str, Any]) -> None:
    write_sealed(folder / FILE, {"format": FORMAT, **content})


def read_report(folder: Path) -> dict[str, Any]:
    """The record of a report. Raises DataError where it is missing, damaged or of another format."""
    record = read_json(folder / FILE, AGAIN)
    if record.get("format") not in (FORMAT, *UNSEALED):
        raise DataError(f"the format {record.get('format')!r} is unknown; this version reads {FORMAT}.", where=folder / FILE, fix=AGAIN)
    check_seal(record, folder / FILE, AGAIN, unsealed=record["format"] in UNSEALED)
    return record
