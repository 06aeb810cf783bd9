"""Promise: segments, moved spans and packing lose no token and ask for each target exactly where it belongs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtool.common.errors import DataError, UsageError
from mmtool.data.layout import layout_of
from mmtool.data.packing import BatchShape, capacity_for, pack
from mmtool.data.sample import Modality
from mmtool.data.sequence import NO_TARGET, concatenate, segment
from mmtool.data.spans import move_spans

IMAGE = Modality("image", "image", 16, (2, 3), "grid", "0" * 64, 6)
TEXT = Modality("text", "text", 30, None, "line", "1" * 64, 9)
TABLE = Modality("table", "table", 5, (4,), "set", "2" * 64, 4)
LAYOUT = layout_of([IMAGE, TEXT, TABLE])


def document(seed: int = 0):
    random = np.random.default_rng(seed)
    parts = [segment(LAYOUT, 0, random.integers(16, size=6)), segment(LAYOUT, 1, random.integers(30, size=1 + seed % 9))]
    return concatenate(parts if seed % 2 else parts[::-1])


def test_ranges_are_contiguous_and_disjoint():
    ranges = [range(*LAYOUT.target_range(i)) for i in range(3)]
    assert [len(r) for r in ranges] == [17, 31, 6]
    assert len(set().union(*ranges)) == 54 and max(ranges[-1]) + 1 == LAYOUT.size


def test_every_input_predicts_the_next_code_and_text_also_its_end():
    text = segment(LAYOUT, 1, np.array([3, 7]))
    assert text.tokens.tolist() == [LAYOUT.open_id(1), LAYOUT.first_code(1) + 3, LAYOUT.first_code(1) + 7]
    assert text.targets.tolist() == [4, 8, 0]
    image = segment(LAYOUT, 0, np.arange(6))
    assert image.targets.tolist() == [1, 2, 3, 4, 5, 6, NO_TARGET]


def test_positions_restart_per_segment_and_follow_the_grid():
    image = segment(LAYOUT, 0, np.zeros(6, int))
    assert image.position.tolist() == [[0, 0], [1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
    both = concatenate([image, segment(LAYOUT, 1, np.zeros(2, int))])
    assert both.position[7:].tolist() == [[0, 0], [1, 1], [2, 2]]
    table = segment(LAYOUT, 2, np.zeros(4, int))
    assert not table.position.any() and len(set(table.slot)) == 5, "features are told apart by identity, not by order"


def test_continuous_patches_are_refused_where_codes_are_needed():
    patches = layout_of([Modality("scan", "image", 0, (2, 2, 48), "grid", "3" * 64, 4)])
    with pytest.raises(DataError, match="codec"):
        segment(patches, 0, np.zeros((4, 48), np.uint8))


@given(st.integers(0, 40), st.lists(st.integers(1, 15), min_size=2, max_size=6, unique=True))
def test_moving_spans_keeps_every_token_once_and_every_target_at_most_once(seed, ends):
    plain = document(seed)
    ends = sorted(end for end in ends if end <= len(plain))
    spans = list(zip(ends[::2], ends[1::2], strict=False))
    moved = move_spans(plain, spans, LAYOUT)
    sentinel = (moved.tokens >= 1) & (moved.tokens <= 8)
    assert sentinel.sum() == 2 * len(spans)
    assert sorted(moved.tokens[~sentinel]) == sorted(plain.tokens)
    wanted = sorted(zip(plain.modality, map(tuple, plain.position), plain.targets, strict=True))
    asked = [row for row in zip(moved.modality, map(tuple, moved.position), moved.targets, strict=True) if row[2] != NO_TARGET]
    assert sorted(asked) == [row for row in wanted if row[2] != NO_TARGET], "each target is asked for exactly once, from its own place"


def test_no_input_behind_a_moved_span_gives_away_a_target():
    plain = segment(LAYOUT, 1, np.arange(1, 8))
    moved = move_spans(plain, [(2, 4)], LAYOUT)
    first, sentinel = LAYOUT.first_code(1), LAYOUT.sentinel(0)
    assert moved.tokens.tolist() == [
        LAYOUT.open_id(1),
        *(first + c for c in (1,)),
        sentinel,
        *(first + c for c in (4, 5, 6, 7)),
        sentinel,
        first + 2,
        first + 3,
    ]
    assert moved.targets.tolist() == [2, NO_TARGET, 5, 6, 7, 8, 0, 3, 4, NO_TARGET]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_packing_keeps_documents_whole_and_in_order(seeds):
    documents = [document(seed) for seed in seeds]
    shape = BatchShape(3, 40, (60, 60, 8))
    batch = pack(documents, shape)
    assert 1 <= batch.num_documents <= len(documents)
    packed = documents[: batch.num_documents]
    assert batch.num_tokens == sum(map(len, packed))
    assert batch.num_targets.sum() == sum((d.targets != NO_TARGET).sum() for d in packed)
    for m in range(3):
        valid = batch.targets[m] != NO_TARGET
        assert (batch.modality.ravel()[batch.target_indices[m][valid]] == m).all()
        assert sorted(batch.targets[m][valid]) == sorted(
            t for d in packed for t, k in zip(d.targets, d.modality, strict=True) if k == m and t >= 0
        )


def test_a_document_longer_than_a_row_is_an_error_not_a_crop():
    with pytest.raises(UsageError, match="row-length"):
        pack([document(9)], BatchShape(2, 8, (64, 64, 64)))


def test_room_for_targets_holds_typical_batches():
    documents = [document(seed) for seed in range(200)]
    rows, length = 16, 64
    batch = pack(documents, BatchShape(rows, length, capacity_for(documents, rows, length, 3)))
    assert batch.num_tokens > 0.85 * rows * length


def test_a_grid_may_have_three_axes_and_others_beside_it_stand_still_in_time():
    video = Modality("video", "video", 16, (2, 2, 3), "grid", "4" * 64, 12)
    patches = Modality("frames", "video", 0, (2, 2, 3, 5), "grid", "5" * 64, 12)
    layout = layout_of([video, IMAGE, TEXT, TABLE, patches])
    assert layout.axes == 3 and LAYOUT.axes == 2 and patches.grid == video.grid
    cells = [[frame, row, column] for frame in (1, 2) for row in (1, 2) for column in (1, 2, 3)]
    assert segment(layout, 0, np.zeros(12, int)).position.tolist() == [[0, 0, 0], *cells]
    image, text = segment(layout, 1, np.zeros(6, int)), segment(layout, 2, np.zeros(2, int))
    assert image.position[:3].tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 2]]
    assert text.position.tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    assert not segment(layout, 3, np.zeros(4, int)).position.any()
    both = concatenate([concatenate([]), image, text])
    batch = pack([both], BatchShape(1, 16, (60,) * 5))
    assert batch.position.shape == (1, 16, 3) and batch.position[0, : len(both)].tolist() == both.position.tolist()
