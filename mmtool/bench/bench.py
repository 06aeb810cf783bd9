"""The bench: limits of this machine, and what the stages make of them."""

import contextlib
import io
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmtool.bench.limits import DTYPES, disk_rates, memory_rate, product_rate
from mmtool.bench.stages import decode_rate, load_rate, make_token_set, tokenize_rate, train_rate
from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.common.threads import affinity_cpus
from mmtool.model.transformer import PRESETS
from mmtool.training.hardware import pick_device, pick_precision


@dataclass(frozen=True)
class BenchConfig:
    """preset: size of the transformer. compiled: train with torch.compile, which takes a minute more. seconds: for each rate.

    copy_bytes, disk_bytes: moved for the rates of memory and disk. samples: made up. batch_tokens, steps: of training. rows, prompt, drawn:
    sequences decoded at once, tokens given and drawn of each.
    """

    preset: str = "tiny"
    compiled: bool = False
    seconds: float = 1.0
    copy_bytes: int = 1 << 28
    disk_bytes: int = 1 << 28
    samples: int = 4000
    batch_tokens: int = 2048
    steps: int = 20
    rows: int = 64
    prompt: int = 16
    drawn: int = 32


def bench(config: BenchConfig, folder: Path) -> dict[str, Any]:
    """Rates of machine and stages, as JSON values; `folder`: on the disk to be measured, nothing is left there.

    Every stage has a `share` of its limit, which `limit` names. Raises UsageError for a preset that there is not.
    """
    if config.preset not in PRESETS:
        raise UsageError(f"there is no preset {config.preset!r}.", where="--preset", fix=f"Presets: {', '.join(PRESETS)}.")
    device = pick_device()
    log("measuring the machine")
    limits = _limits(config, device, folder)
    stages = {}
    with tempfile.TemporaryDirectory(dir=folder, prefix="mmtool-bench-") as working:
        context = _Context(device, pick_precision("auto", device), limits, Path(working))
        for name, measure in STAGES.items():
            log(f"measuring: {name}")
            with contextlib.redirect_stderr(io.StringIO()):  # what the stages themselves say
                stages[name] = measure(config, context)
    return {"machine": _machine(device), "preset": config.preset, "compiled": config.compiled, "limits": limits, "stages": stages}


def _machine(device: torch.device) -> dict[str, Any]:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
        "cores": affinity_cpus(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load": load,
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _limits(config: BenchConfig, device: torch.device, folder: Path) -> dict[str, float]:
    products = {f"products_{name}": product_rate(device, dtype, config.seconds) for name, dtype in DTYPES.items()}
    disk = {f"disk_{name}": rate for name, rate in disk_rates(folder, config.disk_bytes).items()}
    return {**products, "memory": memory_rate(device, config.copy_bytes, config.seconds), **disk}


@dataclass(frozen=True)
class _Context:
    """What a stage is measured with: the device, the type of activations, the limits, and a folder to work in."""

    device: torch.device
    dtype: torch.dtype
    limits: dict[str, float]
    folder: Path

    @property
    def products(self) -> str:
        """Name of the limit of the matrix products of a training."""
        return "products_bf16" if self.dtype == torch.bfloat16 else "products_fp32"


def _load(config: BenchConfig, context: _Context) -> dict[str, Any]:
    data = make_token_set(context.folder / "shards", config.samples)
    rate = load_rate(data, config.batch_tokens, config.seconds)
    return {**rate, "share": rate["bytes_per_s"] / context.limits["memory"], "limit": "memory"}


def _train(config: BenchConfig, context: _Context) -> dict[str, Any]:
    if not (context.folder / "shards").exists():
        make_token_set(context.folder / "shards", config.samples)
    rate = train_rate(context.folder / "shards", context.folder / "run", config.preset, config.batch_tokens, config.steps, config.compiled)
    return {**rate, "share": rate.pop("flops_per_s") / context.limits[context.products], "limit": context.products}


def _decode(config: BenchConfig, context: _Context) -> dict[str, Any]:
    allowed = context.limits[context.products], context.limits["memory"]
    sizes = config.rows, config.prompt, config.drawn
    rate = decode_rate(config.preset, *sizes, context.device, context.dtype, allowed, config.seconds)
    return {**rate, "limit": f"{context.products} and memory"}


def _tokenize(config: BenchConfig, context: _Context) -> dict[str, Any]:
    rate = tokenize_rate(context.folder, config.samples)
    return {**rate, "share": rate["bytes_per_s"] / context.limits["disk_read"], "limit": "disk_read"}


STAGES = {"load": _load, "train": _train, "decode": _decode, "tokenize": _tokenize}
