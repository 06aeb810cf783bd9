"""Text tokenizers lose nothing: every string comes back, and the same texts always give the same tokenizer."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtool.common.errors import DataError, UsageError
from mmtool.tokenizers.base import fingerprint, from_bytes, to_bytes
from mmtool.tokenizers.text import TextTokenizer

TEXTS = [f"please show me the number {word} and a picture of it" for word in ("zero", "one", "two", "three", "four", "five")] * 4
TOKENIZER = TextTokenizer.fit(TEXTS, {}, 0)
AWKWARD = ["", " ", "  two  spaces ", "\n", "a\nb\r\n\n", "\t", "\0", "a\0b"]
AWKWARD += ["\u2581", "\x1a", "\x1as", "\x1a\u2581\x1a\x1as", "<unk>", "<s>", "<0x0A>", "naïve 数字 🙂"]


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_come_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode([text])) == [text]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=4))
@settings(max_examples=150, deadline=None)
def test_every_text_comes_back(texts: list[str]) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(texts)) == texts


@given(st.text(st.sampled_from("\u2581\x1as a\n\0"), max_size=20))
@settings(max_examples=100, deadline=None)
def test_the_escape_is_injective(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode([text])) == [text]


def test_any_codes_can_be_decoded() -> None:
    codes = np.random.default_rng(0).integers(0, TOKENIZER.vocabulary_size, (20, 50)).astype(np.uint16)
    texts = TOKENIZER.decode(list(codes))
    assert len(texts) == 20 and any("\ufffd" in text for text in texts)
    assert all(text.encode() for text in texts)


def test_every_code_of_the_vocabulary_can_occur() -> None:
    assert TOKENIZER.decode([np.array([code]) for code in range(256)])[ord("a")] == "a"
    tokens = TOKENIZER.encode(TEXTS)
    assert all(row.dtype == np.uint16 and row.max() < TOKENIZER.vocabulary_size for row in tokens)
    assert TOKENIZER.encode(["\x01"])[0].tolist() == [1]


def test_the_file_gives_the_same_tokenizer() -> None:
    again = from_bytes(to_bytes(TOKENIZER))
    assert fingerprint(again) == fingerprint(TOKENIZER)
    assert again.report["exact_round_trips"] == 1.0
    np.testing.assert_array_equal(again.encode(TEXTS)[3], TOKENIZER.encode(TEXTS)[3])


def test_fitting_twice_in_separate_processes_gives_the_same_bytes() -> None:
    code = (
        "from mmtool.tokenizers.text import TextTokenizer; from mmtool.tokenizers.base import fingerprint;"
        f"print(fingerprint(TextTokenizer.fit({TEXTS!r}, {{}}, 0)))"
    )
    prints = {subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() for _ in range(2)}
    assert prints == {fingerprint(TOKENIZER)}


def test_a_script_with_more_characters_than_codes_still_fits() -> None:
    texts = ["".join(chr(0x4E00 + (17 * i * j) % 3000) for j in range(60)) for i in range(60)]
    tokenizer = TextTokenizer.fit(texts, {"vocabulary_size": 400}, 0)
    assert tokenizer.vocabulary_size <= 400
    assert tokenizer.decode(tokenizer.encode(texts)) == texts


def test_one_short_text_is_enough_to_fit() -> None:
    tokenizer = TextTokenizer.fit(["a"], {}, 0)
    assert 256 < tokenizer.vocabulary_size <= 512 and tokenizer.decode(tokenizer.encode(["abc"])) == ["abc"]


def test_wrong_use_is_named() -> None:
    with pytest.raises(DataError, match="no text to fit"):
        TextTokenizer.fit(["", "\n"], {}, 0)
    with pytest.raises(UsageError, match=r"vocab_size.*vocabulary_size"):
        TextTokenizer.fit(TEXTS, {"vocab_size": 300}, 0)
    with pytest.raises(UsageError, match="too small"):
        TextTokenizer.fit(TEXTS, {"vocabulary_size": 100}, 0)


def test_texts_are_written_byte_for_byte(tmp_path: Path) -> None:
    path = TOKENIZER.write("a\r\nb ", tmp_path / "note.v1")
    assert path.name == "note.v1.txt" and path.read_bytes() == b"a\r\nb "
