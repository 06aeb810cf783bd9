"""The stage `impute --space embedding`: embeddings of absent modalities, as an adapter predicts them, for downstream use.

OUT/MODALITY.npz         key (N,), embedding (N, W) float32, predicted (N,) bool, given (N,) as `a+b`: of every sample that has or gets one
OUT/MODALITY.parquet     the same as a table, where that was asked for
OUT/imputed.jsonl        one line per predicted embedding: key, modality, given, files
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from mmtool.adaptation.adapter import Adapter, open_adapter, read_record
from mmtool.adaptation.batches import encode_all
from mmtool.adaptation.joint_embedding import Encodings
from mmtool.adaptation.measure import predicted_embeddings
from mmtool.common.errors import UsageError
from mmtool.common.listing import write_listing
from mmtool.common.lock import one_writer
from mmtool.common.output import OutputPath
from mmtool.common.storage import write_bytes
from mmtool.data.sample import Sample
from mmtool.data.shards import open_token_set, split_directories
from mmtool.training.hardware import pick_device

Format = Literal["npz", "parquet"]


@dataclass(frozen=True)
class EmbeddingSummary:
    """samples: that got an embedding they lacked; skipped: the others; imputed: modality -> predicted embeddings."""

    output: str
    samples: int
    skipped: int
    imputed: dict[str, int]


@one_writer
def impute_embeddings(
    path: Path,
    data: Path,
    output: Path,
    *,
    have: Sequence[str] = (),
    want: Sequence[str] = (),
    split: str | None = None,
    limit: int | None = None,
    sources: Mapping[str, Path] | None = None,
    format: Format = "npz",
    force: bool = False,
) -> EmbeddingSummary:
    """Predict the embeddings `want` (none named: whatever a sample lacks) from `have` (none named: whatever it holds).

    What a sample holds is written as it is, unless `have` leaves it out. Raises UsageError where nothing can be predicted.
    """
    encoders = [Path(encoder["source"]) for encoder in read_record(path)["encoders"].values()]
    place = OutputPath(output, force, [path, data, *encoders, *(sources or {}).values()])
    place.check_directory()
    parts = [open_token_set(data, name) for name in ([split] if split else split_directories(data))]
    device = pick_device()
    adapter = open_adapter(path, parts[0].tokenizers, device, sources)
    names = adapter.model.names
    for name in (*have, *want):
        if name not in names:
            fix = f"Choose from: {', '.join(names)}."
            raise UsageError(f"the adapter has no encoder of {name!r}.", where="--have/--want", fix=fix)
    samples = [part[i] for part in parts for i in range(len(part)) if set(part.present(i)) & set(have or names)][:limit]
    encodings = encode_all(adapter.model, samples, device) if samples else None
    tables = {target: embedding_table(adapter, samples, encodings, have, target) for target in want or names} if encodings else {}
    counts = {target: int(table["predicted"].sum()) for target, table in tables.items()}
    if not any(counts.values()):
        held = ", ".join(sorted({name for sample in samples for name in sample.tokens})) or "nothing"
        raise UsageError("no sample lacks what is asked for and has what it takes.", where="--have/--want", fix=f"Samples hold {held}.")
    with place.directory() as partial:
        files = {target: _write(partial / target, table, format) for target, table in tables.items() if counts[target]}
        write_listing(partial, [line for target, name in files.items() for line in _lines(tables[target], target, name)])
    used = {key for target in files for key in tables[target]["key"][tables[target]["predicted"]]}
    return EmbeddingSummary(str(output), len(used), len(samples) - len(used), {name: count for name, count in counts.items() if count})


def embedding_table(adapter: Adapter, samples: Sequence[Sample], encodings: Encodings, have: Sequence[str], target: str) -> dict[str, Any]:
    """Key, embedding, predicted and given (see above) of every sample that holds `target` or has what it takes to predict it.

    encodings: of the samples. have: what counts as present (nothing named: all that a sample holds).
    """
    m, names = adapter.model.names.index(target), adapter.model.names
    given: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, sample in enumerate(samples):
        sources = tuple(name for name in names if name in sample.tokens and name != target and (not have or name in have))
        if (target not in sample.tokens or (have and target not in have)) and sources:
            given[sources].append(i)
        elif target in sample.tokens:
            given[()].append(i)
    embedding = np.zeros((len(samples), adapter.model.widths[m]), np.float32)
    via = np.full(len(samples), "", dtype=object)
    real = given.pop((), [])
    embedding[real] = encodings.embedding[m][real].cpu().numpy()
    for sources, chosen in given.items():
        at = torch.tensor(chosen, device=encodings.present.device)
        embedding[chosen] = predicted_embeddings(adapter, encodings.of(at), sources, target)[1].cpu().numpy()
        via[chosen] = "+".join(sources)
    rows = np.array(sorted([*real, *(i for chosen in given.values() for i in chosen)]), np.int64)
    key = np.array([samples[i].key for i in rows], dtype=str)
    units = adapter.model.scale(m)
    restored = units.restore(torch.from_numpy(embedding[rows]).to(units.centre)).cpu().numpy()
    return {"key": key, "embedding": restored, "predicted": via[rows] != "", "given": via[rows].astype(str)}


def _write(stem: Path, table: Mapping[str, Any], format: Format) -> str:
    """MODALITY.npz or MODALITY.parquet; gives its name."""
    file = BytesIO()
    if format == "npz":
        np.savez_compressed(file, **table)
    else:
        _parquet(table, file)
    path = stem.with_name(f"{stem.name}.{format}")
    write_bytes(path, file.getvalue())
    return path.name


def _parquet(table: Mapping[str, Any], file: BytesIO) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        fix = "Install it with `pip install 'mmtool[parquet]'`, or write npz."
        raise UsageError("Parquet needs pyarrow.", where="--format", fix=fix) from error
    width = table["embedding"].shape[1]
    values = pa.FixedSizeListArray.from_arrays(pa.array(table["embedding"].reshape(-1)), width)
    columns = {name: pa.array(table[name].tolist()) for name in ("key", "predicted", "given")}
    parquet.write_table(pa.table({**columns, "embedding": values}), file)


def _lines(table: Mapping[str, Any], target: str, name: str) -> list[dict[str, Any]]:
    return [
        {"modality": target, "key": key, "given": given.split("+"), "files": [name]}
        for key, given, predicted in zip(table["key"].tolist(), table["given"].tolist(), table["predicted"].tolist(), strict=True)
        if predicted
    ]
