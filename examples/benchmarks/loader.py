"""What the loader gives: tokens per second of one worker by method, and the share of a training step that is spent waiting for a batch.

    python examples/benchmarks/loader.py [--shards DIR] [--seconds 2] [--preset tiny] [--steps 40] [--workers 0,1,2] [--no-compile]
        [--json FILE]

Without --shards: random codes, documents of about 29 tokens (an image of 16, and speech or a text) and of 1,002 (two segments of 500), the
short ones being the hard case. Rates are of CPU time of one process, so that a busy machine does not count, and of documents being made
(what workers do) and packed (what is left to the training process, or to the thread beside it). With --preset it also trains
`commutative` with so many workers, and tells the share of its time that it waited for batches.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mmtool.common.storage import sha256_bytes
from mmtool.data.documents import Documents
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.loader import Loader
from mmtool.data.sample import Modality, Sample
from mmtool.data.shards import TokenSet, open_token_set, write_split
from mmtool.training.config import PretrainConfig, resolve
from mmtool.training.pretrain import pretrain
from mmtool.training.run import make_method

NO_TOKENIZER = b"codes at random"
METHODS = ("causal", "cm3", "commutative", "masked", "contrastive", "m3ae")
BATCH_TOKENS, TYPICAL = 16384, 512


def modality(name: str, kind: str, codes: int, shape: tuple[int, ...] | None, longest: int) -> Modality:
    return Modality(name, kind, codes, shape, "line" if shape is None else "grid", sha256_bytes(NO_TOKENIZER), longest)


def write(folder: Path, modalities: list[Modality], samples: list[Sample]) -> TokenSet:
    (folder / "train").mkdir(parents=True)
    write_split(folder / "train", modalities, dict.fromkeys([each.name for each in modalities], NO_TOKENIZER), samples, split="train")
    return open_token_set(folder, split="train")


def short_samples(folder: Path, count: int = 6000) -> TokenSet:
    random, samples = np.random.default_rng(0), []
    for i in range(count):
        name, codes, length = ("speech", 512, random.integers(10, 24)) if i % 2 else ("text", 300, random.integers(3, 8))
        drawn = {"image": random.integers(512, size=16), name: random.integers(codes, size=length)}
        samples.append(Sample(f"sample{i:05d}", {key: values.astype(np.uint16) for key, values in drawn.items()}))
    modalities = [modality("image", "image", 512, (4, 4), 16), modality("speech", "audio", 512, None, 24)]
    return write(folder, [*modalities, modality("text", "text", 300, None, 8)], samples)


def long_samples(folder: Path, count: int = 1000) -> TokenSet:
    random = np.random.default_rng(0)
    samples = [
        Sample(f"sample{i:05d}", {name: random.integers(8192, size=500).astype(np.uint16) for name in ("ab", "bc")[i % 2]})
        for i in range(count)
    ]
    return write(folder, [modality(name, "text", 8192, None, 500) for name in "abc"], samples)


def rates(data: TokenSet, name: str, seconds: float) -> dict[str, float]:
    """Tokens per second of CPU time: made, packed, and both after one another."""
    graph = CoOccurrence.of(data.present(i) for i in range(len(data)))
    method = make_method(PretrainConfig(method=name), layout_of(data.modalities), graph)
    step = len(data) // TYPICAL or 1
    batch = method.size_batches([data[i] for i in range(0, len(data), step)], BATCH_TOKENS, 0)
    loader = Loader(data, np.arange(len(data)), method.packer(batch), batch["window"], 0)

    def make() -> Documents:
        documents = Documents.of(method.plain_documents(*loader.offered(loader.consumed, loader.window)))
        loader.consumed += loader.window
        return documents

    documents = make()
    made = per_second(lambda: int(make().sizes.sum()), seconds)
    packed = per_second(lambda: loader.pack(documents).num_tokens, seconds)
    return {"made": made, "packed": packed, "both": 1 / (1 / made + 1 / packed), "tokens_in_a_document": float(documents.sizes.mean())}


def per_second(call: Callable[[], int], seconds: float) -> float:
    call()
    count, started = 0, time.process_time()
    while time.process_time() - started < seconds:
        count += call()
    return count / (time.process_time() - started)


def waiting(shards: Path, run: Path, preset: str, steps: int, workers: int, compiled: str) -> dict[str, float]:
    """Of a training: tokens per second and the share of the time that it waited for batches, over its later half."""
    options = {"method": "commutative", "preset": preset, "steps": steps, "compile": compiled, "checkpoint_every": 0}
    options |= {"batch_tokens": BATCH_TOKENS if preset != "tiny" else 2048, "validation_samples": 0}
    pretrain(resolve(None, options), shards, run, workers=workers)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    later = [record for record in records if record["step"] > steps // 2]
    return {name: float(np.mean([record[name] for record in later])) for name in ("tokens_per_s", "loading_share")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--preset")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = {"given": open_token_set(options.shards, split="train")} if options.shards else {}
        sets = sets or {"short": short_samples(folder / "short"), "long": long_samples(folder / "long")}
        print(f"{'documents':10} {'method':12} {'tokens each':>12} {'made/s':>12} {'packed/s':>12} {'both/s':>12}")
        for kind, data in sets.items():
            for method in METHODS:
                row = results[f"{kind} {method}"] = rates(data, method, options.seconds)
                numbers = " ".join(f"{row[column]:12,.0f}" for column in ("tokens_in_a_document", "made", "packed", "both"))
                print(f"{kind:10} {method:12} {numbers}", flush=True)
        for number in map(int, options.workers.split(",")) if options.preset else ():
            shards, compiled = options.shards or folder / "short", "off" if options.no_compile else "auto"
            row = waiting(shards, folder / f"run{number}", options.preset, options.steps, number, compiled)
            results[f"training, {number} workers"] = row
            print(f"training, {number} workers: {row['tokens_per_s']:,.0f} tokens/s, {row['loading_share']:.1%} of it waiting", flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
