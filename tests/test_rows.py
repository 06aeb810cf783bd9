"""Rows are as long as documents make them: none is too long for them, and those of one length leave nothing empty."""

import numpy as np
import pytest

from mmtool.data.documents import Documents
from mmtool.data.graph import CoOccurrence
from mmtool.data.layout import layout_of
from mmtool.data.packing import cheapest_length, padding
from mmtool.data.sample import Modality, Sample
from mmtool.data.sequence import Document
from mmtool.methods import METHODS
from mmtool.methods.loretta import LoReTTa

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


@pytest.mark.parametrize("name", list(METHODS))
def test_the_longest_sample_fits_though_none_like_it_was_looked_at(name: str) -> None:
    pairs = [("image", "text"), ("image", "speech")]
    samples = [sample(i, pairs[i % 2]) for i in range(200)]
    graph = CoOccurrence.of([tuple(one.tokens) for one in samples])
    method = METHODS[name](layout_of(MODALITIES), graph, METHODS[name].Options())
    packer = method.packer(method.size_batches(samples, 512, 0))
    longest = [sample(i, pairs[i % 2], longest=True) for i in range(100)]
    for documents in method.typical_documents(longest):
        for document in documents:
            assert packer([document]).num_documents == 1
    if isinstance(method, LoReTTa):
        kinds = method.typical_documents(longest)
        assert max(len(document) for document in kinds[1]) == sum(1 + modality.max_length for modality in MODALITIES)


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
