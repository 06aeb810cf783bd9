"""Small pictures of trajectories: steps run right, the streams lie below each other, named numbers as colours, amounts as bars."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from mmtool.tokenizers.base import Tokenizer

PAPER, FAINT = "#ffffff", "#e2e8f0"
POSITIVE, NEGATIVE = "#2563eb", "#d97706"
GAP = 3
MAX_BARS = 3  # numbers per step that are drawn as bars; more are cells of a heat map


class ClipDrawer:
    """Draws clips of one tokenizer at `size` (width, height) in pixels; `sample` are some real ones, whose range sets the scales."""

    def __init__(self, tokenizer: Tokenizer, sample: Sequence[Mapping[str, np.ndarray]], size: tuple[int, int]) -> None:
        self.size = size
        self._streams: Sequence[Any] = tokenizer.streams  # type: ignore[attr-defined]  # trajectory tokenizers have them
        rows = {
            stream.name: np.concatenate([_rows(stream, clip) for clip in sample] or [np.ones((1, stream.width))])
            for stream in self._streams
        }
        self._reach = {name: np.abs(values).max(0) + 1e-9 for name, values in rows.items()}

    def __call__(self, clip: Mapping[str, np.ndarray]) -> Image.Image:
        sheet = Image.new("RGB", self.size, FAINT)
        room = self.size[1] - GAP * (len(self._streams) - 1)
        for place, stream in enumerate(self._streams):
            top = place * (room // len(self._streams) + GAP)
            bottom = self.size[1] if place == len(self._streams) - 1 else top + room // len(self._streams)
            sheet.paste(self._band(stream, _rows(stream, clip), bottom - top), (0, top))
        return sheet

    def _band(self, stream: Any, rows: np.ndarray, height: int) -> Image.Image:
        if stream.binning == "whole":
            return self._cells(_colours(rows.astype(np.int64)), height)
        scaled = np.clip(rows / self._reach[stream.name], -1, 1)
        if stream.width > MAX_BARS:
            return self._cells(matplotlib.colormaps["PuOr_r"](scaled / 2 + 0.5)[..., :3], height)
        return self._bars(scaled, height)

    def _cells(self, colours: np.ndarray, height: int) -> Image.Image:
        """(steps, width, 3) in [0, 1]: a column per step."""
        pixels = (colours.swapaxes(0, 1) * 255).astype(np.uint8)
        return Image.fromarray(pixels).resize((self.size[0], height), Image.Resampling.NEAREST)

    def _bars(self, scaled: np.ndarray, height: int) -> Image.Image:
        """(steps, width) in [-1, 1]: up and blue, down and amber; from the floor where nothing is negative."""
        band = Image.new("RGB", (self.size[0], height), PAPER)
        draw = ImageDraw.Draw(band)
        step = self.size[0] / len(scaled)
        zero = (height - 1) / 2 if (scaled < 0).any() else height - 1
        draw.line((0, zero, self.size[0], zero), fill=FAINT)
        for place, values in enumerate(scaled):
            for number, value in enumerate(values):
                left = (place + number / len(values)) * step
                edges = sorted((zero, zero - value * (zero - 1)))
                if value:
                    right = left + max(1.0, 0.8 * step / len(values))
                    draw.rectangle((left, edges[0], right, edges[1]), fill=POSITIVE if value > 0 else NEGATIVE)
        return band


def _rows(stream: Any, clip: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.asarray(clip[stream.name]).reshape(-1, stream.width)


def _colours(numbers: np.ndarray) -> np.ndarray:
    """0 is paper, every other number one of 20 colours."""
    palette = np.concatenate([np.ones((1, 3)), matplotlib.colormaps["tab20"](np.arange(20))[:, :3]])
    return palette[np.where(numbers == 0, 0, (numbers - 1) % 20 + 1)]
