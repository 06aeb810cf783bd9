"""What a sample costs at the start of a training, measured on few and multiplied: bytes on disk, memory, and seconds of one core.

    python examples/benchmarks/scale.py [--samples 20000] [--tokens 1000] [--processes 1,2] [--json FILE]

Made up are samples of two modalities of text, half of the tokens in each. Measured is what grows with their number: the shards and their
index; opening them, which verifies every byte; the record of training items; the order of an epoch; a batch of samples read at random.
Numbers of processes: that verify shards.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.storage import sha256_bytes
from mmtool.data import shard_files
from mmtool.data.identity import TrainingItems, content_field
from mmtool.data.loader import _permutation
from mmtool.data.sample import Modality, Sample
from mmtool.data.shards import open_token_set, write_split

NAMES, VOCABULARY, SHARD = ("a", "b"), 8192, 2000

OPENING = """
import sys, time
from pathlib import Path
from mmtool.data import shard_files
from mmtool.data.shards import open_token_set
shard_files.PARALLEL_BYTES = 0
begun = time.perf_counter()
count = len(open_token_set(Path(sys.argv[1])))
print((time.perf_counter() - begun) / count)
"""


def make_shards(folder: Path, count: int, tokens: int) -> dict[str, float]:
    """Write the shards; gives bytes and seconds of a sample."""
    random = np.random.default_rng(0)
    modalities = [Modality(name, "text", VOCABULARY, None, "line", sha256_bytes(b"fitted"), 0) for name in NAMES]

    def samples() -> Iterator[Sample]:
        for number in range(count):
            codes = {name: random.integers(0, VOCABULARY, tokens // len(NAMES)) for name in NAMES}
            contents = {content_field(name): f"{number:016x}" for name in NAMES}
            yield Sample(f"sample-{number:010d}", codes, {"label": number % 10}, contents)

    made = list(samples())
    seconds, _ = timed(
        lambda: write_split(folder, modalities, dict.fromkeys(NAMES, b"fitted"), made, split="train", samples_per_shard=SHARD)
    )
    shards = sum(file.stat().st_size for file in folder.glob("*.tar"))
    return {"shard_bytes": shards / count, "index_bytes": (folder / "index.json").stat().st_size / count, "write_s": seconds / count}


def measure(folder: Path) -> dict[str, float]:
    """Of one process, per sample."""
    shard_files.IN_MEMORY_BYTES = 0  # mapped, as large sets are
    os.environ["OMP_NUM_THREADS"] = "1"
    open_s, tokens = timed(lambda: open_token_set(folder))
    tracemalloc.start()
    again = open_token_set(folder)
    memory, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    count = len(again)
    items_s, items = timed(lambda: TrainingItems.of(tokens))
    order_s, _ = timed(lambda: _permutation(0, 0, 10_000_000))
    chosen = np.random.default_rng(0).permutation(count)[:10_000].tolist()
    read_s, _ = timed(lambda: [tokens.tokens_of(number) for number in chosen])
    return {
        "open_s": open_s / count,
        "memory_bytes": memory / count,
        "peak_bytes": peak / count,
        "items_s": items_s / count,
        "items_bytes": len(items.to_bytes()) / count,
        "order_s": order_s / 10_000_000,
        "read_s": read_s / len(chosen),
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of CPU time, and what it gives."""
    begun = time.process_time()
    result = work()
    return time.process_time() - begun, result


def verified_by(folder: Path, processes: int) -> float:
    """Seconds by the clock that a sample takes to be opened, in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(processes)}
    command = [sys.executable, "-c", OPENING, str(folder)]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--samples", type=int, default=20_000)
    options.add_argument("--tokens", type=int, default=1000, help="of a sample")
    options.add_argument("--processes", default="1,2", help="numbers of them, with commas between")
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "train"
        figures = {**make_shards(folder, chosen.samples, chosen.tokens), **measure(folder)}
        for processes in map(int, chosen.processes.split(",")):
            figures[f"verified_by_{processes}_s"] = verified_by(folder, processes)
    for name, value in figures.items():
        unit, number = ("µs", value * 1e6) if name.endswith("_s") else ("bytes", value)
        print(
            f"{name.rsplit('_', 1)[0]:>16} {number:>10.2f} {unit} a sample; of 10^9: {value * 1e9:,.0f} {'s' if unit == 'µs' else 'bytes'}"
        )
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
