"""Mutual information of samples and donors, by a model that gives the likelihood of either given the other.

N samples, of which some modalities are given; M donors, codes of the modality that is wanted.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from mmtool.data.sample import Sample

TOGETHER = 256  # samples, and donors

# Samples, what is given of them, targets and a modality -> (samples, targets) log p in nats of the modality of each target.
PairLogP = Callable[[Sequence[Sample], Sequence[str], Sequence[Sample], str], np.ndarray]


def mutual_information(
    log_p: PairLogP,
    samples: Sequence[Sample],
    have: Sequence[str],
    want: str,
    donors: Sequence[np.ndarray],
    references: Sequence[Sample],
    *,
    both_ways: bool,
) -> np.ndarray:
    """(N, M) mutual information in nats of the modalities `have` of each sample and each donor, up to a constant per sample.

    It is log p(given | donor) - log p(given) and log p(donor | given) - log p(donor) alike. A model errs in both, in different ways: the
    mean is taken (both_ways; else the first alone, of donors without likelihood). Of several given modalities the first term is summed,
    as if they were independent given the donor. p(donor) is the mean of p(donor | reference) over samples that hold some of `have`: what
    a model predicts given nothing need not agree with what it predicts given something.
    """
    columns = []
    for at in range(0, len(donors), TOGETHER):
        holders = [Sample("", {want: codes}) for codes in donors[at : at + TOGETHER]]
        marginal = _log_marginal(log_p, holders, have, want, references) if both_ways else None
        rows = []
        for start in range(0, len(samples), TOGETHER):
            part = samples[start : start + TOGETHER]
            backward = np.sum([log_p(holders, [want], part, name) for name in have], 0).T
            rows.append(backward if marginal is None else (backward + log_p(part, have, holders, want) - marginal) / 2)
        columns.append(np.vstack(rows))
    return np.hstack(columns)


def _log_marginal(log_p: PairLogP, holders: Sequence[Sample], have: Sequence[str], want: str, references: Sequence[Sample]) -> np.ndarray:
    """(M,) log of the mean likelihood over references, each read with what it holds of `have`; without any, given nothing."""
    groups: dict[tuple[str, ...], list[Sample]] = defaultdict(list)
    for reference in references or [Sample("", {})]:
        groups[tuple(name for name in have if name in reference.tokens)].append(reference)
    scores = np.vstack([log_p(group, held, holders, want) for held, group in groups.items()])
    return np.logaddexp.reduce(scores, axis=0) - np.log(len(scores))
