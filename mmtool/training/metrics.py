"""What a training reports: one JSON line per report in `metrics.jsonl`."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from types import MappingProxyType
from typing import Any

from mmtool.common.errors import DataError
from mmtool.common.log import log
from mmtool.common.seal import DIGEST, check_seal, sealed
from mmtool.common.storage import canonical_json, write_bytes
from mmtool.training.trackers import Tracking

UNSEALED = {"step", "progress", "elapsed_s", "loss", "validation", "samples_per_s", "tokens_per_s", "hardware_share", "loading_share"}
UNSEALED |= {"learning_rate"}  # fields of records of an earlier version, which carried no digest


class MetricsLog:
    """Appends records to `metrics.jsonl`; on resume, records after the checkpoint are dropped first, and those that are damaged.

    tracking: what is sent the same records. losses: those of the last report.
    """

    losses: Mapping[str, float] = MappingProxyType({})

    def __init__(self, path: Path, step: int, tracking: Tracking | None = None) -> None:
        self.path, self._tracking = path, tracking
        self._validations: dict[int, dict[str, float]] = {}
        data = path.read_bytes() if path.exists() else b""
        lines = list(read_metrics(data))
        kept = [(line, record) for line, record in lines if record is not None and record["step"] <= step]
        for _, record in kept:
            self._note(record)
        if damaged := sum(record is None for _, record in lines[:-1]):  # the last one was torn by a crash
            log(f"{path}: {damaged} damaged records are dropped")
        if tracking:
            tracking.catch_up([record for _, record in lines if record is not None], [record for _, record in kept])
        if data != (whole := b"".join(line + b"\n" for line, _ in kept)):
            write_bytes(path, whole)

    def append(self, record: dict[str, Any]) -> None:
        with open(self.path, "a") as file:
            file.write(canonical_json(sealed(json.loads(canonical_json(record)))) + "\n")
        self._note(record)
        if self._tracking:
            self._tracking.send(record)

    def validation(self, step: int) -> dict[str, float] | None:
        """What was measured on held-out samples at a step, None where that is not in the log."""
        return self._validations.get(step)

    def _note(self, record: dict[str, Any]) -> None:
        self.losses = record.get("loss", self.losses)
        if "validation" in record:
            self._validations[record["step"]] = record["validation"]


class NoLog(MetricsLog):
    """Of a process that does not write."""

    def __init__(self) -> None:
        self._validations = {}

    def append(self, record: dict[str, Any]) -> None:
        self._note(record)


def read_metrics(data: bytes) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """The lines of a `metrics.jsonl` with their records, None for one that is torn or not as it was written."""
    any_sealed = False
    for line in data.splitlines():
        record = _record(line, unsealed=not any_sealed)
        any_sealed = any_sealed or (record is not None and DIGEST in record)
        yield line, record


def speed(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How long a training took in all, in `seconds`, and the median of its reports of tokens (or samples) per second; what its records do
    not tell is left out."""
    measured = {"seconds": [record["elapsed_s"] for record in records if "elapsed_s" in record][-1:]}
    measured |= {name: [record[name] for record in records if name in record] for name in ("tokens_per_s", "samples_per_s")}
    medians = {name: median(values) for name, values in measured.items() if values}
    return {name: round(value) if value >= 100 else round(value, 2) for name, value in medians.items()}


def _record(line: bytes, unsealed: bool) -> dict[str, Any] | None:
    """unsealed: whether an earlier version may have written it, without a digest."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            return None
        check_seal(record, None, "", unsealed=unsealed and record.keys() <= UNSEALED)
        return record if isinstance(record["step"], int) else None
    except (DataError, ValueError, KeyError, RecursionError):
        return None
