"""Images: a learned convolutional codec with FSQ codes on a grid, or raw uint8 patches for continuous methods.

Raw values are (H, W, C) uint8 of any size and mode; a tokenizer brings them to its own.
"""

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import gcd, prod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from mmtool.common.bounds import Count
from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import write_bytes
from mmtool.tokenizers.base import Positions, check_settings
from mmtool.tokenizers.codec import CODEC_SETTINGS, LEARNING_RATE, Batch, Codec, CodecShape, fit_codec, hold_out, in_batches
from mmtool.tokenizers.fsq import code_usage, levels_of

RESIZE: dict[str, Callable[..., Image.Image]] = {"stretch": Image.Image.resize, "contain": ImageOps.pad, "cover": ImageOps.fit}
CHANNELS = {"L": 1, "RGB": 3}
CODE_BATCH = 64
MIN_CELLS, MAX_CELLS, SMALL = 4, 16, 32  # tokens along a side by default; pixels along that of a small image
MAX_BATCH, BATCH_PIXELS = 64, 1 << 18  # of a training batch: what 2 cores go through in about 0.1 s
MAX_SIDE = 4096  # of an image in pixels
FORMAT_SETTINGS = {"size": int | list | tuple, "mode": str, "fit": str, "patch": Count}


@dataclass(frozen=True)
class ImageFormat:
    """What images are brought to. size: (height, width) in pixels; mode: L (grey) or RGB; patch: side of a token's square in pixels;
    fit: how another aspect ratio is handled: stretch, contain (black borders) or cover (cropped)."""

    size: tuple[int, int]
    mode: str
    patch: int
    fit: str = "stretch"

    @property
    def grid(self) -> tuple[int, int]:
        return self.size[0] // self.patch, self.size[1] // self.patch

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "size": list(self.size)}

    @classmethod
    def of(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any]) -> "ImageFormat":
        """The settings, and what they leave open taken from the images. Raises UsageError where that is impossible."""
        if not values:
            raise DataError("there are no training images to fit a tokenizer on.", fix="Check the paths and the split fractions.")
        size = _size(settings.get("size"), values)
        mode = settings.get("mode") or ("L" if all(value.shape[2] == 1 for value in values) else "RGB")
        fit = settings.get("fit", "stretch")
        if mode not in CHANNELS or fit not in RESIZE:
            raise UsageError(f"mode {mode!r} or fit {fit!r} is unknown.", where="--set", fix=f"Modes: L, RGB. Fits: {', '.join(RESIZE)}.")
        patch = int(settings.get("patch") or _default_patch(size))
        if patch < 1 or size[0] % patch or size[1] % patch:
            fix = f"Choose a divisor of both, e.g. {gcd(*size)}."
            raise UsageError(f"patches of {patch} pixels do not tile {size[0]} x {size[1]}.", where="--set patch", fix=fix)
        return cls(size, mode, patch, fit)

    def bring(self, value: np.ndarray) -> np.ndarray:
        """An image of any size and mode as (H, W, C) uint8 of this format; nothing is resampled where it has the size already."""
        if value.ndim != 3 or value.shape[2] not in (1, 3) or value.dtype != np.uint8:
            raise DataError(f"an image must be (height, width, 1 or 3) uint8, not {value.shape} {value.dtype}.")
        if value.shape == (*self.size, CHANNELS[self.mode]):
            return value
        picture: Image.Image = Image.fromarray(value[..., 0] if value.shape[2] == 1 else value).convert(self.mode)
        height, width = self.size
        if picture.size != (width, height):
            picture = RESIZE[self.fit](picture, (width, height), Image.Resampling.LANCZOS)
        return np.asarray(picture).reshape(height, width, CHANNELS[self.mode])


def resized(value: np.ndarray, settings: Mapping[str, Any]) -> np.ndarray:
    """An image at the size and mode of the settings, as far as they say them; `ImageFormat.bring` makes the same of it as of the original.
    Raises UsageError for an impossible size."""
    mode, fit = settings.get("mode") or ("L" if value.shape[-1] == 1 else "RGB"), settings.get("fit", "stretch")
    if settings.get("size") is None or mode not in CHANNELS or fit not in RESIZE:  # which fitting says
        return value
    return ImageFormat(_size(settings["size"], []), mode, 1, fit).bring(value)


class ImageTokenizer:
    """What both schemes share."""

    kind: ClassVar[str] = "image"
    positions: Positions = "grid"
    format: ImageFormat

    def write(self, value: np.ndarray, stem: Path) -> Path:
        """Write an image as `stem`.png."""
        path, data = stem.with_name(stem.name + ".png"), io.BytesIO()
        Image.fromarray(value[..., 0] if value.shape[2] == 1 else value).save(data, "PNG")
        write_bytes(path, data.getvalue())
        return path


