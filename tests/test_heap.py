"""Promise: memory that is freed and needed again at once is not fetched from the system each time, and what the user has set stays."""

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
import mmtool, torch

x = torch.randn(5600, 128).bfloat16()
def norm():
    wide = x.float()
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True))).to(x.dtype)
for _ in range(5):
    norm()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    norm()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment: str) -> int:
    """Pages that 20 norms of activations fetched."""
    known = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, env={**known, **environment}, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of glibc alone is told")
def test_freed_memory_is_used_again_unless_the_user_wants_otherwise() -> None:
    fetched_each_time = faults(MALLOC_TRIM_THRESHOLD_="131072", MALLOC_MMAP_THRESHOLD_="131072")
    assert fetched_each_time > 10_000
    assert faults() < fetched_each_time / 10
