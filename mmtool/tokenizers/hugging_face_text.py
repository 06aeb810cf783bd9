"""Pretrained tokenizers of text: `tokenizer.json` of Hugging Face, and sentencepiece models, as they are.

Unlike pieces that are fitted here, these may lose something: case, accents, spaces, characters that they do not know. The first text that
does not come back is told.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import sentencepiece

from mmtool.common.errors import DataError, UsageError
from mmtool.common.log import log
from mmtool.common.seal import reading
from mmtool.common.storage import write_bytes
from mmtool.tokenizers.base import Positions, check_settings

FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model")  # looked for in a directory
SHOWN = 60  # characters of a text that does not come back


class Library(Protocol):
    """What turns texts into ids."""

    size: int

    def __init__(self, data: bytes) -> None: ...

    def encode(self, texts: Sequence[str]) -> list[list[int]]: ...

    def decode(self, ids: list[int]) -> str: ...


class HuggingFaceTokenizers:
    """A tokenizer.json, without special tokens around texts, and without what it says of lengths."""

    def __init__(self, data: bytes) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            fix = "Install it with `pip install 'mmtool[hf]'`."
            raise UsageError("a tokenizer.json needs the package tokenizers.", where="tokenizer", fix=fix) from error
        self._tokenizer = Tokenizer.from_str(data.decode())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [row.ids for row in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))


class SentencePiece:
    """A model of sentencepiece."""

    def __init__(self, data: bytes) -> None:
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=data)
        self.size = self._processor.vocab_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        rows: list[list[int]] = self._processor.encode(list(texts), out_type=int, num_threads=1)
        return rows

    def decode(self, ids: list[int]) -> str:
        return str(self._processor.decode(ids))


LIBRARIES: dict[str, type[Library]] = {".json": HuggingFaceTokenizers, ".model": SentencePiece}  # by the suffix of the file


class HuggingFaceTextTokenizer:
    """Texts <-> ids of a pretrained tokenizer; its file is a part of it."""

    kind: ClassVar[str] = "text"
    scheme: ClassVar[str] = "hf"
    shape: tuple[int, ...] | None = None
    positions: Positions = "line"

    def __init__(self, data: bytes, suffix: str) -> None:
        """data: the file. suffix: of its name, which tells the library."""
        self.data, self.suffix, self._library, self._warned = data, suffix, LIBRARIES[suffix](data), False
        self.vocabulary_size = self._library.size
        self.fitted_on = np.zeros(0, np.uint64)  # on nothing of the data that it is used for, as far as can be known
        self.report: dict[str, Any] = {}

    @classmethod
    def fit(cls, values: Sequence[str], settings: Mapping[str, Any], seed: int) -> Self:
        raise UsageError("a pretrained tokenizer is not fitted.", where="--scheme hf", fix="Give its file: --scheme hf:PATH.")

    @classmethod
    def open(cls, path: Path, settings: Mapping[str, Any]) -> Self:
        """The tokenizer in a file or a directory. Raises UsageError without the package that reads it, DataError where there is none."""
        check_settings(settings, {}, "pretrained tokenizer of text")
        file = next((path / name for name in FILES if (path / name).is_file()), path)
        if file.suffix not in LIBRARIES or not file.is_file():
            raise DataError("there is no tokenizer here.", where=path, fix=f"Give a file, or a directory with one: {', '.join(FILES)}.")
        with reading(file, "Give a tokenizer.json of Hugging Face, or a model of sentencepiece."):
            return cls(file.read_bytes(), file.suffix)

    def encode(self, values: Sequence[str]) -> list[np.ndarray]:
        """Texts -> (L,) ids each."""
        rows = self._library.encode(values)
        if not self._warned:
            self._warn_of_loss(values, rows)
        dtype = np.uint16 if self.vocabulary_size <= 1 << 16 else np.uint32
        return [np.array(row, dtype) for row in rows]

    def decode(self, tokens: Sequence[np.ndarray]) -> list[str]:
        """Ids -> texts; bytes that are not UTF-8 become U+FFFD."""
        return [self._library.decode(row.tolist()) for row in tokens]

    def write(self, value: str, stem: Path) -> Path:
        """Write the text as `stem`.txt, UTF-8."""
        path = stem.with_name(stem.name + ".txt")
        write_bytes(path, value.encode())
        return path

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {"file": np.frombuffer(self.data, np.uint8)}, {"suffix": self.suffix}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        return cls(tensors["file"].tobytes(), settings["suffix"])

    def _warn_of_loss(self, values: Sequence[str], rows: Sequence[list[int]]) -> None:
        for value, row in zip(values, rows, strict=True):
            if (back := self._library.decode(row)) != value:
                log(f"warning: texts lose something in this tokenizer: {value[:SHOWN]!r} comes back as {back[:SHOWN]!r}")
                self._warned = True
                return
