"""Samples that were set aside: how many may be, and the list of them beside the output."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mmtool.common.errors import DataError
from mmtool.common.log import log
from mmtool.common.output import OutputPath
from mmtool.common.storage import canonical_json
from mmtool.common.urls import as_given

MAX_REJECTED_SHARE, MIN_REJECTS = 0.01, 20


@dataclass(frozen=True)
class Reject:
    """A sample that was set aside: where it lies, its key where that is known, and why."""

    file: str
    key: str | None
    reason: str


def refuse_many(rejects: Sequence[Reject], good: int, where: str) -> None:
    """Raise DataError where too many of all samples were rejected."""
    bad = len(rejects)
    if bad >= MIN_REJECTS and bad > MAX_REJECTED_SHARE * (bad + good):
        raise DataError(f"{bad} of {bad + good} samples are bad; the last: {rejects[-1].reason}", where=where)


def first_reason(rejects: Sequence[Reject]) -> str:
    """How an error says why all were rejected, which no list will hold."""
    more = f" (and {len(rejects) - 1:,} more)" if len(rejects) > 1 else ""
    return f": {rejects[0].reason}{more}" if rejects else "."


def list_rejects(rejects: Sequence[Reject], output: OutputPath | None, finally_at: Path | None = None) -> None:
    """One JSON line per rejected sample beside the output, or on standard error where there is no file. finally_at: where the output will
    be moved to."""
    lines = [as_given(canonical_json(asdict(reject))) for reject in rejects]
    if output is None:
        for line in lines:
            log(f"rejected: {line}")
        return
    if not lines:
        output.check_file()
        output.path.unlink(missing_ok=True)
        return
    with output.file() as file:
        file.write(("\n".join(lines) + "\n").encode())
    path = output.path if finally_at is None else finally_at.with_name(output.path.name)
    log(f"{len(lines)} samples were rejected; the reasons are in {path}")
