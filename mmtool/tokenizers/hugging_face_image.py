"""Pretrained codecs of pictures with a codebook (VQ), from local directories in Hugging Face format: those of Janus and Emu3.

Chen et al. 2025, arXiv 2501.17811; Wang et al. 2024, arXiv 2409.18869. Each square of pixels has one code; they stand row by row. The
directory is that of the codec alone or of the whole model, of which nothing else is read.

B pictures, C colours, H x W pixels, h x w codes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmtool.common.errors import DataError, UsageError
from mmtool.common.hugging_face import complaints, pixel_scale, read_preparation
from mmtool.tokenizers.base import check_settings
from mmtool.tokenizers.codec import in_batches
from mmtool.tokenizers.image import BATCH_PIXELS, CHANNELS, CODE_BATCH, ImageFormat, ImageTokenizer
from mmtool.tokenizers.pretrained import from_state, log_size, model_type, open_codec, state_of

PREFIX = r"^(model\.)?vqmodel\."  # of the codec's weights in a whole model
MODE = "RGB"


@dataclass(frozen=True)
class Architecture:
    """How a codec is used. model: its class. codes: config -> how many there are. side: config -> codes along a side of the pictures that
    it was trained on; None: of any. encode: (model, pictures (B, C, H, W)) -> codes (B, h, w). decode: the other way."""

    model: str
    codes: Callable[[Any], int]
    side: Callable[[Any], int | None]
    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor], Tensor]


def _encode_janus(model: Any, pictures: Tensor) -> Tensor:
    """The nearest of the vectors that `decode` reads, which are of length 1; the library's own `encode` compares without their norm."""
    latents = model.quant_conv(model.encoder(pictures)).permute(0, 2, 3, 1)
    return (F.normalize(latents, dim=-1) @ F.normalize(model.quantize.embedding.weight, dim=-1).T).argmax(-1)


def _encode_emu3(model: Any, pictures: Tensor) -> Tensor:
    return torch.stack(model.encode(pictures, torch.tensor([pictures.shape[2:]] * len(pictures))).image_tokens)


ARCHITECTURES = {
    "janus_vqgan": Architecture(
        "JanusVQVAE",
        lambda config: config.num_embeddings,
        lambda config: config.num_patches,
        _encode_janus,
        lambda model, codes: model.decode(codes.flatten(1)),
    ),
    "emu3_vqgan": Architecture(
        "Emu3VQVAE", lambda config: config.codebook_size, lambda config: None, _encode_emu3, lambda model, codes: model.decode(codes)
    ),
}
TYPES = {"janus_vqgan": "janus_vqgan", "janus": "janus_vqgan", "emu3_vqgan": "emu3_vqgan", "emu3": "emu3_vqgan"}


