"""How many threads OpenMP takes and how long idle ones spin: settled in the environment before torch is imported, for OpenMP reads it once.

GOMP_SPINCOUNT: threads that wait for each other spin for 3,000 rounds (microseconds) and sleep then. By default they spin for milliseconds,
in which they take the core from the very thread that they wait for wherever other processes run too. Measured on 2 cores (AVX2), tokens/s
in pretraining: alone 5,275 -> 5,426, beside two busy processes 1,342 -> 2,367.

OMP_NUM_THREADS: OpenMP counts the cores of the affinity mask, but knows no quota of a control group (`docker --cpus`, Kubernetes limits).
More threads than the quota pays for use it up early in every period, and all of them stand still for the rest of it.

What the user has set in the environment stays. Processes that are started from here inherit all of it.
"""

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

from mmtool.common.cgroups import CGROUPS, MEMBERSHIP, group_folders

SPIN_COUNT = 3000
NUM_THREADS = "OMP_NUM_THREADS"
POLICIES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # any of them says how threads are to wait


def set_thread_defaults(environ: MutableMapping[str, str], num_cpus: int, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> None:
    """Set what is not set yet. num_cpus: of the affinity mask; cgroups: the mounted control groups; membership: those of this process."""
    if not any(name in environ for name in POLICIES):
        environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
    quota = cpu_quota(cgroups, membership)
    if quota is not None and int(quota) < num_cpus:
        environ.setdefault(NUM_THREADS, str(max(1, int(quota))))


@contextmanager
def thread_limit(environ: MutableMapping[str, str], threads: int) -> Iterator[None]:
    """Processes that are started in the block take so many threads."""
    before = environ.get(NUM_THREADS)
    environ[NUM_THREADS] = str(threads)
    try:
        yield
    finally:
        if before is None:
            del environ[NUM_THREADS]
        else:
            environ[NUM_THREADS] = before


def affinity_cpus() -> int:
    """The number of cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def num_threads() -> int:
    """How many threads this process is to take: what the environment says, else the cores that it may use."""
    said = os.environ.get(NUM_THREADS, "")
    if said.isascii() and said.isdigit() and int(said):
        return int(said)
    return max(1, int(min(affinity_cpus(), cpu_quota() or affinity_cpus())))


def cpu_quota(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """The least number of cores that a control group of this process, or one above it, grants; None where none is limited."""
    folders = group_folders("cpu", cgroups, membership)
    return min((quota for folder in folders if (quota := _quota(folder)) is not None), default=None)


def _quota(folder: Path) -> float | None:
    """Cores that one group may use: microseconds of computing in a period, by the microseconds of the period."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
