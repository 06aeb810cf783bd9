"""What of this machine a command uses, light enough for the command line to import (no torch)."""

from dataclasses import dataclass
from typing import Annotated

from mmtool.common.bounds import Natural
from mmtool.common.options import Option

MACHINE = "Machine"  # panel of the help


@dataclass(frozen=True)
class Machine:
    """Where a command computes, and with how many threads (see `training.hardware.using`)."""

    device: Annotated[str, Option(metavar="NAME", default="the GPU if there is one", panel=MACHINE)] = ""
    """cpu, cuda, or one of several GPUs: cuda:1."""
    threads: Annotated[Natural, Option(default="one per core", panel=MACHINE)] = 0
    """Threads of the CPU. Results may differ in the last digits between numbers of threads."""
