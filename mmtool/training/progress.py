"""What a training says to a person on standard error: what it sets out to do, and then how far it is."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmtool.common.log import PLAIN_EVERY_S, log, on_terminal

if TYPE_CHECKING:
    from mmtool.training.loop import Loop

NOT_YET, UNREPORTED, UNKNOWN = "the first step prepares what the others use", "no loss reported yet", "-:--"


def announce(loop: "Loop", samples: int, tokens: int | None, output: Path) -> None:
    """One line before a long training: of what size, on what, on how much data, until when, and where it goes.

    tokens: None where a training counts none.
    """
    parameters = sum(parameter.numel() for parameter in loop.model.parameters() if parameter.requires_grad)
    data = f"{samples:,} samples" + ("" if tokens is None else f" of {tokens:,} tokens")
    config = loop.config
    ends = [f"step {config.steps:,}"] * bool(config.steps) + [f"{config.minutes:g} minutes"] * bool(config.minutes)
    begins = f"from step {loop.step:,} " if loop.step else ""
    log(f"training {parameters:,} parameters on {_machine(loop)}: {data}, {begins}to {' or '.join(ends)}, into {output}")


def _machine(loop: "Loop") -> str:
    precision = {torch.float32: "fp32", torch.bfloat16: "bf16"}.get(getattr(loop.model, "compute_dtype", torch.float32), "fp16")
    if loop.device.type == "cuda":
        return f"{torch.cuda.get_device_name(loop.device)} ({precision})"
    threads = torch.get_num_threads()
    return f"the CPU ({threads} thread{'' if threads == 1 else 's'}, {precision})"


class LiveLine:
    """The state of a training: a bar that is redrawn several times a second on a terminal, a line every ten seconds elsewhere.

    On a terminal it must be hidden while anything else shows a bar.
    """

    def __init__(self) -> None:
        self._last, self._details, self._bar = time.monotonic(), "", None
        if on_terminal():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
            from rich.table import Column

            details = TextColumn("{task.fields[details]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
            columns = (
                TextColumn("{task.description}"),
                BarColumn(12),
                TaskProgressColumn(),
                TextColumn("{task.fields[left]} left"),
                details,
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, expand=True)
            self._task = self._bar.add_task("step 0", total=1.0, left=UNKNOWN, details=NOT_YET)

    def show(self, step: int, progress: float, left_s: float | None, record: dict[str, Any] | None = None) -> None:
        """After a step. record: the report of the last ones, where one was made."""
        if record is not None:
            losses = " ".join(f"{name} {value:.3f}" for name, value in record["loss"].items())
            self._details = f"{_speed(record)} | loss {losses}"
        else:
            self._details = {"": NOT_YET, NOT_YET: UNREPORTED}.get(self._details, self._details)
        if self._bar is not None:
            self._bar.start()
            self._bar.update(self._task, description=f"step {step:,}", completed=progress, left=_clock(left_s), details=self._details)
        elif time.monotonic() - self._last > PLAIN_EVERY_S:
            self._last = time.monotonic()
            log(f"step {step} | {100 * progress:.0f}% | {_clock(left_s)} left | {self._details}")

    def hide(self) -> None:
        """Until the next step."""
        if self._bar is not None:
            self._bar.stop()

    def end(self) -> None:
        """Leave the last report on the terminal."""
        self.hide()
        if self._bar is not None and self._details not in ("", NOT_YET, UNREPORTED):
            log(self._details)


def _speed(record: dict[str, Any]) -> str:
    if "samples_per_s" in record:
        return f"{record['samples_per_s']:,.0f} samples/s"
    return f"{record['tokens_per_s']:,.0f} tokens/s ({record['hardware_share']:.0%} of the limit)"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    minutes, seconds = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
