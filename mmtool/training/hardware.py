"""What this machine offers: device, precision, a compiler, and the speed limit that training is held against."""

import os
import shutil
import sysconfig
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch

from mmtool.common.bounds import Natural, check_range
from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.common.threads import affinity_cpus, thread_limit

NARROW_ISAS = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")  # of oneDNN, without bf16
MOST_WORKERS = 4
_chosen: ContextVar[str] = ContextVar("device", default="")
_limits: dict[tuple[torch.device, torch.dtype], float] = {}


def pick_device(choice: str = "") -> torch.device:
    """The device of this name, else the one that is in use (see `using`), else a GPU where there is one. Raises UsageError where there is
    no such device."""
    name = choice or _chosen.get()
    if not name:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(name)
    return torch.device(name)


@contextmanager
def using(device: str = "", threads: int = 0) -> Iterator[None]:
    """Compute on a device ("": a GPU where there is one) with so many threads (0: as usual), in the block and in processes started in it.

    Raises UsageError where there is no such device.
    """
    with ExitStack() as stack:
        if device:
            stack.callback(_chosen.reset, _chosen.set(device))
            index = pick_device().index
            if index is not None:
                stack.enter_context(torch.cuda.device(index))
        if threads:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            stack.enter_context(thread_limit(os.environ, threads))
            torch.set_num_threads(threads)
        yield


def _check_device(name: str) -> None:
    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (colon and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"{name!r} is no device.", where="--device", fix="Give cpu, cuda, or cuda:NUMBER of one of several GPUs.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError("there is no GPU that PyTorch can use.", where="--device", fix="Give cpu, or install a driver and PyTorch for it.")
    if number and int(number) >= (count := torch.cuda.device_count()):
        raise UsageError(f"there is no {name}: this machine has {count}.", where="--device", fix=f"Count from cuda:0 to cuda:{count - 1}.")
    if number and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("each process of torchrun takes its own GPU.", where="--device", fix="Leave the number out.")


def pick_workers(choice: int | None, device: torch.device, num_trainings: int = 1) -> int:
    """Processes that make batches beside a training: as many as were asked for; else on a CPU none, for its cores are busy training, and
    beside a GPU some of this training's share of the cores. num_trainings: on this machine. Raises UsageError for fewer than none."""
    if choice is not None:
        check_range("workers", choice, Natural, "--workers")
        return choice
    return 0 if device.type == "cpu" else min(MOST_WORKERS, max(0, affinity_cpus() // num_trainings - 1))


def matmul_limit(device: torch.device, dtype: torch.dtype, reached: float = 0.0) -> float:
    """FLOP/s of a large matrix product, measured once (about 0.2 s): the hardware limit of a transformer. reached: FLOP/s of something;
    where that is more, the limit was measured while something else took the machine, and is measured again."""
    known = _limits.get((device, dtype), 0.0)
    if not known or reached > known:
        known = _limits[device, dtype] = max(known, _product_rate(device, dtype))
    return known


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    size = 8192 if device.type == "cuda" else 1024
    generator = torch.Generator(device).manual_seed(0)  # of its own: it may be measured in the midst of a training
    a, b = (torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
    _ = a @ b
    rates = []
    for _ in range(5):
        start = _clock(device)
        _ = a @ b
        rates.append(2 * size**3 / (_clock(device) - start))
    return max(rates)


def check_memory(parameters: int, where: object) -> None:
    """Raise DataError where a file asks for a model that this machine cannot hold, before anything is allocated."""
    held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * parameters > held:
        what = f"it describes a model of {parameters:.3g} parameters, which do not fit into the {held >> 30} GiB of this machine."
        raise DataError(what, where=where, fix="Use a machine with more memory, or restore the file if it was changed.")


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def be_deterministic(device: torch.device) -> None:
    """Same seed, same bits on this machine: sums over tokens run in a fixed order (torch's default scatters race between threads)."""
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # filling halves the speed on a CPU


def pick_precision(choice: str, device: torch.device) -> torch.dtype:
    """bf16 where the matrix units make it faster than fp32 (measured on a CPU), else fp32."""
    if choice != "auto":
        return torch.bfloat16 if choice == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if _has_bf16_units() else torch.float32


def _has_bf16_units() -> bool:
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in NARROW_ISAS:  # what oneDNN may not use is as good as absent
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "amx_bf16" in flags or "avx512_bf16" in flags


def pick_compile(choice: str, device: torch.device) -> bool:
    """Whether to run the step under torch.compile; logs once why not."""
    if choice == "off":
        return False
    reason = why_no_compiler(device)
    if reason:
        log(f"running eagerly, without torch.compile: {reason}")
    return reason is None


def why_no_compiler(device: torch.device) -> str | None:
    """None when torch.compile can build kernels here, otherwise the reason."""
    compilers = (os.environ.get("CXX"), "g++", "clang++")
    if device.type == "cpu" and not any(name and shutil.which(name) for name in compilers):
        return "there is no C++ compiler (install g++ for about twice the speed)"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return "the Python headers are missing (install python3-dev for about twice the speed)"
    return None
