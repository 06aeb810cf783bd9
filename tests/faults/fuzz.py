"""A mutation fuzzer: small valid files of every sort, damaged at random, go through the readers that people's files go through.

    python -m tests.faults.fuzz --seconds 600 png wav shard        these readers (none: all), so long each

What may come of a damaged file: that it is read, or one of our errors, which names it. Anything else is a finding: another exception; more
than `HANG_S` seconds; more than `MEMORY` bytes beyond what the whole file took; and where a digest exists, other content than before.
Mutations are functions of a seed, which is printed with a finding: `--seed` repeats it.
"""

import argparse
import gzip
import io
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import wave
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from mmtool.common.errors import MmtoolError
from mmtool.preprocessing.sources import SourceOptions, read_items

HANG_S = 5
MEMORY = 2**30
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
Digest = Callable[[Path], object]


@dataclass(frozen=True)
class Reader:
    """make: writes a small valid file or folder. read: gives what is in it, to be compared where it is sealed. target: the file of a folder
    that is damaged."""

    make: Callable[[Path], None]
    read: Digest
    suffix: str
    sealed: bool = False
    target: str = ""


@dataclass
class Findings:
    """tried: inputs; accepted: those that were read; grown: by how many bytes the peak of memory rose beyond that of the whole file;
    problems: what went wrong, by the place where it did, with a seed that shows it."""

    tried: int = 0
    accepted: int = 0
    grown: int = 0
    problems: dict[str, str] = field(default_factory=dict)


class HangError(BaseException):
    """A reader took too long."""


def fuzz(name: str, folder: Path, seconds: float | None = None, tries: int | None = None, first: int = 0) -> Findings:
    """Damage the file of a reader in turn with the seeds from `first` on, so long or so often."""
    reader, findings, started = READERS[name], Findings(), time.monotonic()
    whole = folder / f"whole{reader.suffix}"
    reader.make(whole)
    content, data = reader.read(whole), (whole / reader.target).read_bytes()
    seed, before = first, _peak_memory()
    while (tries is None or seed < first + tries) and (seconds is None or time.monotonic() - started < seconds):
        place = folder / f"damaged{reader.suffix}"
        if reader.target and not place.exists():
            shutil.copytree(whole, place)
        (place / reader.target).write_bytes(mutate(data, random.Random(f"{name} {seed}")))
        _try(reader, place, content, seed, findings)
        findings.grown = _peak_memory() - before
        if findings.grown > MEMORY:
            findings.problems.setdefault("memory", f"seed {seed}")
        seed += 1
    return findings


def _try(reader: Reader, path: Path, content: object, seed: int, findings: Findings) -> None:
    findings.tried += 1
    try:
        with _within(HANG_S), redirect_stderr(io.StringIO()):
            read = reader.read(path)
        findings.accepted += 1
        if reader.sealed and read != content:
            findings.problems.setdefault("other content in silence", f"seed {seed}")
    except MmtoolError:
        pass
    except HangError:
        findings.problems.setdefault("hang", f"seed {seed}")
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        frame = next((frame for frame in reversed(frames) if "/mmtool/" in frame.filename and "/tests/" not in frame.filename), frames[-1])
        place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        findings.problems.setdefault(place, f"seed {seed}: {str(error)[:200]}")


