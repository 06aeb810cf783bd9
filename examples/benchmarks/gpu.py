"""What one GPU does with mmtool (see gpu.sh). FLOPs are those of the model, forward and backward, counted in two ways:

usual    6 per weight of the blocks and of all heads for each token, and 12 x depth x width x row length for attention (PaLM, appendix B)
needed   6 per weight of the blocks for each token, 6 per weight of the head that is asked for each target, and attention to tokens that
         are seen: within documents, and of the past only where the method looks at no more

Shares are of the card's nominal rate in bf16, where that is known, and of what a large matrix product reaches here.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plain_gpt
import torch

import mmtool.training.pretrain as stage
from mmtool.common.storage import sha256_bytes
from mmtool.data.layout import layout_of
from mmtool.data.packing import Batch
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import segment
from mmtool.data.shards import write_split
from mmtool.model.decode import generate
from mmtool.model.sampling import Sampling
from mmtool.model.transformer import PRESETS, Transformer
from mmtool.training.config import resolve
from mmtool.training.hardware import matmul_limit, pick_device
from mmtool.training.loop import Window
from mmtool.training.trainer import Trainer

NOMINAL = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16, by the datasheets
NO_TOKENIZER = b"codes at random"
CODES = 500  # in a segment: two of them, and the sentinels of moved spans, fill a row of 1,024
DEVICE = pick_device()


class Sizes:
    """preset 124 M: `large` with 24,576 codes. Of decoding: tokens of a prompt, tokens drawn, rows."""

    preset, codes, row, batch_tokens, steps = "large", 8192, 1024, 65536, 20
    large_tokens, large_steps = 16384, 200
    prompt, drawn, rows = 128, 256, 256


class Smoke(Sizes):
    preset, codes, row, batch_tokens, steps = "tiny", 64, 1024, 2048, 2
    large_tokens, large_steps = 2048, 2
    prompt, drawn, rows = 8, 16, 4


class TimedTrainer(Trainer):
    """A training as `mmtool pretrain` sets it up, of which only the speed is of interest."""

    steps, profiled = Sizes.steps, False
    measured: dict[str, Any] = {}  # noqa: RUF012

    def train(self, *_: Any) -> None:
        window = Window()
        self._one_step(window)
        whole = seconds_per_call(lambda: self._one_step(window), self.steps)
        batch, keys = self.next_batch()
        alone = seconds_per_call(lambda: self._update(self.backward(batch, batch.num_targets), keys), min(self.steps, Sizes.steps))
        if self.profiled:
            print_kernels(lambda: self._update(self.backward(batch, batch.num_targets), keys))
        peak = torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else 0.0
        causal = self.method.view == "past"
        TimedTrainer.measured = {
            "parameters": self.model.num_parameters(),
            "tokens": batch.num_tokens,
            "rows": list(batch.tokens.shape),
            **rates(whole, batch.num_tokens, self.model.batch_flops(batch), needed_flops(self.model, batch, causal)),
            "seconds_without_loading": alone,
            "peak_gib": peak,
        }


def seconds_per_call(call: Callable[[], Any], times: int) -> float:
    synchronize()
    started = time.perf_counter()
    for _ in range(times):
        call()
    synchronize()
    return (time.perf_counter() - started) / times


def synchronize() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def print_kernels(step: Callable[[], Any], count: int = 30) -> None:
    """The kernels of one step that take longest."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        step()
        synchronize()
    kernels = sorted(profiler.key_averages(), key=lambda kernel: -kernel.self_device_time_total)
    print(f"{sum(kernel.self_device_time_total for kernel in kernels) / 1000:.2f} ms in kernels, of which")
    for kernel in kernels[:count]:
        print(f"{kernel.self_device_time_total / 1000:10.3f} ms {kernel.count:6} x {kernel.key[:110]}")


def rates(seconds: float, tokens: int, usual: float, needed: float) -> dict[str, float]:
    """Speed of a step, and the share of the hardware that it makes use of."""
    limit = matmul_limit(DEVICE, torch.bfloat16 if DEVICE.type == "cuda" else torch.float32)
    shares = {"usual_share_of_matmul": usual / seconds / limit, "needed_share_of_matmul": needed / seconds / limit}
    if nominal := nominal_rate():
        shares |= {"usual_mfu": usual / seconds / nominal, "needed_mfu": needed / seconds / nominal}
    return {"steps_per_s": 1 / seconds, "tokens_per_s": tokens / seconds, **shares}


def nominal_rate() -> float | None:
    name = torch.cuda.get_device_name() if DEVICE.type == "cuda" else ""
    return next((rate for part, rate in NOMINAL.items() if part in name), None)


def needed_flops(model: Transformer, batch: Batch, causal: bool) -> float:
    blocks = sum(weight.numel() for weight in model.blocks.parameters() if weight.ndim == 2)
    ranges = [stop - start for start, stop in (model.layout.target_range(index) for index in range(len(model.layout.modalities)))]
    heads = model.shape.width * sum(int(count) * size for count, size in zip(batch.num_targets, ranges, strict=True))
    lengths = np.concatenate([np.bincount(row[row > 0]) for row in batch.document])
    seen = float((lengths.astype(float) ** 2).sum()) / (2 if causal else 1)
    return 6 * (blocks * batch.num_tokens + heads) + 12 * model.shape.depth * model.shape.width * seen


def modality(name: str, codes: int, length: int) -> Modality:
    return Modality(name, "text", codes, (length,), "line", sha256_bytes(NO_TOKENIZER), length)


