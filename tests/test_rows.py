"""Rows are as long as documents make them: none is too long for them, and those of one length leave nothing empty."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmtool.common.storage import sha256_bytes
from mmtool.data.documents import Documents
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.packing import cheapest_length, padding
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import Document
from mmtool.data.shards import open_token_set, write_split
from mmtool.methods import METHODS
from mmtool.methods.loretta import LoReTTa
from mmtool.training.config import resolve
from mmtool.training.sample_choice import longest_samples

LONGEST = 90
MODALITIES = [
    Modality("image", "image", 16, (3, 4), "grid", "1" * 64, 12),
    Modality("speech", "audio", 16, None, "line", "2" * 64, 20),
    Modality("text", "text", 16, None, "line", "3" * 64, LONGEST),
]


def sample(number: int, names: tuple[str, ...], longest: bool = False) -> Sample:
    random = np.random.default_rng(number)
    sizes = {m.name: m.max_length if longest or m.fixed_length else int(random.integers(1, 6)) for m in MODALITIES if m.name in names}
    return Sample(f"{number}", {name: random.integers(0, 16, size).astype(np.uint16) for name, size in sizes.items()})


@pytest.mark.parametrize("tokens", [512, 8192])
@pytest.mark.parametrize("name", list(METHODS))
def test_the_longest_sample_fits_whatever_typical_ones_are_like(name: str, tokens: int) -> None:
    pairs = [("image", "text"), ("image", "speech")]
    samples = [sample(i, pairs[i % 2]) for i in range(200)]
    longest = [sample(i, pairs[i % 2], longest=True) for i in range(100)]
    graph = CoOccurrence.of([tuple(one.tokens) for one in samples])
    method = METHODS[name](layout_of(MODALITIES), graph, METHODS[name].Options())
    packer = method.packer(method.size_batches(samples, tokens, 0, longest[:2]))
    kinds = method.typical_documents(longest)
    assert all(packer([document]).num_documents == 1 for documents in kinds for document in documents)
    if isinstance(method, LoReTTa):
        assert max(len(document) for document in kinds[1]) == sum(1 + modality.max_length for modality in MODALITIES)


def test_rows_are_no_longer_than_any_sample_though_each_modality_has_a_long_one() -> None:
    """Rows are sized by samples, not by the longest segments that no sample holds together."""
    samples = [sample(i, ("image", "speech", "text")) for i in range(50)]
    long_speech, long_text = (
        Sample(name, {**samples[0].tokens, name: np.zeros(size, np.uint16)}) for name, size in (("speech", 20), ("text", 90))
    )
    method = METHODS["causal"](layout_of(MODALITIES), CoOccurrence.of([("image", "speech", "text")]), METHODS["causal"].Options())
    most = method.most([*samples, long_speech, long_text])
    assert most.tokens == 13 + 1 + len(samples[0].tokens["speech"]) + 91 and most.targets.tolist() == [13, 21, 91]


def test_the_longest_samples_of_the_data_are_found(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    held = [("image", "text"), ("text",), ("speech", "text")]
    samples = [sample(i, held[i % 3]) for i in range(90)]
    samples[40] = Sample("long", {"text": np.zeros(90, np.uint16)})
    samples[50] = Sample("speech", {"speech": np.zeros(20, np.uint16), "text": np.zeros(1, np.uint16)})
    samples[62] = Sample("both", {"speech": np.zeros(18, np.uint16), "text": np.zeros(60, np.uint16)})
    order = random.permutation(90)
    (tmp_path / "train").mkdir()
    none = b"codes of no tokenizer"
    modalities = [replace(modality, tokenizer=sha256_bytes(none)) for modality in MODALITIES]
    write_split(tmp_path / "train", modalities, {m.name: none for m in MODALITIES}, [samples[i] for i in order], split="train")
    found = {one.key for one in longest_samples(resolve(None, {"method": "causal"}), open_token_set(tmp_path, "train"))}
    assert {"long", "speech", "both"} <= found and len(found) <= 3 + 3


def documents(sizes: list[int]) -> Documents:
    return Documents.of([Document.of(*(np.zeros(size, np.int64) for _ in range(4)), np.zeros((size, 2), np.int64)) for size in sizes])


def test_documents_of_one_length_leave_nothing_empty() -> None:
    assert cheapest_length([documents([40] * 100)], 40) == 40
    assert cheapest_length([documents([37] * 100)], 37) == 40


def test_rows_are_longer_where_that_leaves_less_empty() -> None:
    of_38 = documents([38] * 100)
    assert cheapest_length([of_38], 38) == 40
    of_34 = documents([34] * 100)
    assert cheapest_length([of_34], 34) == 72 and padding(of_34, 72) < padding(of_34, 40)


def test_padding_is_that_of_rows_packed_first_fit() -> None:
    assert padding(documents([5, 3, 4, 4]), 8) == 0
    assert padding(documents([5, 5, 3]), 8) == pytest.approx(3 / 16)
