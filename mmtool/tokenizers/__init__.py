"""One kind, one file. `SCHEMES` is the table of all tokenizers; a new one adds one line (imported when first used)."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def _lazy(module: str, name: str) -> Callable[[], Any]:
    return lambda: getattr(import_module(f"mmtool.tokenizers.{module}"), name)


SCHEMES: dict[tuple[str, str], Callable[[], Any]] = {
    ("image", "codec"): _lazy("image", "ImageCodecTokenizer"),
    ("image", "patches"): _lazy("image", "ImagePatchTokenizer"),
    ("audio", "codec"): _lazy("audio", "AudioCodecTokenizer"),
    ("audio", "patches"): _lazy("audio_patches", "AudioPatchTokenizer"),
    ("text", "pieces"): _lazy("text", "TextTokenizer"),
    ("table", "bins"): _lazy("table", "TableTokenizer"),
    ("table", "codec"): _lazy("table_codec", "TableCodecTokenizer"),
    ("trajectory", "steps"): _lazy("trajectory", "TrajectoryTokenizer"),
}