class HuggingFaceImageTokenizer(ImageTokenizer):
    """(H, W, 3) uint8 <-> one code per square of pixels, row by row; the codec's weights are a part of it.

    Settings: size and fit (see ImageFormat). A codec that was trained on pictures of one size has these, another one needs it said.
    """

    scheme: ClassVar[str] = "hf"
    SETTINGS: ClassVar[Mapping[str, Any]] = {"size": int | list | tuple, "fit": str}

    def __init__(self, model: Any, form: ImageFormat, mean: Sequence[float], std: Sequence[float]) -> None:
        """mean, std: (3,) by which pixels from 0 to 255 are normalised."""
        self.model, self.format, self.mean, self.std = model.eval().requires_grad_(False), form, list(mean), list(std)
        self.architecture = ARCHITECTURES[model.config.model_type]
        self.vocabulary_size, self.shape = int(self.architecture.codes(model.config)), form.grid
        self.fitted_on = np.zeros(0, np.uint64)  # on nothing of the data that it is used for, as far as can be known
        self.report: dict[str, Any] = {"model": model.config.model_type, "tokens": prod(form.grid)}

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        raise UsageError("a pretrained codec is not fitted.", where="--scheme hf", fix="Give its directory: --scheme hf:DIR.")

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """The codec in a directory. Raises UsageError without `transformers` and for a size that it does not take, DataError for another
        model and one that is not whole."""
        check_settings(settings, cls.SETTINGS, "pretrained codec of pictures")
        architecture = ARCHITECTURES[TYPES[model_type(path, TYPES, "codec of pictures with a decoder in transformers")]]
        model = open_codec(path, architecture.model, PREFIX)
        if (model.config.in_channels, model.config.out_channels) != (CHANNELS[MODE], CHANNELS[MODE]):
            raise DataError("the codec takes no pictures in colours.", where=path, fix="Give one with 3 channels.")
        with complaints(path):
            mean, std = pixel_scale(read_preparation(path), CHANNELS[MODE])
        tokenizer = cls(model, _format(model.config, architecture, settings), mean.tolist(), std.tolist())
        (rows, columns), codes = tokenizer.format.grid, tokenizer.vocabulary_size
        log_size(model, path, f"{rows} x {columns} tokens of {codes:,} codes for {' x '.join(map(str, tokenizer.format.size))} pixels")
        return tokenizer

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes (h * w,) of each picture."""
        if not values:
            return []
        pictures = torch.from_numpy(np.stack([self.format.bring(value) for value in values])).permute(0, 3, 1, 2)
        dtype = np.uint16 if self.vocabulary_size <= 1 << 16 else np.uint32
        return list(in_batches(self._codes, pictures, self._batch).flatten(1).numpy().astype(dtype))

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Pictures (H, W, 3) uint8."""
        if not len(tokens):
            return []
        codes = torch.from_numpy(np.stack(tokens).astype(np.int64)).view(-1, *self.format.grid)
        return list(in_batches(self._pictures, codes, self._batch).permute(0, 2, 3, 1).numpy())

    @property
    def _batch(self) -> int:
        return max(1, min(CODE_BATCH, BATCH_PIXELS // prod(self.format.size)))

    def _codes(self, pictures: Tensor) -> Tensor:
        mean, std = self._scale()
        return self.architecture.encode(self.model, (pictures.float() - mean) / std)

    def _pictures(self, codes: Tensor) -> Tensor:
        mean, std = self._scale()
        pictures: Tensor = self.architecture.decode(self.model, codes).float() * std + mean
        return pictures.round().clamp(0, 255).to(torch.uint8)

    def _scale(self) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(value, dtype=torch.float32)[:, None, None] for value in (self.mean, self.std))
        return mean, std

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        tensors, config = state_of(self.model)
        return tensors, {"format": self.format.to_json(), "config": config, "mean": self.mean, "std": self.std}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        config = settings["config"]
        form = ImageFormat(**{**settings["format"], "size": tuple(settings["format"]["size"])})
        model = from_state(ARCHITECTURES[config["model_type"]].model, tensors, config)
        return cls(model, form, settings["mean"], settings["std"])


def _format(config: Any, architecture: Architecture, settings: Mapping[str, Any]) -> ImageFormat:
    """The size that is asked for, or that of the training. Raises UsageError where the codec does not take it."""
    patch, side = 2 ** (len(config.channel_multiplier) - 1), architecture.side(config)
    size = settings.get("size", None if side is None else side * patch)
    if size is None:
        raise UsageError("the codec takes pictures of any size.", where="--size", fix=f"Say which, in multiples of {patch}: --size 256.")
    form = ImageFormat.of([np.zeros((1, 1, 3), np.uint8)], {"size": size, "mode": MODE, "fit": settings.get("fit", "stretch"), "patch": 1})
    height, width = form.size
    if side is not None and form.size != (side * patch, side * patch):
        what = f"the codec takes pictures of {side * patch} x {side * patch} pixels, not {height} x {width}."
        raise UsageError(what, where="--size", fix="Leave it out.")
    if height % patch or width % patch:
        what = f"a code stands for {patch} x {patch} pixels, which do not tile {height} x {width}."
        raise UsageError(what, where="--size", fix=f"Give a multiple of {patch}.")
    return replace(form, patch=patch)
