"""What this machine reaches at best: matrix products, memory, disk. All that a training does is held against these."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LARGEST_PRODUCT = {"cpu": 2048, "cuda": 8192}  # rows
BLOCK = 1 << 22  # bytes written at once


def best_rate(amount: float, call: Callable[[], object], seconds: float, device: torch.device | None = None) -> float:
    """The most of `amount` per second in repeated calls, for about so long; two calls at least, the first of which does not count."""
    call()
    best, started = 0.0, time.perf_counter()
    while not best or time.perf_counter() - started < seconds:
        before = _clock(device)
        call()
        best = max(best, amount / max(_clock(device) - before, 1e-9))
    return best


def product_rate(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """FLOP/s of products of square matrices: of larger and larger ones, as long as one of them takes little of the time."""
    best, size = 0.0, 128
    while size <= LARGEST_PRODUCT[device.type]:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        best = max(best, best_rate(2 * size**3, lambda a=a, b=b: a @ b, seconds / 8, device))  # type: ignore[misc]
        size *= 2
        if 2 * size**3 / best > seconds / 4:
            break
    return best


def memory_rate(device: torch.device, num_bytes: int, seconds: float) -> float:
    """Bytes read and written per second in copies of `num_bytes`."""
    source = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return best_rate(2 * num_bytes, lambda: target.copy_(source), seconds, device)


def disk_rates(folder: Path, num_bytes: int) -> dict[str, float]:
    """Bytes per second written to a file in `folder` and kept, and read from it, where the system lets go of what it holds in memory."""
    block = os.urandom(min(BLOCK, num_bytes))
    with tempfile.NamedTemporaryFile(dir=folder, prefix="mmtool-bench-") as file:
        started = time.perf_counter()
        for _ in range(num_bytes // len(block)):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        written = time.perf_counter() - started
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        started = time.perf_counter()
        with open(file.name, "rb", buffering=0) as again:
            while again.read(BLOCK):
                pass
        read = time.perf_counter() - started
    total = num_bytes // len(block) * len(block)
    return {"write": total / max(written, 1e-9), "read": total / max(read, 1e-9)}


def _clock(device: torch.device | None) -> float:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
