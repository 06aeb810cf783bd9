"""Small pictures of raw values: images as they are, sound as a log-mel spectrogram, text as written, table rows as bars, clips of
trajectories step by step."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmtool.kinds import kind_named, load
from mmtool.tokenizers.base import Tokenizer
from mmtool.tokenizers.table_rows import centre_and_scale

PAPER, INK, FAINT = "#ffffff", "#0f172a", "#e2e8f0"
POSITIVE, NEGATIVE = "#2563eb", "#d97706"
TEXT_SIZES = (16, 14, 12, 10)
LINES, MAX_LANES = ("#2563eb", "#d97706", "#0d9488", "#be185d"), 12  # colours of channels; more of these are not drawn


class Drawer(Protocol):
    """Draws values of one modality at `size` (width, height) in pixels, all to the scale of some real ones."""

    def __init__(self, tokenizer: Any, sample: Sequence[Any], size: tuple[int, int]) -> None: ...

    def __call__(self, value: Any) -> Image.Image: ...


class Thumbnails:
    """Draws the values of one modality, all to the same scale, at `size` (width, height) in pixels, as `mmtool.kinds` says.

    `sample` are some real values: the longest sound among them fills the width, and their range of levels the colours.
    """

    def __init__(self, tokenizer: Tokenizer, sample: Sequence[Any], size: tuple[int, int]) -> None:
        self._draw: Drawer = load(kind_named(tokenizer.kind).thumbnail)(tokenizer, sample, size)

    def __call__(self, value: Any) -> Image.Image:
        return self._draw(value)


class PictureDrawer:
    """Images as they are."""

    def __init__(self, tokenizer: Any, sample: Sequence[np.ndarray], size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, value: np.ndarray) -> Image.Image:
        """Enlarged by a whole factor where it is small, so that pixels stay sharp."""
        image = Image.fromarray(value[:, :, 0] if value.shape[2] == 1 else value).convert("RGB")
        ratio = min(self.size[0] / image.width, self.size[1] / image.height)
        scale = np.floor(ratio) if ratio >= 1 else ratio
        how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS
        image = image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))), how)
        sheet = Image.new("RGB", self.size, FAINT)
        sheet.paste(image, ((self.size[0] - image.width) // 2, (self.size[1] - image.height) // 2))
        return sheet


class SpectrogramDrawer:
    """Log-mel frames of sounds."""

    def __init__(self, tokenizer: Any, sample: Sequence[np.ndarray], size: tuple[int, int]) -> None:
        self.size = size
        self._features: Callable[[np.ndarray], np.ndarray] = tokenizer.features
        shown = [self._features(value) for value in sample]
        self._frames = max([1, *(len(frames) for frames in shown)])
        levels = np.concatenate([frames.reshape(-1) for frames in shown]) if shown else np.zeros(1)
        self._low, self._high = np.quantile(levels, (0.05, 0.999))

    def __call__(self, value: np.ndarray) -> Image.Image:
        """Time runs right (the longest real sound fills the width), frequency up; magma from quiet to loud."""
        frames = self._features(value)[: self._frames]
        sheet = Image.new("RGB", self.size, FAINT)
        if len(frames):
            loudness = np.clip((frames.T[::-1] - self._low) / max(self._high - self._low, 1e-9), 0, 1)
            colours = (matplotlib.colormaps["magma"](loudness)[:, :, :3] * 255).astype(np.uint8)
            width = max(1, round(self.size[0] * len(frames) / self._frames))
            sheet.paste(Image.fromarray(colours).resize((width, self.size[1]), Image.Resampling.BICUBIC), (0, 0))
        return sheet


class FilmDrawer:
    """Videos and what else is made of pictures, as some of these side by side: the tokenizer says which (`stills`)."""

    def __init__(self, tokenizer: Any, sample: Sequence[np.ndarray], size: tuple[int, int]) -> None:
        self.size = size
        self._stills: Callable[[np.ndarray, int], np.ndarray] = tokenizer.stills
        self._draw = PictureDrawer(tokenizer, (), (size[0] // 2, size[1] // 2))

    def __call__(self, value: np.ndarray) -> Image.Image:
        """Four pictures, line by line."""
        sheet = Image.new("RGB", self.size, FAINT)
        for place, picture in enumerate(self._stills(value, 4) if len(value) else ()):
            sheet.paste(self._draw(picture), (place % 2 * (self.size[0] // 2), place // 2 * (self.size[1] // 2)))
        return sheet


class LineDrawer:
    """Time series (steps, channels) as lines, each channel in a lane of its own."""

    def __init__(self, tokenizer: Any, sample: Sequence[np.ndarray], size: tuple[int, int]) -> None:
        self.size = size
        self._steps = max([2, *map(len, sample)])
        rows = np.concatenate(sample) if len(sample) else np.zeros((1, 1))
        self._low, self._high = np.quantile(rows, (0.002, 0.998), axis=0)

    def __call__(self, value: np.ndarray) -> Image.Image:
        """Time runs right (the longest real series fills the width); the range of the real ones fills a lane."""
        sheet = Image.new("RGB", self.size, PAPER)
        draw = ImageDraw.Draw(sheet)
        channels = min(value.shape[1], MAX_LANES)
        lane = self.size[1] / channels
        scaled = np.clip((value - self._low) / np.maximum(self._high - self._low, 1e-9), 0, 1)[: self._steps]
        across = np.arange(len(scaled)) * (self.size[0] - 1) / (self._steps - 1)
        for number in range(channels):
            down = number * lane + 1 + (1 - scaled[:, number]) * (lane - 3)
            draw.line((0, (number + 1) * lane - 1, self.size[0], (number + 1) * lane - 1), fill=FAINT)
            draw.line(list(zip(across.tolist(), down.tolist(), strict=True)), fill=LINES[number % len(LINES)])
        return sheet


class TextDrawer:
    """Texts as written."""

    def __init__(self, tokenizer: Any, sample: Sequence[str], size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, value: str) -> Image.Image:
        """In the largest type in which all of it fits; cut where none is small enough."""
        sheet = Image.new("RGB", self.size, PAPER)
        draw = ImageDraw.Draw(sheet)
        width, height = self.size[0] - 12, self.size[1] - 8
        for points in TEXT_SIZES:
            lines = wrap(value, font(points), width)
            if len(lines) * (points + 3) <= height:
                break
        lines = lines[: height // (points + 3)]
        top = (self.size[1] - len(lines) * (points + 3)) // 2
        for number, line in enumerate(lines):
            draw.text((self.size[0] / 2, top + number * (points + 3)), line, font=font(points), fill=INK, anchor="ma")
        return sheet


class RowDrawer:
    """Rows of tables as bars."""

    def __init__(self, tokenizer: Any, sample: Sequence[np.ndarray], size: tuple[int, int]) -> None:
        self.size = size
        self._numbers = tokenizer.one_hot.encode
        rows = self._numbers(np.stack(sample)) if len(sample) else np.zeros((1, 1))
        self._centre, self._width = centre_and_scale(rows.astype(np.float64))

    def __call__(self, value: np.ndarray) -> Image.Image:
        """One bar per feature, of categories one for each, in standard deviations from its mean (blue up, amber down, cut at 3)."""
        value = self._numbers(value[None])[0]
        sheet = Image.new("RGB", self.size, PAPER)
        draw = ImageDraw.Draw(sheet)
        middle, step = self.size[1] / 2, self.size[0] / len(value)
        draw.line((0, middle, self.size[0], middle), fill=FAINT)
        for place, score in enumerate(np.clip((value - self._centre) / self._width, -3, 3)):
            if np.isfinite(score):
                edges = sorted((middle, middle - score / 3 * (middle - 4)))
                draw.rectangle((place * step, edges[0], (place + 0.8) * step, edges[1]), fill=POSITIVE if score > 0 else NEGATIVE)
        return sheet


@cache
def font(points: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The type that matplotlib ships, set without optional libraries, so that pictures are the same on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, points, layout_engine=ImageFont.Layout.BASIC)


def wrap(text: str, face: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines no wider than `width` pixels, broken between words, and inside a word only where it is too long by itself."""
    lines = [""]
    for word in text.split():
        while word:
            joined = f"{lines[-1]} {word}".strip()
            if face.getlength(joined) <= width:
                lines[-1], word = joined, ""
            elif lines[-1]:
                lines.append("")
            else:
                fit = max(1, sum(face.getlength(word[:end]) <= width for end in range(1, len(word) + 1)))
                lines[-1], word = word[:fit], word[fit:]
                lines += [""] if word else []
    return lines
