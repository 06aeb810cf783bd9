"""Raw values -> what a Hugging Face model takes, as the processor files beside its weights say.

Images are resized here and not by the library's processors, whose pixels depend on whether torchvision is installed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmtool.common.errors import DataError
from mmtool.common.hugging_face import pixel_scale
from mmtool.common.log import log
from mmtool.model.encoder import Inputs
from mmtool.preprocessing.prepare import resample

TEXT_STEP = 32  # lengths are rounded up, so that a compiled step meets few of them
AUDIO_STEP_S = 0.5


class Reader(Protocol):
    """masks: whether the model takes a mask of the inputs that are no padding."""

    masks: bool

    def __call__(self, values: Sequence[Any], least: int) -> Inputs:
        """values, and their length (B,) where it varies; padded to `least` or more."""
        ...

    def model_values(self, values: Tensor) -> Tensor:
        """Prepared values as the model takes them."""
        ...

    def blank(self) -> Tensor:
        """Prepared values (1, ...) of a sample with nothing in it: its class token is that of any sample."""
        ...


class ImageReader:
    """(H, W, C) uint8 pictures -> uint8 (B, C, height, width), normalised where the model reads them (a quarter of the memory).

    settings: preprocessor_config.json: size, crop_size, resample, rescale_factor, image_mean, image_std and what of it is done.
    any_size: whether the model takes pictures of the size that these say; else it is that of its config.
    """

    masks = False

    def __init__(self, settings: Mapping[str, Any], config: Any, path: Path, any_size: bool = False) -> None:
        said = settings.get("crop_size" if settings.get("do_center_crop") else "size") if any_size else None
        self.height, self.width = _sides(said or config.image_size)
        self.channels, self.settings, self.path = config.num_channels, settings, path
        self._size((self.width, self.height))  # which refuses what it does not understand
        scale = pixel_scale(settings, self.channels)
        self.mean, self.std = (torch.tensor(value, dtype=torch.float32)[:, None, None] for value in scale)

    def __call__(self, values: Sequence[np.ndarray], least: int) -> Inputs:
        return {"values": torch.from_numpy(np.stack([self._resized(value) for value in values])).permute(0, 3, 1, 2).contiguous()}

    def model_values(self, values: Tensor) -> Tensor:
        return (values.float() - self.mean.to(values.device)) / self.std.to(values.device)

    def blank(self) -> Tensor:
        return torch.zeros(1, self.channels, self.height, self.width, dtype=torch.uint8)

    def _resized(self, value: np.ndarray) -> np.ndarray:
        """(height, width, C) in the model's channels: grey pictures stand in all three colours, colours become grey for a grey model."""
        picture = Image.fromarray(value[..., 0] if value.shape[-1] == 1 else value).convert("RGB" if self.channels == 3 else "L")
        how = Image.Resampling(self.settings.get("resample", Image.Resampling.BILINEAR))
        if self.settings.get("do_resize", True):
            picture = picture.resize(self._size(picture.size), how)
        if self.settings.get("do_center_crop", False):
            left, top = (picture.width - self.width) // 2, (picture.height - self.height) // 2
            picture = picture.crop((left, top, left + self.width, top + self.height))
        if picture.size != (self.width, self.height):
            what = f"its preparation gives pictures of {picture.size[0]} x {picture.size[1]}, the model takes {self.width} x {self.height}."
            raise DataError(what, where=self.path, fix="Mend `size` in preprocessor_config.json.")
        return np.asarray(picture).reshape(self.height, self.width, self.channels)

    def _size(self, original: tuple[int, int]) -> tuple[int, int]:
        """(width, height) to resize to."""
        size = self.settings.get("size", self.height if self.height == self.width else {"height": self.height, "width": self.width})
        if isinstance(size, int) and not self.settings.get("default_to_square", True):
            size = {"shortest_edge": size}
        if isinstance(size, Mapping) and "shortest_edge" in size:
            short, long = int(size["shortest_edge"]), int(size["shortest_edge"] * max(original) / min(original))
            return (short, long) if original[0] <= original[1] else (long, short)
        height, width = _sides(size)
        return width, height


def _sides(size: Any) -> tuple[int, int]:
    """(height, width) as the files of a model say them: one number, two, or by name."""
    if isinstance(size, Mapping):
        if not {"height", "width"} <= size.keys():
            fix = "Give `height` and `width`, or `shortest_edge`, in preprocessor_config.json."
            raise DataError(f"the size {dict(size)} of pictures is not understood.", where="size", fix=fix)
        return int(size["height"]), int(size["width"])
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


