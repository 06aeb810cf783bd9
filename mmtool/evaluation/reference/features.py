"""Raw values of any kind -> vectors: what classifiers classify by and nearest neighbours are near in.

Which kind has which features says `mmtool.kinds`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from mmtool.kinds import kind_named, load
from mmtool.tokenizers.base import Tokenizer

DIMENSIONS = 128
MAX_SIDE = 32
TIME_STEPS = 16
FILM_FRAMES, FILM_SIDE = 8, 16
MAX_HOT = 64  # columns per step that named numbers may take; with more they count as amounts


class Embedding:
    """Features of one modality, fitted on real values, and their principal components.

    features: values -> (N, F) matrix; sparse: whether it is (that of text). transform: values -> (N, at most 128) with a mean squared norm
    of 1, so that modalities weigh the same when joined.
    """

    def __init__(self, tokenizer: Tokenizer, values: Sequence[Any], seed: int) -> None:
        self.features = load(kind_named(tokenizer.kind).features)(tokenizer)
        matrix = self.features.fit_transform(values)
        self.sparse = not isinstance(matrix, np.ndarray)
        reduce = TruncatedSVD if self.sparse else PCA
        self._reduce = reduce(max(1, min(DIMENSIONS, min(matrix.shape) - 1)), random_state=seed)
        self._scale = 1 / max(1e-12, np.sqrt(np.square(self._reduce.fit_transform(matrix)).sum(1).mean()))

    def transform(self, values: Sequence[Any]) -> np.ndarray:
        return self._reduce.transform(self.features.transform(values)) * self._scale


def pixels(images: Sequence[np.ndarray]) -> np.ndarray:
    """(H, W, C) uint8 pictures -> (N, F) in [0, 1]; brought to the size of the first one, and larger ones to 32 pixels a side."""
    height, width = (min(side, MAX_SIDE) for side in images[0].shape[:2])
    return np.stack([_resized(image, height, width) for image in images])


def films(tokenizer: Tokenizer, videos: Sequence[np.ndarray]) -> np.ndarray:
    """Videos, and what else is made of pictures, -> (N, F): some of these (by the tokenizer) as `pixels` sees them, and how they change."""
    stills: Callable[[np.ndarray, int], np.ndarray] = tokenizer.stills  # type: ignore[attr-defined]  # tokenizers of such kinds have it
    chosen = [stills(video, FILM_FRAMES) for video in videos]
    height, width = (min(side, FILM_SIDE) for side in chosen[0].shape[1:3])
    frames = np.stack([[_resized(frame, height, width) for frame in video] for video in chosen])
    return np.concatenate([frames.reshape(len(frames), -1), np.abs(np.diff(frames, axis=1)).mean(1)], axis=1)


def spectra(tokenizer: Tokenizer, sounds: Sequence[np.ndarray]) -> np.ndarray:
    """Sounds -> (N, F): their frames (log-mel, by the tokenizer) stretched to a fixed number of steps, mean and deviation of each band, and
    the log duration."""
    frames: Callable[[np.ndarray], np.ndarray] = tokenizer.features  # type: ignore[attr-defined]  # tokenizers of recordings have it
    return np.stack([_spectrum(frames(sound)) for sound in sounds])


def steps(tokenizer: Tokenizer, clips: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """Clips {stream: (steps, ...)} -> (N, F): of named numbers (actions) which ones and how often, of amounts their values, mean and
    deviation."""
    streams: Sequence[Any] = tokenizer.streams  # type: ignore[attr-defined]  # trajectory tokenizers have them
    return np.concatenate([_stream(stream, [clip[stream.name] for clip in clips]) for stream in streams], axis=1)


def _stream(stream: Any, values: Sequence[np.ndarray]) -> np.ndarray:
    rows = np.stack(values).reshape(len(values), -1, stream.width)
    if stream.binning == "whole" and stream.width * stream.size <= MAX_HOT:
        hot = (rows[..., None] == np.arange(stream.size)).astype(np.float32)
        return np.concatenate([hot.reshape(len(values), -1), hot.mean(1).reshape(len(values), -1)], axis=1)
    return np.concatenate([rows.reshape(len(values), -1), rows.mean(1), rows.std(1)], axis=1).astype(np.float32)


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.shape[:2] != (height, width):
        bands = [Image.fromarray(image[:, :, c]).resize((width, height), Image.Resampling.BOX) for c in range(image.shape[2])]
        image = np.stack([np.asarray(band) for band in bands], axis=-1)
    return image.reshape(-1).astype(np.float32) / 255


def _spectrum(frames: np.ndarray) -> np.ndarray:
    """(frames, mels) -> one vector; a sound too short for a single frame counts as silence."""
    if len(frames) == 0:
        frames = np.zeros((1, frames.shape[1]), np.float32)
    at = np.linspace(0, len(frames) - 1, TIME_STEPS)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, len(frames) - 1)
    stretched = frames[low] + (at - low)[:, None] * (frames[high] - frames[low])
    return np.concatenate([stretched.reshape(-1), frames.mean(0), frames.std(0), [np.log(len(frames))]]).astype(np.float32)


def image_features(tokenizer: Tokenizer) -> Any:
    return FunctionTransformer(pixels)


def film_features(tokenizer: Tokenizer) -> Any:
    return FunctionTransformer(partial(films, tokenizer))


def frame_features(tokenizer: Tokenizer) -> Any:
    return make_pipeline(FunctionTransformer(partial(spectra, tokenizer)), StandardScaler())


def text_features(tokenizer: Tokenizer) -> Any:
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\S+")
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    return make_union(words, characters)


def table_features(tokenizer: Tokenizer) -> Any:
    one_hot = tokenizer.one_hot  # type: ignore[attr-defined]  # tokenizers of tables have it
    numbers = make_pipeline(FunctionTransformer(np.stack), FunctionTransformer(one_hot.encode))
    return make_pipeline(numbers, SimpleImputer(keep_empty_features=True), StandardScaler())


def trajectory_features(tokenizer: Tokenizer) -> Any:
    return make_pipeline(FunctionTransformer(partial(steps, tokenizer)), StandardScaler())
