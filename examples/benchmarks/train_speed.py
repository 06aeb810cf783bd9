"""Tokens per second of a training step: attention kernels, precision and compilation against each other and the hardware limit.

    python examples/benchmarks/train_speed.py [--preset tiny] [--rows 32] [--length 128] [--seconds 5]

Each variant runs the same packed batch (documents of 40 tokens) with AdamW; the last column is the share of what a large matrix product
of that precision reaches here.
"""

import argparse
import time

import numpy as np
import torch

from mmtool.data.layout import layout_of
from mmtool.data.packing import BatchShape, pack
from mmtool.data.sample import Modality
from mmtool.data.sequence import concatenate, segment
from mmtool.model import attention
from mmtool.model.losses import loss_sums
from mmtool.model.masks import attention_mask
from mmtool.model.transformer import PRESETS, Transformer
from mmtool.training.hardware import be_deterministic, matmul_limit, pick_device

LAYOUT = layout_of(
    [Modality("image", "image", 240, (4, 4), "grid", "0" * 64, 16), Modality("speech", "audio", 512, None, "line", "1" * 64, 24)]
)
VARIANTS = [
    ("explicit, bf16, compiled", torch.bfloat16, 256, True),
    ("fused, bf16, compiled", torch.bfloat16, 0, True),
    ("explicit, fp32, compiled", torch.float32, 256, True),
    ("explicit, bf16, eager", torch.bfloat16, 256, False),
]


def batch(rows: int, length: int, device: torch.device):
    random = np.random.default_rng(0)
    documents = [
        concatenate([segment(LAYOUT, 0, random.integers(240, size=16)), segment(LAYOUT, 1, random.integers(512, size=22))])
        for _ in range(rows * length // 40)
    ]
    packed = pack(documents, BatchShape(rows, length, (rows * length, rows * length)))
    arrays = (packed.tokens, packed.modality, packed.slot, packed.position)
    inputs = [torch.from_numpy(array).to(device) for array in arrays]
    mask = attention_mask(torch.from_numpy(packed.document).to(device), inputs[1], "past")
    target_indices, targets = ([torch.from_numpy(array).to(device) for array in part] for part in (packed.target_indices, packed.targets))
    return inputs, mask, target_indices, targets


def measure(
    preset: str, dtype: torch.dtype, explicit_up_to: int, compiled: bool, rows: int, length: int, seconds: float
) -> tuple[float, float]:
    """(tokens per second, share of the matrix product limit)."""
    device = pick_device()
    attention.EXPLICIT_MAX_LENGTH = explicit_up_to
    torch._dynamo.reset()
    model = Transformer(PRESETS[preset], LAYOUT)
    model.init_weights(torch.Generator().manual_seed(0))
    model.to(device).compute_dtype = dtype
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    inputs, mask, target_indices, targets = batch(rows, length, device)

    def loss() -> torch.Tensor:
        return loss_sums(model, model(*inputs, mask), target_indices, targets).sum() / (rows * length)

    run = torch.compile(loss, dynamic=False) if compiled else loss
    steps, started = -3, time.perf_counter()
    while steps <= 0 or time.perf_counter() - started < seconds:
        if steps == 0:
            started = time.perf_counter()
        run().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        steps += 1
    speed = steps * rows * length / (time.perf_counter() - started)
    return speed, speed * model.flops_per_token(length) / matmul_limit(device, dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="tiny", choices=PRESETS)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    be_deterministic(pick_device())
    print(f"{'variant':28} {'tokens/s':>10} {'of the limit':>13}")
    for name, dtype, explicit_up_to, compiled in VARIANTS:
        speed, share = measure(options.preset, dtype, explicit_up_to, compiled, options.rows, options.length, options.seconds)
        print(f"{name:28} {speed:10,.0f} {share:13.0%}")


if __name__ == "__main__":
    main()
