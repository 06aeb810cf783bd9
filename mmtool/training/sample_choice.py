"""Which training samples an epoch holds, and those that batches are sized by."""

import numpy as np

from mmtool.data.loader import mixture
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet
from mmtool.training.config import PretrainConfig

TYPICAL_SAMPLES = 512  # looked at to size rows and room for targets


def epoch_members(config: PretrainConfig, train: TokenSet) -> np.ndarray:
    """Indices of the samples of an epoch."""
    if not config.paired_share:
        return np.arange(len(train))
    return mixture(np.array([len(train.present(i)) > 1 for i in range(len(train))]), config.paired_share)


def typical_samples(config: PretrainConfig, train: TokenSet) -> list[Sample]:
    """A seeded choice of training samples."""
    chosen = np.random.default_rng(config.seed).permutation(epoch_members(config, train))[:TYPICAL_SAMPLES]
    return [train[int(i)] for i in chosen]


def longest_samples(config: PretrainConfig, train: TokenSet) -> list[Sample]:
    """The training sample with most tokens of each combination of modalities, and the one with most of each modality."""
    members = np.unique(epoch_members(config, train))
    lengths = train.lengths[members]
    _, group = np.unique(lengths >= 0, axis=0, return_inverse=True)
    group = group.ravel()  # numpy 2.0 gives a column
    order = np.lexsort((np.maximum(lengths, 0).sum(1), group))
    last_of_group = order[np.append(np.diff(group[order]) != 0, True)]
    return [train[int(members[i])] for i in np.union1d(last_of_group, lengths.argmax(0))]