class TextReader:
    """Texts -> token ids (B, L) and lengths, by the tokenizer files of the directory. Texts longer than the model reads are cut, with
    one warning."""

    masks = True

    def __init__(self, tokenizer: Any, longest: int, padding: int) -> None:
        self.tokenizer, self.longest, self.padding, self._warned = tokenizer, longest, padding, False

    def __call__(self, values: Sequence[str], least: int) -> Inputs:
        rows = self.tokenizer(list(values), truncation=True, max_length=self.longest)["input_ids"]
        if not self._warned and any(len(row) == self.longest for row in rows):
            log(f"texts of more than {self.longest} tokens are cut: the encoder reads no more.")
            self._warned = True
        length = np.array([len(row) for row in rows])
        size = min(self.longest, TEXT_STEP * -(-max(least, int(length.max())) // TEXT_STEP))
        ids = np.full((len(rows), size), self.padding)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
        return {"values": torch.from_numpy(ids), "length": torch.from_numpy(length)}

    def model_values(self, values: Tensor) -> Tensor:
        return values

    def blank(self) -> Tensor:
        return torch.tensor([self.tokenizer("")["input_ids"]])


class WaveReader:
    """(samples, rate in Hz) -> waves (B, T) at the model's rate, each of mean 0 and variance 1 where the model wants it, and lengths.

    Models whose first layer normalises over time (wav2vec 2.0 base) were trained without a mask; there the padding has an influence.
    """

    def __init__(self, extractor: Any, least: int) -> None:
        self.rate_hz, self.normalize = extractor.sampling_rate, extractor.do_normalize
        self.masks, self.least = extractor.return_attention_mask, least

    def __call__(self, values: Sequence[tuple[np.ndarray, int]], least: int) -> Inputs:
        rows = [self._wave(samples, rate_hz) for samples, rate_hz in values]
        length = np.array([len(row) for row in rows])
        step = round(AUDIO_STEP_S * self.rate_hz)
        waves = np.zeros((len(rows), step * -(-max(least, int(length.max())) // step)), np.float32)
        for i, row in enumerate(rows):
            waves[i, : len(row)] = row
        return {"values": torch.from_numpy(waves), "length": torch.from_numpy(length)}

    def model_values(self, values: Tensor) -> Tensor:
        return values

    def blank(self) -> Tensor:
        return torch.zeros(1, self.least)

    def _wave(self, samples: np.ndarray, rate_hz: int) -> np.ndarray:
        """At least as long as one frame."""
        wave = resample(samples, rate_hz, self.rate_hz)
        if self.normalize:
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        return np.pad(wave, (0, max(0, self.least - len(wave))))


class SpectrumReader:
    """(samples, rate in Hz) -> log-mel frames (B, *shape) of a fixed number, by the directory's feature extractor.

    longest: samples that it hears. state_samples: of a state of the model, where states behind a recording are to be left out; 0: all of
    them count.
    """

    masks = False
    window = 400  # samples that one frame is taken from

    def __init__(self, extractor: Any, shape: tuple[int, int], longest: int, state_samples: int = 0) -> None:
        self.extractor, self.shape, self.longest, self.state_samples, self._warned = extractor, shape, longest, state_samples, False

    def __call__(self, values: Sequence[tuple[np.ndarray, int]], least: int) -> Inputs:
        rate_hz = self.extractor.sampling_rate
        waves = [resample(samples, recorded_hz, rate_hz) for samples, recorded_hz in values]
        waves = [np.pad(wave, (0, max(0, self.window - len(wave)))) for wave in waves]
        if not self._warned and any(len(wave) > self.longest for wave in waves):
            log(f"recordings of more than {self.longest / rate_hz:.1f} s are cut: the encoder hears no more.")
            self._warned = True
        frames = self.extractor(waves, sampling_rate=rate_hz)[self.extractor.model_input_names[0]]
        inputs = {"values": torch.from_numpy(np.stack(frames))}
        if self.state_samples:
            inputs["states"] = torch.tensor([-(-min(len(wave), self.longest) // self.state_samples) for wave in waves])
        return inputs

    def model_values(self, values: Tensor) -> Tensor:
        return values

    def blank(self) -> Tensor:
        return torch.zeros(1, *self.shape)
