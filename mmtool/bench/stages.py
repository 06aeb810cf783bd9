"""What the stages reach on made-up data: each its rate, and the share of what the machine's limits allow."""

import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from mmtool.bench.limits import best_rate
from mmtool.common.storage import sha256_bytes
from mmtool.data.documents import Documents
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.loader import Loader
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import segment
from mmtool.data.shards import TokenSet, open_token_set, write_split
from mmtool.model.decode import generate
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import PRESETS, Transformer
from mmtool.preprocessing.tokenize import tokenize
from mmtool.training.config import PretrainConfig, resolve
from mmtool.training.hardware import matmul_limit, pick_device, pick_precision
from mmtool.training.pretrain import pretrain
from mmtool.training.run import make_method

NO_TOKENIZER = b"codes at random"
CODES, METHOD = 512, "commutative"
WORDS = ("red", "green", "blue", "grey", "small", "large", "round", "flat", "thing", "seen")


def make_token_set(folder: Path, num_samples: int) -> TokenSet:
    """Codes at random: images of 16 with sounds of 10 to 23, or with texts of 3 to 7; documents of 29 tokens on average."""
    random, samples = np.random.default_rng(0), []
    for i in range(num_samples):
        name, length = ("sound", random.integers(10, 24)) if i % 2 else ("text", random.integers(3, 8))
        tokens = {"image": random.integers(CODES, size=16), name: random.integers(CODES, size=length)}
        samples.append(Sample(f"sample{i:06d}", {key: codes.astype(np.uint16) for key, codes in tokens.items()}))
    modalities = [_modality("image", (4, 4), 16), _modality("sound", None, 23), _modality("text", None, 7)]
    (folder / "train").mkdir(parents=True)
    write_split(folder / "train", modalities, dict.fromkeys(("image", "sound", "text"), NO_TOKENIZER), samples, split="train")
    return open_token_set(folder, split="train")


def load_rate(data: TokenSet, batch_tokens: int, seconds: float) -> dict[str, float]:
    """Tokens per second that one process makes batches of, and bytes per second of these batches."""
    graph = CoOccurrence.of(data.present(i) for i in range(len(data)))
    method = make_method(PretrainConfig(method=METHOD), layout_of(data.modalities), graph)
    record = method.size_batches([data[i] for i in range(min(len(data), 512))], batch_tokens, 0)
    loader = Loader(data, np.arange(len(data)), method.packer(record), record["window"], 0)
    tokens, size, started = 0, 0, time.perf_counter()
    while not tokens or time.perf_counter() - started < seconds:
        documents = Documents.of(method.plain_documents(*loader.offered(loader.consumed, loader.window)))
        batch = loader.pack(documents)
        loader.consumed += batch.num_documents
        tokens, size = tokens + batch.num_tokens, size + documents.table.nbytes
    elapsed = time.perf_counter() - started
    return {"tokens_per_s": tokens / elapsed, "bytes_per_s": size / elapsed}


def train_rate(shards: Path, run: Path, preset: str, batch_tokens: int, steps: int, compiled: bool) -> dict[str, float]:
    """Tokens per second of a training of so many steps, FLOP/s of its model, and the share of the time that it waited for batches."""
    options = {"method": METHOD, "preset": preset, "steps": steps, "batch_tokens": batch_tokens, "checkpoint_every": 0}
    summary = pretrain(resolve(None, {**options, "compile": "on" if compiled else "off", "validation_samples": 0}), shards, run)
    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    limit = matmul_limit(pick_device(), pick_precision("auto", pick_device()))
    kept = {name: record[name] for name in ("tokens_per_s", "loading_share")}
    return {**kept, "flops_per_s": record["hardware_share"] * limit, "parameters": summary.parameters}


def decode_rate(
    preset: str, rows: int, prompt: int, drawn: int, device: torch.device, dtype: torch.dtype, limits: tuple[float, float], seconds: float
) -> dict[str, float]:
    """Tokens drawn per second behind prompts, reading these included, and the share of what two limits allow: FLOP/s of products, and bytes
    per second of memory, through which every step takes all weights."""
    layout = layout_of([_modality("image", (prompt - 1,), prompt - 1, "line"), _modality("text", (drawn,), drawn, "line")])
    with torch.device(device):
        model = Transformer(PRESETS[preset], layout)
    model.init_weights(torch.Generator(device).manual_seed(0))
    model.compute_dtype = dtype
    random, generator = np.random.default_rng(0), torch.Generator(device).manual_seed(0)
    prompts = [segment(layout, 0, random.integers(CODES, size=prompt - 1)) for _ in range(rows)]
    rate = best_rate(rows * drawn, lambda: generate(model, prompts, 1, sampling=Sampling(), generator=generator), seconds, device)
    flops = model.flops_per_token(prompt + drawn) / 3 * rows * (prompt + drawn)
    weights = model.num_parameters() * torch.finfo(dtype).bits / 8 * drawn
    least_s = max(flops / limits[0], weights / limits[1])
    return {"tokens_per_s": rate, "share": rate * least_s / (rows * drawn)}


def tokenize_rate(folder: Path, num_samples: int) -> dict[str, float]:
    """Texts and their bytes per second that are read, encoded and written, with a tokenizer fitted before."""
    random = np.random.default_rng(0)
    lines = [f"text{i:06d},{' '.join(random.choice(WORDS, size=12))}\n" for i in range(num_samples)]
    source = folder / "texts.csv"
    source.write_text("key,text\n" + "".join(lines))
    tokenize("text", [source], folder / "fitted.tar", name="text")
    timed = []
    for number in range(3):
        started = time.perf_counter()
        tokenize("text", [source], folder / f"texts{number}.tar", name="text", tokenizer=folder / "fitted.tar")
        timed.append(time.perf_counter() - started)
    return {"samples_per_s": num_samples / statistics.median(timed), "bytes_per_s": source.stat().st_size / statistics.median(timed)}


def _modality(name: str, shape: tuple[int, ...] | None, longest: int, positions: str | None = None) -> Modality:
    lie = positions or ("line" if shape is None else "grid")
    return Modality(name, "text", CODES, shape, lie, sha256_bytes(NO_TOKENIZER), longest)  # type: ignore[arg-type]