class ImageCodecTokenizer(ImageTokenizer):
    """(H, W, C) uint8 <-> one FSQ code per patch, row by row.

    Settings of `fit`: size, mode, fit, patch (see ImageFormat); codebook (64 ... 65536 codes) or levels (of FSQ); width, depth, steps,
    batch, learning_rate of the codec. Reported on held-out training images: mean squared error of pixels in [0, 1], PSNR in dB,
    codebook usage.
    """

    scheme: ClassVar[str] = "codec"
    SETTINGS = FORMAT_SETTINGS | CODEC_SETTINGS

    def __init__(self, form: ImageFormat, codec: Codec) -> None:
        self.format, self.codec = form, codec
        self.vocabulary_size, self.shape = prod(codec.shape.levels), form.grid
        self.report: dict[str, Any] = {}

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        """Train the codec on images. Raises UsageError for settings that make no sense."""
        check_settings(settings, cls.SETTINGS, "image codec")
        form = ImageFormat.of(values, settings)
        images = torch.from_numpy(np.stack([form.bring(value) for value in values])).permute(0, 3, 1, 2).contiguous()
        train, held_out = (images[part] for part in hold_out(len(images), seed))
        shape = CodecShape(
            CHANNELS[form.mode],
            (form.patch, form.patch),
            levels_of(settings, 256),
            settings.get("width", 64),
            settings.get("depth", 2),
            detail=8,
        )
        batch = settings.get("batch", max(1, min(MAX_BATCH, BATCH_PIXELS // prod(form.size))))

        def draw(generator: torch.Generator) -> Batch:
            return _signal(train[torch.randint(len(train), (batch,), generator=generator)]), None

        steps, rate = settings.get("steps", 1000), settings.get("learning_rate", LEARNING_RATE)
        codec = fit_codec(shape, draw, steps=steps, learning_rate=rate, seed=seed, description="fitting the image codec")
        tokenizer = cls(form, codec)
        tokenizer.report = tokenizer._measure(held_out)
        return tokenizer

    def _measure(self, images: Tensor) -> dict[str, Any]:
        codes = self._encode(images)
        error = float(((self._decode(codes).float() - images.float()) / 255).square().mean())
        return {"mse": error, "psnr_db": float(-10 * np.log10(max(error, 1e-10))), **code_usage(codes.numpy(), self.vocabulary_size)}

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes (rows * columns,) of each image."""
        if not values:
            return []
        images = torch.from_numpy(np.stack([self.format.bring(value) for value in values])).permute(0, 3, 1, 2)
        return list(self._encode(images).flatten(1).numpy())

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Images (H, W, C) uint8."""
        if not len(tokens):
            return []
        codes = torch.from_numpy(np.stack(tokens).astype(np.int64)).view(-1, *self.shape)
        return list(self._decode(codes).permute(0, 2, 3, 1).numpy())

    def _encode(self, images: Tensor) -> Tensor:
        return in_batches(lambda part: self.codec.encode(_signal(part)), images, CODE_BATCH)

    def _decode(self, codes: Tensor) -> Tensor:
        return in_batches(lambda part: _pixels(self.codec.decode(part)), codes, CODE_BATCH)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return self.codec.tensors(), {"format": self.format.to_json(), "codec": self.codec.shape.to_json()}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        form = ImageFormat(**{**settings["format"], "size": tuple(settings["format"]["size"])})
        return cls(form, Codec.from_tensors(CodecShape.from_json(settings["codec"]), tensors))


class ImagePatchTokenizer(ImageTokenizer):
    """(H, W, C) uint8 <-> (rows * columns, patch * patch * C) uint8 patches: continuous, nothing is lost.

    Settings of `fit`: size, mode, fit, patch (see ImageFormat).
    """

    scheme: ClassVar[str] = "patches"
    vocabulary_size = 0
    SETTINGS = FORMAT_SETTINGS

    def __init__(self, form: ImageFormat) -> None:
        self.format = form
        self.shape = (*form.grid, form.patch**2 * CHANNELS[form.mode])
        self.report: dict[str, Any] = {}

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        check_settings(settings, cls.SETTINGS, "image patches")
        return cls(ImageFormat.of(values, settings))

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        (rows, columns), patch = self.format.grid, self.format.patch
        brought = [self.format.bring(value).reshape(rows, patch, columns, patch, -1) for value in values]
        return [image.transpose(0, 2, 1, 3, 4).reshape(rows * columns, -1) for image in brought]

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        (rows, columns), patch = self.format.grid, self.format.patch
        cells = [patches.reshape(rows, columns, patch, patch, -1).transpose(0, 2, 1, 3, 4) for patches in tokens]
        return [image.reshape(*self.format.size, -1) for image in cells]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {}, {"format": self.format.to_json()}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        return cls(ImageFormat(**{**settings["format"], "size": tuple(settings["format"]["size"])}))


def _signal(images: Tensor) -> Tensor:
    """(B, C, H, W) uint8 -> float32 in [-1, 1]."""
    return images.float() / 127.5 - 1


def _pixels(signal: Tensor) -> Tensor:
    return ((signal + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def _size(wanted: Any, values: Sequence[np.ndarray]) -> tuple[int, int]:
    if wanted is not None:
        sides = tuple(wanted) if isinstance(wanted, list | tuple) else (wanted, wanted)
        if len(sides) != 2 or not all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in sides):
            fix = f"Give one side, 64, or height and width, [48,64], from 1 to {MAX_SIDE} pixels."
            raise UsageError(f"{wanted} is no size.", where="--set size", fix=fix)
        return sides
    sizes = Counter(value.shape[:2] for value in values)
    if len(sizes) > 1:
        common = ", ".join(f"{height} x {width} ({count})" for (height, width), count in sizes.most_common(3))
        fix = "Say which they shall have, e.g. --set size=64."
        raise UsageError(f"the images come in {len(sizes)} sizes: {common} ...", where="--set size", fix=fix)
    return next(iter(sizes))


def _default_patch(size: tuple[int, int]) -> int:
    """4 to 16 tokens along each side: as few as possible up to 32 pixels, as many as possible beyond. Raises UsageError where no
    square patch does that."""
    common = [patch for patch in range(1, min(size) + 1) if size[0] % patch == 0 and size[1] % patch == 0]
    good = [patch for patch in common if max(size) // patch <= MAX_CELLS and (min(size) // patch >= MIN_CELLS or patch == 1)]
    if not good:
        fix = "Choose a size with more divisors, e.g. --set size=32, or a patch, --set patch=8."
        raise UsageError(f"no square patch cuts {size[0]} x {size[1]} pixels into few enough tokens.", where="--set patch", fix=fix)
    return good[-1] if max(size) <= SMALL else good[0]
