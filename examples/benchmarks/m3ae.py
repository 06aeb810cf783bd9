"""M3AE: what hiding tokens saves the encoder, and a training step against the same model in plain PyTorch.

    python examples/benchmarks/m3ae.py [--preset tiny] [--samples 96] [--seconds 10] [--clock wall]

Samples hold an image of 64 patches and a caption of 1 to 32 words (10 in the mean). A step is all that training does with them: masking,
packing, forward, backward, AdamW. Every variant runs in a process of its own, so that its peak memory is its own. `--clock cpu`
measures processor time, for machines that other work shares (one thread). The last line is one JSON document.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import torch
from plain_m3ae import PlainM3AE

from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.masking import pack_all
from mmtool.data.sample import Modality, Sample
from mmtool.methods.m3ae import M3AE, M3AEOptions
from mmtool.model.autoencoder import MaskedAutoencoder
from mmtool.model.inputs import masked_inputs
from mmtool.model.transformer import PRESETS, Shape
from mmtool.training.hardware import be_deterministic

PATCHES, VALUES, WORDS, LONGEST = 64, 48, 1000, 32
LAYOUT = layout_of(
    [
        Modality("image", "image", 0, (8, 8, VALUES), "grid", "0" * 64, PATCHES),
        Modality("text", "text", WORDS, None, "line", "1" * 64, LONGEST),
    ]
)
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
VARIANTS = {
    "plain, fp32": ("plain", torch.float32, False),
    "plain, bf16 autocast": ("plain", torch.bfloat16, False),
    "plain, bf16 autocast, compiled": ("plain", torch.bfloat16, True),
    "mmtool, fp32": ("ours", torch.float32, True),
    "mmtool, bf16, eager": ("ours", torch.bfloat16, False),
    "mmtool, bf16": ("ours", torch.bfloat16, True),
}
RATIO = 0.75


def samples(number: int) -> list[Sample]:
    random = np.random.default_rng(0)
    made = []
    for i in range(number):
        text = random.integers(WORDS, size=1 + min(LONGEST - 1, int(random.exponential(10)))).astype(np.uint16)
        made.append(Sample(str(i), {"image": random.integers(256, size=(PATCHES, VALUES)).astype(np.uint8), "text": text}))
    return made


def build(preset: str, dtype: torch.dtype) -> tuple[M3AE, MaskedAutoencoder]:
    method = M3AE(LAYOUT, CoOccurrence({frozenset(LAYOUT.names): 1}), M3AEOptions())
    model = method.model(Shape(**{**PRESETS[preset].to_json(), **method.shape_defaults}))
    model.init_weights(torch.Generator().manual_seed(0))
    model.compute_dtype = dtype
    return method, model


def ours(preset: str, dtype: torch.dtype, compiled: bool, data: list[Sample]) -> Iterator[float]:
    """One step per item."""
    method, model = build(preset, dtype)
    method.prepare(model, data)
    tokens = sum(1 + PATCHES + len(sample.tokens["text"]) for sample in data)
    pack = method.packer(method.size_batches(data, tokens, 0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(method.forward, dynamic=False) if compiled else method.forward
    for number in count():
        batch = pack([method.document(sample, np.random.default_rng((number, i))) for i, sample in enumerate(data)])
        loss = method.mean_loss(forward(model, *method.inputs(batch, torch.device("cpu"))), batch.num_targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield batch.num_documents


def plain(preset: str, dtype: torch.dtype, compiled: bool, data: list[Sample]) -> Iterator[float]:
    shape, decoder = PRESETS[preset], build(preset, dtype)[1].decoder_shape
    torch.manual_seed(0)
    model = PlainM3AE(
        PATCHES, VALUES, WORDS, LONGEST, (shape.depth, shape.width, shape.heads), (decoder.depth, decoder.width, decoder.heads)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    forward = torch.compile(model) if compiled else model
    for _ in count():
        image = torch.from_numpy(np.stack([sample.tokens["image"] for sample in data])).float() / 127.5 - 1
        text = torch.zeros(len(data), max(len(sample.tokens["text"]) for sample in data), dtype=torch.long)
        for row, sample in enumerate(data):
            text[row, : len(sample.tokens["text"])] = torch.from_numpy(sample.tokens["text"].astype(np.int64)) + 1
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            loss = forward(image, text, RATIO)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield len(data)


def rate(steps: Iterator[float], seconds: float, clock: Callable[[], float]) -> tuple[float, float]:
    """(units per second, median seconds of a step), after three steps to warm up."""
    for _ in range(3):
        next(steps)
    done, times = 0.0, []
    while sum(times) < seconds:
        started = clock()
        done += next(steps)
        times.append(clock() - started)
    return done / sum(times), float(np.median(times))


def encoding(preset: str, ratio: float, data: list[Sample]) -> Iterator[float]:
    """Forward and backward of the encoder alone, in bf16, compiled; yields the tokens of the samples, hidden ones included."""
    method, model = build(preset, torch.bfloat16)
    random = np.random.default_rng(0)
    documents = []
    for sample in data:
        hidden = {name: method.hide(ratio, len(sample.tokens[name]), random) for name in LAYOUT.names}
        documents.append(method.joined(sample, LAYOUT.names, hidden))
    given = masked_inputs(pack_all(documents, method.widths, method.varying), torch.device("cpu"))
    encode = torch.compile(model.encode, dynamic=False)
    for _ in count():
        encode(given.visible, given.patches).float().square().mean().backward()
        model.zero_grad(set_to_none=True)
        yield sum(map(len, documents))


def run(variant: str, options: argparse.Namespace) -> dict[str, float | str]:
    """Measure one variant in this process."""
    be_deterministic(torch.device("cpu"))
    data, clock = samples(options.samples), CLOCKS[options.clock]
    if variant in VARIANTS:
        kind, dtype, compiled = VARIANTS[variant]
        steps = {"ours": ours, "plain": plain}[kind](options.preset, dtype, compiled, data)
        speed, step = rate(steps, options.seconds, clock)
        return {"variant": variant, "samples_per_s": speed, "step_s": step, "peak_bytes": peak_bytes()}
    speed, _ = rate(encoding(options.preset, float(variant), data), options.seconds, clock)
    return {"variant": f"encoder, {float(variant):.0%} hidden", "tokens_per_s": speed}


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny", choices=PRESETS)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clock", default="wall", choices=CLOCKS)
    parser.add_argument("--variant", action="append", help="Only these; a number is a share of tokens hidden from the encoder.")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        print(json.dumps(run(options.inside, options)))
        return
    results = []
    for variant in options.variant or [*VARIANTS, "0", str(RATIO)]:
        command = [sys.executable, __file__, "--preset", options.preset, "--samples", str(options.samples)]
        command += ["--seconds", str(options.seconds), "--clock", options.clock, "--inside", variant]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        results.append(json.loads(done.stdout.splitlines()[-1]))
        told = {"samples_per_s": "{:9,.1f} samples/s", "tokens_per_s": "{:9,.0f} tokens/s", "step_s": "{:7.3f} s a step"}
        parts = [form.format(results[-1][name]) for name, form in told.items() if name in results[-1]]
        parts += [f"{results[-1]['peak_bytes'] / 2**20:,.0f} MiB at most"] if "peak_bytes" in results[-1] else []
        print(f"{results[-1]['variant']:32} {'  '.join(parts)}", file=sys.stderr)
    print(json.dumps({"results": results}))


if __name__ == "__main__":
    main()
