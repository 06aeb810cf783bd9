"""Videos: a learned codec of three-dimensional convolutions with FSQ codes, or uint8 patches, on a grid of time, rows and columns.

Raw values are (frames, H, W, C) uint8 of one number of frames and any size and mode; a tokenizer brings them to its own.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmtool.common.bounds import Count
from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import write_bytes
from mmtool.tokenizers.base import Positions, PositiveNumber, check_settings
from mmtool.tokenizers.codec import CODEC_SETTINGS, LEARNING_RATE, Batch, Codec, CodecShape, fit_codec, hold_out, in_batches
from mmtool.tokenizers.fsq import code_usage, levels_of
from mmtool.tokenizers.image import CHANNELS, FORMAT_SETTINGS, ImageFormat

MAX_FRAMES_PER_TOKEN = 4  # by default
CODE_BATCH = 8
MAX_BATCH, BATCH_PIXELS = 32, 1 << 18  # of a training batch
VIDEO_SETTINGS = FORMAT_SETTINGS | {"rate_hz": PositiveNumber, "frames_per_token": Count, "write_as": str}


@dataclass(frozen=True)
class VideoFormat:
    """What videos are brought to. frames: their number; rate_hz: of frames; image: of a frame; frames_per_token: frames that a token
    spans; write_as: gif (256 colours a frame) or npz (exact)."""

    frames: int
    rate_hz: float
    image: ImageFormat
    frames_per_token: int
    write_as: str

    @property
    def patch(self) -> tuple[int, int, int]:
        return self.frames_per_token, self.image.patch, self.image.patch

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.frames // self.frames_per_token, *self.image.grid

    @property
    def channels(self) -> int:
        return CHANNELS[self.image.mode]

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "image": self.image.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "VideoFormat":
        return cls(**{**record, "image": ImageFormat(**{**record["image"], "size": tuple(record["image"]["size"])})})

    @classmethod
    def of(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any]) -> "VideoFormat":
        """The settings, and what they leave open taken from the videos. Raises UsageError where that is impossible."""
        if not len(values):
            raise DataError("there are no training videos to fit a tokenizer on.", fix="Check the paths and the split fractions.")
        if "rate_hz" not in settings:
            raise UsageError("the rate of frames is missing.", where="rate_hz", fix="Give it, e.g. 10.")
        if (write_as := settings.get("write_as", "gif")) not in WRITERS:
            fix = f"Choose from: {', '.join(WRITERS)}."
            raise UsageError(f"videos cannot be written as {write_as!r}.", where="--set write_as", fix=fix)
        counts = sorted({len(value) for value in values})
        if len(counts) > 1:
            fix = f"Cut them with --clip {counts[0]}."
            raise DataError(f"the videos have from {counts[0]} to {counts[-1]} frames.", where="video", fix=fix)
        possible = [count for count in range(1, counts[0] + 1) if counts[0] % count == 0]
        span = settings.get("frames_per_token", max(count for count in possible if count <= MAX_FRAMES_PER_TOKEN))
        if span not in possible:
            fix = f"Choose from: {', '.join(map(str, possible))}."
            raise UsageError(f"tokens of {span} frames do not fill {counts[0]} frames.", where="--set frames_per_token", fix=fix)
        return cls(counts[0], settings["rate_hz"], ImageFormat.of([value[0] for value in values], settings), span, write_as)

    def bring(self, value: np.ndarray) -> np.ndarray:
        """A video of any size and mode as (frames, H, W, C) uint8 of this format. Raises DataError for another number of frames."""
        if value.ndim != 4 or len(value) != self.frames:
            what = f"the video has {len(value)} frames at {self.rate_hz:g} Hz, the tokenizer {self.frames}."
            raise DataError(what, fix=f"Cut videos into clips of {self.frames / self.rate_hz:g} s with --clip FRAMES.")
        return np.stack([self.image.bring(frame) for frame in value])


class VideoTokenizer:
    """What both schemes share."""

    kind: ClassVar[str] = "video"
    positions: Positions = "grid"
    format: VideoFormat

    @property
    def rate_hz(self) -> float:
        return self.format.rate_hz

    def stills(self, value: np.ndarray, count: int) -> np.ndarray:
        """(count, H, W, C) uint8: so many frames, from the first to the last."""
        return value[np.linspace(0, len(value) - 1, count).round().astype(int)]

    def write(self, value: np.ndarray, stem: Path) -> Path:
        """Write a video as `stem`.gif, or as `stem`.npz (frames, rate_hz)."""
        path = stem.with_name(f"{stem.name}.{self.format.write_as}")
        write_bytes(path, WRITERS[self.format.write_as](value, self.format.rate_hz))
        return path


class VideoCodecTokenizer(VideoTokenizer):
    """(frames, H, W, C) uint8 <-> one FSQ code per patch, frame by frame and row by row.

    Settings of `fit`: rate_hz, frames_per_token, write_as (see VideoFormat); size, mode, fit, patch (see ImageFormat); codebook or levels
    (of FSQ); width, depth, steps, batch, learning_rate of the codec. Reported on held-out training videos: mean squared error of pixels in
    [0, 1], PSNR in dB, codebook usage.
    """

    scheme: ClassVar[str] = "codec"
    SETTINGS = VIDEO_SETTINGS | CODEC_SETTINGS

    def __init__(self, form: VideoFormat, codec: Codec) -> None:
        self.format, self.codec = form, codec
        self.vocabulary_size, self.shape = prod(codec.shape.levels), form.grid
        self.report: dict[str, Any] = {}

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        """Train the codec on videos. Raises UsageError for settings that make no sense."""
        check_settings(settings, cls.SETTINGS, "video codec")
        form = VideoFormat.of(values, settings)
        videos = _channels_first([form.bring(value) for value in values])
        train, held_out = (videos[part] for part in hold_out(len(videos), seed))
        levels = levels_of(settings, 256)
        shape = CodecShape(form.channels, form.patch, levels, settings.get("width", 64), settings.get("depth", 2), detail=8)
        batch = settings.get("batch", max(1, min(MAX_BATCH, BATCH_PIXELS // (form.frames * prod(form.image.size)))))

        def draw(generator: torch.Generator) -> Batch:
            return _signal(train[torch.randint(len(train), (batch,), generator=generator)]), None

        steps, rate = settings.get("steps", 1000), settings.get("learning_rate", LEARNING_RATE)
        codec = fit_codec(shape, draw, steps=steps, learning_rate=rate, seed=seed, description="fitting the video codec")
        tokenizer = cls(form, codec)
        tokenizer.report = tokenizer._measure(held_out)
        return tokenizer

    def _measure(self, videos: Tensor) -> dict[str, Any]:
        codes = self._encode(videos)
        error = float(((self._decode(codes).float() - videos.float()) / 255).square().mean())
        return {"mse": error, "psnr_db": float(-10 * np.log10(max(error, 1e-10))), **code_usage(codes.numpy(), self.vocabulary_size)}

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes (prod(grid),) of each video. Raises DataError for one of another number of frames."""
        return list(self._encode(_channels_first([self.format.bring(value) for value in values])).flatten(1).numpy()) if len(values) else []

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Videos (frames, H, W, C) uint8."""
        if not len(tokens):
            return []
        codes = torch.from_numpy(np.stack(tokens).astype(np.int64)).view(-1, *self.shape)
        return list(self._decode(codes).permute(0, 2, 3, 4, 1).numpy())

    def _encode(self, videos: Tensor) -> Tensor:
        return in_batches(lambda part: self.codec.encode(_signal(part)), videos, CODE_BATCH)

    def _decode(self, codes: Tensor) -> Tensor:
        return in_batches(lambda part: ((self.codec.decode(part) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8), codes, CODE_BATCH)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return self.codec.tensors(), {"format": self.format.to_json(), "codec": self.codec.shape.to_json()}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        codec = Codec.from_tensors(CodecShape.from_json(settings["codec"]), tensors)
        return cls(VideoFormat.from_json(settings["format"]), codec)


class VideoPatchTokenizer(VideoTokenizer):
    """(frames, H, W, C) uint8 <-> (prod(grid), values) uint8 patches: continuous, nothing is lost.

    Settings of `fit`: rate_hz, frames_per_token, write_as (see VideoFormat); size, mode, fit, patch (see ImageFormat).
    """

    scheme: ClassVar[str] = "patches"
    vocabulary_size = 0
    SETTINGS = VIDEO_SETTINGS

    def __init__(self, form: VideoFormat) -> None:
        self.format = form
        self.shape = (*form.grid, prod(form.patch) * form.channels)
        self.report: dict[str, Any] = {}

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        check_settings(settings, cls.SETTINGS, "video patches")
        return cls(VideoFormat.of(values, settings))

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Patches of each video. Raises DataError for one of another number of frames."""
        (times, rows, columns), (span, side, _) = self.format.grid, self.format.patch
        cells = [self.format.bring(value).reshape(times, span, rows, side, columns, side, -1) for value in values]
        return [video.transpose(0, 2, 4, 1, 3, 5, 6).reshape(times * rows * columns, -1) for video in cells]

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Videos (frames, H, W, C) uint8."""
        (times, rows, columns), (span, side, _) = self.format.grid, self.format.patch
        cells = [patches.reshape(times, rows, columns, span, side, side, -1).transpose(0, 3, 1, 4, 2, 5, 6) for patches in tokens]
        return [video.reshape(self.format.frames, *self.format.image.size, -1) for video in cells]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {}, {"format": self.format.to_json()}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        return cls(VideoFormat.from_json(settings["format"]))


def _channels_first(videos: Sequence[np.ndarray]) -> Tensor:
    """(frames, H, W, C) each -> (B, C, frames, H, W)."""
    return torch.from_numpy(np.stack(videos)).permute(0, 4, 1, 2, 3).contiguous()


def _signal(videos: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]."""
    return videos.float() / 127.5 - 1


def _gif(value: np.ndarray, rate_hz: float) -> bytes:
    frames = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in value]
    data = io.BytesIO()
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:], duration=max(10, round(1000 / rate_hz)), loop=0)
    return data.getvalue()


def _npz(value: np.ndarray, rate_hz: float) -> bytes:
    data = io.BytesIO()
    np.savez(data, frames=value, rate_hz=np.float64(rate_hz))
    return data.getvalue()


WRITERS: dict[str, Callable[[np.ndarray, float], bytes]] = {"gif": _gif, "npz": _npz}
