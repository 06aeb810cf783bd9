"""Pretrained neural codecs of sound, from local directories in Hugging Face format: EnCodec, DAC and Mimi.

Defossez et al. 2022, arXiv 2210.13438; Kumar et al. 2023, arXiv 2306.06546; Defossez et al. 2024, arXiv 2410.00037. Each time step has one
code from each of several residual codebooks, the coarsest first. They stand one behind the other, step by step, and each codebook has a
range of its own in the vocabulary.

B recordings, T samples, S time steps, Q codebooks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from mmtool.common.bounds import Count
from mmtool.common.errors import DataError, UsageError
from mmtool.tokenizers.audio import AudioTokenizer, mel_frames
from mmtool.tokenizers.base import check_settings
from mmtool.tokenizers.codec import by_length
from mmtool.tokenizers.pretrained import from_state, log_size, model_type, open_codec, state_of

CODEBOOKS = 2  # taken where nothing else is said: every further one makes sequences longer


@dataclass(frozen=True)
class Architecture:
    """How a codec is used. model: its class. hop: config -> samples of a time step. encode: (model, sound (B, 1, T)) -> codes (B, Q, S) of
    all codebooks. decode: (model, codes (B, Q, S) of the first ones) -> sound (B, 1, T) or (B, T)."""

    model: str
    hop: Callable[[Any], int]
    encode: Callable[[Any, Tensor], Tensor]
    decode: Callable[[Any, Tensor], Tensor]


def _encodec(model: Any, sound: Tensor) -> Tensor:
    codes: Tensor = model.encode(sound, bandwidth=model.config.target_bandwidths[-1]).audio_codes[0]
    return codes


ARCHITECTURES = {
    "encodec": Architecture(
        "EncodecModel", lambda config: config.hop_length, _encodec, lambda model, codes: model.decode(codes[None], [None]).audio_values
    ),
    "dac": Architecture(
        "DacModel",
        lambda config: config.hop_length,
        lambda model, sound: model.encode(sound).audio_codes,
        lambda model, codes: model.decode(audio_codes=codes).audio_values,
    ),
    "mimi": Architecture(
        "MimiModel",
        lambda config: config.frame_size,
        lambda model, sound: model.encode(sound).audio_codes,
        lambda model, codes: model.decode(codes).audio_values,
    ),
}


class HuggingFaceAudioTokenizer(AudioTokenizer):
    """(T,) float32 at the codec's sample rate <-> codes (S * codebooks,); the codec's weights are a part of it.

    Setting: codebooks, how many of them are kept (2). Codes that do not belong to the codebook at their place are read as if they did, and
    a time step that is not complete is left out: a model may write what no recording gives.
    """

    scheme: ClassVar[str] = "hf"
    SETTINGS: ClassVar[Mapping[str, Any]] = {"codebooks": Count}
    trim_db, normalise = 0.0, False

    def __init__(self, model: Any, codebooks: int) -> None:
        self.model, self.codebooks = model.eval().requires_grad_(False), codebooks
        self.architecture = ARCHITECTURES[model.config.model_type]
        self.size, self.hop = int(model.config.codebook_size), int(self.architecture.hop(model.config))
        self.vocabulary_size = codebooks * self.size
        self.frames, self.patch = mel_frames({"sample_rate_hz": int(model.config.sampling_rate)}), 1
        self.fitted_on = np.zeros(0, np.uint64)  # on nothing of the data that it is used for, as far as can be known
        self.report: dict[str, Any] = {
            "model": model.config.model_type,
            "codebooks": codebooks,
            "tokens_per_s": codebooks * self.sample_rate_hz / self.hop,
        }

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        raise UsageError("a pretrained codec is not fitted.", where="--scheme hf", fix="Give its directory: --scheme hf:DIR.")

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """The codec in a directory. Raises UsageError without `transformers`, DataError for another model and one that is not whole."""
        check_settings(settings, cls.SETTINGS, "pretrained codec")
        tokenizer = cls(_load(path), 1)
        available = tokenizer._all_codes(torch.zeros(1, tokenizer.hop)).shape[1]
        codebooks = settings.get("codebooks", min(CODEBOOKS, available))
        if codebooks > available:
            raise UsageError(f"the codec has {available} codebooks, not {codebooks}.", where="--set codebooks", fix="Give fewer.")
        log_size(tokenizer.model, path, f"{codebooks} of {available} codebooks")
        return cls(tokenizer.model, codebooks)

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes of each recording, of one time step at least. Raises DataError for a recording without samples."""
        sounds = [torch.from_numpy(np.asarray(value, np.float32)) for value in values]
        if not all(map(len, sounds)):
            raise DataError("the recording is empty.", fix="Remove it, or pass --on-error skip.")
        padded = [torch.nn.functional.pad(sound, (0, -len(sound) % self.hop)) for sound in sounds]
        dtype = np.uint16 if self.vocabulary_size <= 1 << 16 else np.uint32
        return [codes.numpy().astype(dtype) for codes in by_length(self._codes, padded)]

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Sound (S * hop,) float32 in [-1, 1]; no complete time step is no sound."""
        whole = [np.asarray(row, np.int64)[: len(row) // self.codebooks * self.codebooks] for row in tokens]
        sounds = by_length(self._sounds, [torch.from_numpy(row) for row in whole])
        return [sound.clamp(-1, 1).numpy() for sound in sounds]

    @torch.no_grad()
    def _all_codes(self, sounds_BT: Tensor) -> Tensor:
        """(B, Q, S) of all codebooks."""
        return self.architecture.encode(self.model, sounds_BT[:, None])

    def _codes(self, sounds_BT: Tensor) -> Tensor:
        """(B, S * codebooks), each in its range."""
        codes = self._all_codes(sounds_BT)[:, : self.codebooks]
        return (codes + self.size * torch.arange(self.codebooks)[:, None]).transpose(1, 2).flatten(1)

    @torch.no_grad()
    def _sounds(self, codes: Tensor) -> Tensor:
        """(B, S * codebooks) -> (B, S * hop)."""
        steps = codes.unflatten(1, (-1, self.codebooks)).transpose(1, 2) % self.size
        sound = self.architecture.decode(self.model, steps).flatten(1).float()
        length = steps.shape[2] * self.hop
        return torch.nn.functional.pad(sound, (0, max(0, length - sound.shape[1])))[:, :length]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        tensors, config = state_of(self.model)
        return tensors, {"codebooks": self.codebooks, "config": config}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        config = settings["config"]
        return cls(from_state(ARCHITECTURES[config["model_type"]].model, tensors, config), settings["codebooks"])


def _load(path: Path) -> Any:
    """The model in a directory. Raises DataError where it is none that is supported, or not whole."""
    model = open_codec(path, ARCHITECTURES[model_type(path, ARCHITECTURES, "codec of sound")].model)
    config = model.config
    if getattr(config, "audio_channels", 1) != 1 or getattr(config, "normalize", False) or getattr(config, "chunk_length_s", None):
        what = "the codec takes several channels, or divides recordings into parts that it scales."
        raise DataError(what, where=path, fix="Give one for mono recordings, such as EnCodec at 24 kHz.")
    return model
