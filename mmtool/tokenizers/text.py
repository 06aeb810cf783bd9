"""Text <-> pieces: a sentencepiece unigram model with byte fallback, lossless for every string.

sentencepiece itself is lossy by default (NFKC, collapsed and added spaces); here normalisation is the identity, and the one
character it uses for a space, U+2581, is escaped before it sees the text. Kudo 2018, https://arxiv.org/abs/1804.10959.
"""

import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import sentencepiece

from mmtool.common.bounds import Count
from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import write_bytes
from mmtool.tokenizers.base import Positions, check_settings

SPACE_MARK = "\u2581"
ESCAPE = "\x1a"
UNESCAPED = {ESCAPE + ESCAPE: ESCAPE, ESCAPE + "s": SPACE_MARK}
NUM_BYTES = 256
MIN_VOCABULARY, MAX_VOCABULARY, CHARACTERS_PER_PIECE = 512, 1024, 1000
COVERAGE = 0.9995
ALGORITHMS = ("unigram", "bpe")


class TextTokenizer:
    """decode(encode(text)) == text for every str that can be written as UTF-8, also for characters never seen in fitting.

    Codes 0..255 are raw bytes, the rest are pieces; every code can occur. Codes that a model put together freely may hold
    invalid UTF-8: decoding marks such bytes with U+FFFD.
    """

    kind: ClassVar[str] = "text"
    scheme: ClassVar[str] = "pieces"
    SETTINGS: ClassVar[dict[str, Any]] = {"vocabulary_size": Count, "algorithm": str}
    shape: tuple[int, ...] | None = None
    positions: Positions = "line"

    def __init__(self, model: bytes) -> None:
        """`model`: the serialised sentencepiece model."""
        self.model = model
        self.report: dict[str, Any] = {}
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        ids = [i for i in range(self._processor.vocab_size()) if not self._never_occurs(i)]
        self.vocabulary_size = len(ids)
        self._code_of = np.zeros(self._processor.vocab_size(), np.uint32)
        self._code_of[ids] = np.arange(len(ids))
        self._bytes_of = [self._piece_bytes(i) for i in ids]

    @classmethod
    def fit(cls, values: Sequence[str], settings: Mapping[str, Any], seed: int) -> "TextTokenizer":
        """Learn pieces from texts. Settings: `vocabulary_size` (bytes included; default 512 to 1024, growing with the text),
        `algorithm` (`unigram`, the default, or `bpe`, which gives frequent words one code each also where texts are few).

        The result depends on the texts and their order alone; `seed` is there because every tokenizer has one. A vocabulary
        larger than the texts support comes out smaller. Raises DataError where there is no text at all.
        """
        check_settings(settings, cls.SETTINGS, "text")
        algorithm = settings.get("algorithm", ALGORITHMS[0])
        if algorithm not in ALGORITHMS:
            raise UsageError(f"there is no algorithm {algorithm!r}.", where="algorithm", fix=f"Choose from: {', '.join(ALGORITHMS)}.")
        lines = [_escape(line) for value in values for line in value.split("\n") if line]
        if not lines:
            raise DataError("every training sample is empty: there is no text to fit on.", where="text", fix="Check the text column.")
        size = settings.get("vocabulary_size") or _default_size(lines)
        if size <= NUM_BYTES:
            raise UsageError(f"{size} is too small: {NUM_BYTES} codes are bytes.", where="vocabulary_size", fix=f"Try {MIN_VOCABULARY}.")
        tokenizer = cls(_train(lines, size, algorithm))
        tokenizer.report = tokenizer._measure(values)
        return tokenizer

    def encode(self, values: Sequence[str]) -> list[np.ndarray]:
        """Texts -> (L,) codes each; the empty text has none."""
        ids = self._processor.encode([_escape(value) for value in values], out_type=int, num_threads=1)
        dtype = np.uint16 if self.vocabulary_size <= 1 << 16 else np.uint32
        return [self._code_of[np.asarray(row, np.int64)].astype(dtype) for row in ids]

    def decode(self, tokens: Sequence[np.ndarray]) -> list[str]:
        """Codes -> texts; bytes that are not UTF-8 become U+FFFD."""
        joined = (b"".join(self._bytes_of[code] for code in row) for row in tokens)
        return [_unescape(data.decode("utf-8", "replace")) for data in joined]

    def write(self, value: str, stem: Path) -> Path:
        """Write the text as `stem`.txt, UTF-8, byte for byte."""
        path = stem.with_name(stem.name + ".txt")
        write_bytes(path, value.encode())
        return path

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {"model": np.frombuffer(self.model, np.uint8)}, {}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> "TextTokenizer":
        return cls(tensors["model"].tobytes())

    def _never_occurs(self, piece_id: int) -> bool:
        processor = self._processor
        return bool(processor.is_unknown(piece_id) or processor.is_control(piece_id) or processor.is_unused(piece_id))

    def _piece_bytes(self, piece_id: int) -> bytes:
        piece = self._processor.id_to_piece(piece_id)
        if self._processor.is_byte(piece_id):
            return bytes([int(piece[1:-1], 16)])
        return str(piece).replace(SPACE_MARK, " ").encode()

    def _measure(self, values: Sequence[str]) -> dict[str, Any]:
        """Exact round trips, length and use of the vocabulary on the texts it was fitted on."""
        tokens = self.encode(values)
        codes = np.concatenate(tokens)
        return {
            "samples": len(values),
            "exact_round_trips": sum(a == b for a, b in zip(values, self.decode(tokens), strict=True)) / len(values),
            "tokens_per_sample": round(len(codes) / len(values), 3),
            "characters_per_token": round(sum(map(len, values)) / len(codes), 3),
            "byte_fallback_share": round(float((codes < NUM_BYTES).mean()), 5),
            "codebook_usage": round(len(np.unique(codes)) / self.vocabulary_size, 4),
        }