def _peak_memory() -> int:
    """Bytes, of this process since its start."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    def late(number: int, frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four changes: bytes, runs, cuts, copies within, and numbers made large."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if not changed:
            return b""
        at = rng.randrange(len(changed))
        size = min(rng.choice((1, 2, 4, 8, 64, 512)), len(changed) - at)
        MUTATIONS[rng.randrange(len(MUTATIONS))](changed, at, size, rng)
    return bytes(changed)


def _flip(data: bytearray, at: int, size: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def _set(data: bytearray, at: int, size: int, rng: random.Random) -> None:
    data[at : at + size] = bytes([rng.choice(INTERESTING)]) * size


def _scramble(data: bytearray, at: int, size: int, rng: random.Random) -> None:
    data[at : at + size] = rng.randbytes(size)


def _cut(data: bytearray, at: int, size: int, rng: random.Random) -> None:
    del data[at:]


def _leave_out(data: bytearray, at: int, size: int, rng: random.Random) -> None:
    del data[at : at + size]


def _copy(data: bytearray, at: int, size: int, rng: random.Random) -> None:
    other = rng.randrange(len(data))
    data[other:other] = data[at : at + size]


def _digits(data: bytearray, at: int, size: int, rng: random.Random) -> None:
    digit = next((place for place in range(at, len(data)) if 48 <= data[place] < 58), at)
    data[digit : digit + 1] = rng.choice((b"99999999999", b"-1", b"0", b"1e999", b"NaN", b'"', b"[", b"{}", b"null", b"[" * 5000))


MUTATIONS = (_flip, _set, _scramble, _cut, _leave_out, _copy, _digits)


def items(kind: str, **options: Any) -> Digest:
    """What the reader of a kind makes of a file."""

    def read(path: Path) -> object:
        return [(item.key, str(item.value)[:200]) for item in read_items(kind, [path], SourceOptions(**options), quiet=True)]

    return read


def _array() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (8, 8, 3)).astype(np.uint8)


def _picture(form: str, **options: Any) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        from PIL import Image

        Image.fromarray(_array()).save(path, form, **options)

    return make


def _sound(form: str, subtype: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import soundfile

        soundfile.write(path, np.sin(np.arange(2000) / 9).astype(np.float32), 8000, format=form, subtype=subtype)

    return make


def _wav(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 500, "NONE", ""))
        file.writeframes((np.sin(np.arange(500) / 9) * 9000).astype("<i2").tobytes())


def _text(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(text.encode()) and None


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "ab":
            data = io.BytesIO()
            from PIL import Image

            Image.fromarray(_array()).save(data, "PNG")
            archive.writestr(f"{name}.png", data.getvalue())


def _tar(path: Path) -> None:
    import tarfile

    from PIL import Image

    with tarfile.open(path, "w") as archive:
        for name in "ab":
            data = io.BytesIO()
            Image.fromarray(_array()).save(data, "PNG")
            info = tarfile.TarInfo(f"{name}.png")
            info.size = len(data.getvalue())
            archive.addfile(info, io.BytesIO(data.getvalue()))


def _idx(path: Path) -> None:
    path.write_bytes(bytes([0, 0, 8, 3]) + (2).to_bytes(4, "big") + (4).to_bytes(4, "big") * 2 + bytes(range(32)))


def _npz(path: Path) -> None:
    np.savez(path, actions=np.arange(12, dtype=np.float32).reshape(6, 2), rewards=np.zeros(6, np.float32))


def _hdf5(path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for name in ("episode_0", "episode_1"):
            file[f"{name}/actions"] = np.arange(12, dtype=np.float32).reshape(6, 2)


def _parquet(path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"key": ["a", "b", "c"], "x": [1.0, 2.0, 3.0], "y": [1.5, 2.5, 3.5]}), path)


def _h5ad(path: Path) -> None:
    import anndata

    anndata.AnnData(np.arange(12, dtype=np.float32).reshape(4, 3)).write_h5ad(path)


def _tokenizer(path: Path) -> None:
    from mmtool.tokenizers.base import save_tokenizer
    from mmtool.tokenizers.table import TableTokenizer

    save_tokenizer(TableTokenizer.fit(np.random.default_rng(0).normal(size=(50, 3)), {"features": ["a", "b", "c"]}, 0), path)


def _read_tokenizer(path: Path) -> object:
    from mmtool.tokenizers.base import load_tokenizer, to_bytes

    return to_bytes(load_tokenizer(path))


def _shard(path: Path) -> None:
    from mmtool.common.storage import sha256_bytes
    from mmtool.data.sample import Modality, Sample
    from mmtool.data.shards import write_stream

    modality = Modality("text", "text", 100, None, "line", sha256_bytes(b"fitted"), 4)
    with open(path, "wb") as file:
        write_stream(file, [modality], {"text": b"fitted"}, [Sample(key, {"text": np.arange(3)}, {"digit": 1}) for key in "abc"])


def _read_shard(path: Path) -> object:
    from mmtool.data.shards import open_token_set

    tokens = open_token_set(path)
    return [(sample.key, sample.labels, {name: codes.tolist() for name, codes in sample.tokens.items()}) for sample in tokens]


def _checkpoint(path: Path) -> None:
    import torch

    from mmtool.training.checkpoint import save_checkpoint

    model = torch.nn.Linear(2, 2)
    state = {"step": 3, "consumed": 12, "elapsed_s": 1.5, "progress": 0.5}
    shutil.move(save_checkpoint(path.with_name("checkpoints"), model, torch.optim.AdamW(model.parameters()), state, 1), path)


def _read_checkpoint(path: Path) -> object:
    from mmtool.training.checkpoint import open_checkpoint

    opened = open_checkpoint(path)
    return opened.state, {name: tensor.tolist() for name, tensor in opened.model.items()}


def _metrics(path: Path) -> None:
    from mmtool.training.metrics import MetricsLog

    log = MetricsLog(path, 0)
    for step in range(3):
        log.append({"step": step, "loss": {"a": 0.5}, "elapsed_s": 1.25})


def _read_metrics(path: Path) -> object:
    """Whole only: a damaged line is left out, which lint tells."""
    from mmtool.common.errors import DataError
    from mmtool.training.metrics import read_metrics

    records = [record for _, record in read_metrics(path.read_bytes())]
    if len(records) != 3 or None in records:
        raise DataError("damaged lines")
    return sorted(json.dumps(record, sort_keys=True) for record in records)


def _run(path: Path) -> None:
    """A directory with the record of a run, without weights."""
    from mmtool.common.seal import write_sealed
    from mmtool.data.sample import Modality
    from mmtool.training.config import RUN_FORMAT, PretrainConfig

    path.mkdir()
    modality = Modality("text", "text", 100, None, "line", "0" * 64, 4)
    record = {
        "format": RUN_FORMAT,
        "config": PretrainConfig(method="masked").to_json(),
        "method_options": {},
        "shape": {"depth": 1, "width": 32},
        "modalities": [modality.to_json()],
        "co_occurrence": [{"modalities": ["text"], "samples": 3}],
        "data": "0" * 64,
        "batch": {"window": 1},
    }
    write_sealed(path / "config.json", record)


def _read_run(path: Path) -> object:
    from mmtool.training.run import open_run

    return open_run(path).record


def _resealed(read: Digest) -> Digest:
    """The same for a record whose digest is right again after the damage: one that a stranger made."""

    def reading(path: Path) -> object:
        from mmtool.common.seal import write_sealed

        try:
            record = json.loads((path / "config.json").read_bytes())
            write_sealed(path / "config.json", record)
        except (ValueError, RecursionError, AttributeError, TypeError):
            return None
        return read(path)

    return reading


ROWS = "key,x,y\na,1,2.5\nb,2,3.5\nc,3,4.5\nd,4,5.5\n"
LINES = "".join(json.dumps({"key": key, "text": f"a {key} thing"}) + "\n" for key in "abcd")
READERS = {
    "shard": Reader(_shard, _read_shard, ".tar", sealed=True),
    "tokenizer": Reader(_tokenizer, _read_tokenizer, ".safetensors", sealed=True),
    "run": Reader(_run, _read_run, "", sealed=True, target="config.json"),
    "stranger": Reader(_run, _resealed(_read_run), "", target="config.json"),
    "state": Reader(_checkpoint, _read_checkpoint, "", sealed=True, target="state.json"),
    "weights": Reader(_checkpoint, _read_checkpoint, "", sealed=True, target="model.safetensors"),
    "metrics": Reader(_metrics, _read_metrics, ".jsonl", sealed=True),
    "npz": Reader(_npz, items("trajectory"), ".npz"),
    "npy": Reader(lambda path: np.save(path, _array()[None]), items("image"), ".npy"),
    "zip": Reader(_zip, items("image"), ".zip"),
    "tar": Reader(_tar, items("image"), ".tar"),
    "hdf5": Reader(_hdf5, items("trajectory"), ".hdf5"),
    "parquet": Reader(_parquet, items("table"), ".parquet"),
    "csv": Reader(_text(ROWS), items("table"), ".csv"),
    "csv.gz": Reader(lambda path: path.write_bytes(gzip.compress(ROWS.encode())) and None, items("table"), ".csv.gz"),
    "jsonl": Reader(_text(LINES), items("text", text_column="text"), ".jsonl"),
    "idx": Reader(_idx, items("image"), ".idx3-ubyte"),
    "png": Reader(_picture("PNG"), items("image"), ".png"),
    "jpg": Reader(_picture("JPEG"), items("image"), ".jpg"),
    "tif": Reader(_picture("TIFF", compression="tiff_lzw"), items("image"), ".tif"),
    "wav": Reader(_wav, items("audio"), ".wav"),
    "flac": Reader(_sound("FLAC", "PCM_16"), items("audio"), ".flac"),
    "ogg": Reader(_sound("OGG", "VORBIS"), items("audio"), ".ogg"),
    "h5ad": Reader(_h5ad, items("table"), ".h5ad"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", choices=[[], *READERS], help="none: all")
    parser.add_argument("--seconds", type=float, default=60, help="of each reader")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    chosen = parser.parse_args()
    problems = 0
    for name in chosen.readers or READERS:
        with tempfile.TemporaryDirectory() as folder:
            findings = fuzz(name, Path(folder), chosen.seconds, first=chosen.seed)
        problems += len(findings.problems)
        counts = f"{findings.tried} tried, {findings.accepted} read, {findings.grown >> 20} MiB more at the peak"
        print(f"{name}: {counts}, {len(findings.problems)} problems", flush=True)
        for place, seed in findings.problems.items():
            print(f"  {place}: {seed}", flush=True)
    return problems


if __name__ == "__main__":
    sys.exit(bool(main()))