def random_shards(folder: Path, codes: int) -> Path:
    """Pairs (a, b) and (b, c) of codes drawn at random."""
    random, names = np.random.default_rng(0), "abc"
    pairs = [(f"{pair}-{i}", pair) for pair in ("ab", "bc") for i in range(256)]
    samples = [Sample(key, {name: random.integers(codes, size=CODES).astype(np.uint16) for name in pair}) for key, pair in pairs]
    (folder / "train").mkdir(parents=True)
    modalities, tokenizers = [modality(name, codes, CODES) for name in names], dict.fromkeys(names, NO_TOKENIZER)
    write_split(folder / "train", modalities, tokenizers, samples, split="train")
    return folder


def train(shards: Path, method: str, sizes: type[Sizes], folder: Path, *, large: bool = False) -> dict[str, Any]:
    """A training of the stage, measured in place of being run to its end."""
    torch._dynamo.reset()
    if DEVICE.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    stage.Trainer, TimedTrainer.steps = TimedTrainer, sizes.large_steps if large else sizes.steps  # type: ignore[misc]
    rows = {"batch_tokens": sizes.large_tokens} if large else {"batch_tokens": sizes.batch_tokens, "row_length": sizes.row}
    compiled = "on" if sizes is Sizes else "off"
    config = resolve(None, {"method": method, "preset": sizes.preset, **rows, "validation_samples": 0, "compile": compiled})
    started = time.perf_counter()
    stage.pretrain(config, shards, folder / f"{method}-{large}")
    return {**TimedTrainer.measured, "seconds_in_all": time.perf_counter() - started}


def decode(sizes: type[Sizes]) -> dict[str, Any]:
    """Tokens drawn per second behind prompts, which are read as well; the median of three."""
    layout = layout_of([modality("a", 2 * sizes.codes, sizes.prompt - 1), modality("b", sizes.codes, sizes.drawn)])
    with torch.device(DEVICE):
        model = Transformer(PRESETS[sizes.preset], layout)
    model.init_weights(torch.Generator(DEVICE).manual_seed(0))
    model.compute_dtype = torch.bfloat16 if DEVICE.type == "cuda" else torch.float32
    random, generator = np.random.default_rng(0), torch.Generator(DEVICE).manual_seed(0)
    prompts = [segment(layout, 0, random.integers(sizes.codes, size=sizes.prompt - 1)) for _ in range(sizes.rows)]

    def draw() -> None:
        generate(model, prompts, 1, sampling=Sampling(), generator=generator)

    draw()
    seconds = statistics.median(seconds_per_call(draw, 1) for _ in range(3))
    rate = {"rows": sizes.rows, "prompt": sizes.prompt, "drawn": sizes.drawn, "ms_per_step": 1000 * seconds / sizes.drawn}
    return {"parameters": model.num_parameters(), **rate, "tokens_per_s": sizes.rows * sizes.drawn / seconds}


def plain(sizes: type[Sizes]) -> dict[str, Any]:
    """The same model as one writes it in PyTorch alone, on full rows, without anything to load."""
    step, model = plain_gpt.training(PRESETS[sizes.preset], 3 * sizes.codes, sizes.batch_tokens // sizes.row, sizes.row, DEVICE)
    for _ in range(3):
        step()
    tokens, blocks = sizes.batch_tokens, sum(weight.numel() for weight in model.blocks.parameters() if weight.ndim == 2)
    attention = 12 * len(model.blocks) * model.width * sizes.row
    weights = 6 * (blocks + model.head.weight.numel())
    seconds = seconds_per_call(step, sizes.steps)
    return {"tokens": tokens, **rates(seconds, tokens, tokens * (weights + attention), tokens * (weights + attention / 2))}


def show(results: dict[str, dict[str, Any]]) -> None:
    columns = ("tokens_per_s", "steps_per_s", "usual_mfu", "needed_mfu", "seconds_without_loading", "ms_per_step", "peak_gib")
    print("".join(f"{name:>24}" for name in ("", *columns)))
    for name, row in results.items():
        if name in ("card", "matmul"):
            continue
        print(f"{name:>24}" + "".join(f"{row[column]:>24,.4g}" if column in row else " " * 24 for column in columns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--json", type=Path, default=Path("gpu.json"))
    parser.add_argument("--only", default="matmul,causal,masked,loretta,plain,decode,large")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    TimedTrainer.profiled = options.profile
    sizes = Smoke if options.smoke else Sizes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = random_shards(folder / "shards", sizes.codes)
        parts: dict[str, Callable[[], Any]] = {
            "matmul": lambda: {"tflops": matmul_limit(DEVICE, torch.bfloat16 if DEVICE.type == "cuda" else torch.float32) / 1e12},
            "decode": lambda: decode(sizes),
            "causal": lambda: train(shards, "causal", sizes, folder),
            "masked": lambda: train(shards, "masked", sizes, folder),
            "loretta": lambda: train(shards, "loretta", sizes, folder),
            "plain": lambda: plain(sizes),
            "large": lambda: train(options.shards or shards, "commutative", sizes, folder, large=True),
        }
        card = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "no GPU"
        results: dict[str, Any] = {"card": {"name": card, "nominal_tflops": (nominal_rate() or 0) / 1e12, "torch": torch.__version__}}
        for name in options.only.split(","):
            results[name] = parts[name]()
            print(name, json.dumps(results[name]), flush=True)
            options.json.write_text(json.dumps(results, indent=1) + "\n")
    show(results)


if __name__ == "__main__":
    main()