def _escape(text: str) -> str:
    return text.replace(ESCAPE, ESCAPE + ESCAPE).replace(SPACE_MARK, ESCAPE + "s")


def _unescape(text: str) -> str:
    return re.sub(f"{ESCAPE}[{ESCAPE}s]", lambda match: UNESCAPED[match[0]], text)


def _default_size(lines: Sequence[str]) -> int:
    """More text supports more pieces: 512 for a few lines, 1024 from half a million characters on."""
    return min(MAX_VOCABULARY, MIN_VOCABULARY + sum(map(len, lines)) // CHARACTERS_PER_PIECE)


def _spans(lines: Sequence[str], size: int) -> list[str]:
    """The stretches between rare characters, which are left to byte fallback: pieces of their own take at most half of the
    vocabulary, and cover 99.95 % of the text (sentencepiece's own option refuses scripts with more characters than codes)."""
    counts = Counter("".join(lines))
    allowed, wanted, common = max(1, (size - NUM_BYTES) // 2), COVERAGE * counts.total(), ""
    for character, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:allowed]:
        common += character
        wanted -= count
        if wanted <= 0:
            break
    return [span for line in lines for span in re.findall(f"[{re.escape(common)}]+", line)]


def _train(lines: Sequence[str], size: int, algorithm: str) -> bytes:
    """Bytes of a sentencepiece model with `size` codes or fewer; the same lines always give the same bytes."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(_spans(lines, size)),
            model_writer=model,
            model_type=algorithm,
            vocab_size=size + 1,  # sentencepiece keeps one id for <unk>, which byte fallback never uses
            hard_vocab_limit=False,
            character_coverage=1.0,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            shuffle_input_sentence=False,
            max_sentence_length=1 << 24,
            num_threads=1,
            bos_id=-1,
            eos_id=-1,
            pad_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        fix = "Set another vocabulary_size."
        raise DataError(f"sentencepiece cannot fit {size} codes to these texts ({error}).", where="text", fix=fix) from error
    return model.getvalue()
