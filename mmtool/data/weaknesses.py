"""What is whole but would weaken training or judging: held-out samples that training holds too, thin pairs, modalities that never vary."""

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet, open_token_set, split_directories

LEAST_TOGETHER = 50  # training samples from which on two modalities can be linked
LEAST_TOKENS = 16  # shorter sequences may be equal by chance
TOGETHER = "Where they come from one file or one patient, tokenize again with --group-column (or a `group` in --label-pattern)."
TEXT = "text"  # a kind of which equal samples are usual: captions, commands, answers


def weaknesses(path: Path) -> Iterator[str]:
    """One sentence for each weakness of a token set. Held-out samples are compared with those of training by their tokens.

    Memory: a digest of 16 bytes for each held-out sample and modality.
    """
    parts = {name or "": open_token_set(path, name) for name in split_directories(path)}
    train = parts.pop("train", None) or parts.pop("", None)
    if train is None:
        return
    yield from _thin_pairs(train)
    yield from _constants(train)
    yield from _shared(train, parts)


def _thin_pairs(train: TokenSet) -> Iterator[str]:
    for (one, other), count in sorted(train.co_occurrence().items()):
        if 0 < count < LEAST_TOGETHER:
            yield f"{one} and {other} occur together in {count:,} training samples, too few to learn one from the other."


def _constants(train: TokenSet) -> Iterator[str]:
    first: dict[str, bytes] = {}
    varied: set[str] = set()
    for sample in train:
        for name, digest in _digests(sample, [modality.name for modality in train.modalities if modality.name not in varied]):
            if first.setdefault(name, digest) != digest:
                varied.add(name)
        if len(varied) == len(train.modalities):
            return
    for name in sorted({*first} - varied):
        yield f"all training samples of {name} are the same, so that there is nothing to learn of it."


def _shared(train: TokenSet, held_out: Mapping[str, TokenSet]) -> Iterator[str]:
    names = [modality.name for modality in train.modalities if modality.kind != TEXT]
    for split, part in sorted(held_out.items()):
        digests: dict[str, list[bytes]] = {name: [] for name in names}
        for sample in part:
            for name, digest in _digests(sample, names, LEAST_TOKENS):
                digests[name].append(digest)
        sought, met = {name: {*held} for name, held in digests.items()}, {name: set[bytes]() for name in names}
        for sample in train if any(sought.values()) else ():
            for name, digest in _digests(sample, names, LEAST_TOKENS):
                if digest in sought[name]:
                    met[name].add(digest)
        for name in names:
            count = sum(digest in met[name] for digest in digests[name])
            if count:
                shares = f"{count:,} of {len(digests[name]):,} samples of {name} in {split}"
                yield f"{shares} have the same tokens as training samples. {TOGETHER}"


def _digests(sample: Sample, names: Sequence[str], least: int = 1) -> Iterator[tuple[str, bytes]]:
    """Of the tokens of the modalities that the sample holds, if they are so many."""
    for name in names:
        tokens = sample.tokens.get(name)
        if tokens is not None and len(tokens) >= least:
            yield name, blake2b(tokens.tobytes(), digest_size=16).digest()
