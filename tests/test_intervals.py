"""Intervals of estimates: samples that share a source count as what they are worth."""

from typing import Any

import numpy as np
import pytest

from mmtool.data.identity import clusters
from mmtool.data.sample import Sample
from mmtool.metrics.intervals import perplexity, share


def test_samples_that_share_a_source_are_no_independent_evidence() -> None:
    random = np.random.default_rng(0)
    right, nll = random.random(60) < 0.7, random.gamma(4, size=60)
    recordings, tokens = np.repeat(np.arange(60), 4), np.full(60, 9)
    alone, repeated = share(right), share(np.repeat(right, 4), recordings)
    assert repeated.value == alone.value and repeated.n == 240
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=0.02)
    assert share(np.repeat(right, 4)).high - share(np.repeat(right, 4)).low < 0.6 * (alone.high - alone.low)
    assert share(right, np.arange(60)) == alone
    assert share(np.ones(240), recordings).low == pytest.approx(share(np.ones(60)).low)
    once, four_times = perplexity(nll, tokens, 0), perplexity(np.repeat(nll, 4), np.repeat(tokens, 4), 0, recordings)
    assert (four_times.value, four_times.low, four_times.high) == pytest.approx((once.value, once.low, once.high))


def test_clusters_are_groups_or_items_that_were_dealt_again() -> None:
    def sample(i: int, recording: int, **metadata: Any) -> Sample:
        return Sample(f"s{i}", {}, metadata={"sources": {"speech": f"r{recording}", "image": f"i{i}"}, **metadata})

    aligned = [sample(i, i % 6) for i in range(12)]
    assert clusters(aligned, ["image", "speech"]).tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert len(set(clusters(aligned, ["image"]).tolist())) == 12
    patients = [Sample(f"s{i:02d}", {}, metadata={"group": f"p{i // 2}"}) for i in range(12)]
    assert clusters(patients, ["a"]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert len(set(clusters(patients[:4], ["a"]).tolist())) == 4  # two patients say nothing of how patients differ
    assert clusters([], ["a"]).tolist() == []
