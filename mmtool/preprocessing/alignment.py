"""Alignment of corpora that share no keys: items are dealt into samples by a label that all of them carry.

This is how SVL-MNIST is made (LoReTTa, arXiv 2305.14243): digits, recordings and sentences of one class become a sample, index
by index, and the pools behind two pairs of modalities are disjoint.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmtool.common.errors import DataError
from mmtool.common.log import log
from mmtool.data.identity import SOURCES, content_field, original_field
from mmtool.data.sample import SPLITS, Sample
from mmtool.preprocessing.items import Items
from mmtool.preprocessing.join import Placement, original_of
from mmtool.preprocessing.protocol import Alignment, MissingnessProtocol, names_of, share_of, uniform

Place = tuple[str, str]  # split and class
Pool = Sequence[Sample]
Pools = dict[str, dict[Place, list[Sample]]]  # modality -> place -> its items


def align(items: Mapping[str, Items], alignment: Alignment, protocol: MissingnessProtocol, placement: Placement) -> Iterator[Sample]:
    """Deal the items (modality -> key -> sample of that modality alone) into samples. What cannot be dealt is said.

    Training samples hold one of the protocol's pairs (every modality where it has none), those of other splits every modality.
    Keys read `train-image+text-3-000012`; metadata keeps the keys of the sources; labels other than the common one become
    `MODALITY.LABEL`. A class that a modality lacks in a split is left out there. Raises DataError for an item without the label.
    """
    pools, classes = _pools(items, alignment.label, placement)
    for split, value in sorted({place for by_place in pools.values() for place in by_place}):
        groups = _combinations(protocol, split, sorted(pools))
        for names in groups:
            stem = f"{split}-{'+'.join(names)}-{value}"
            shares = {name: _share(pools[name].get((split, value), []), name, names, groups, protocol.seed) for name in names}
            if not all(shares.values()):
                log(f"nothing to align for {stem} (no {', '.join(name for name in names if not shares[name])})")
                continue
            largest, whole = max(map(len, shares.values())), max(len(pools[name][split, value]) for name in names)
            count = alignment.count(split, largest, whole, groups[names])
            columns = {name: _dealt(pool, count, f"{stem}/{name}", protocol.seed) for name, pool in shares.items()}
            for i in range(count):
                sources = {name: items[name][column[i].key] for name, column in columns.items()}
                yield _sample(f"{stem}-{i:06d}", split, {alignment.label: classes[value]}, sources)


def _pools(items: Mapping[str, Items], label: str, placement: Placement) -> tuple[Pools, dict[str, Any]]:
    """Items by modality, split and class, without their tokens, and the value of each class. Variants exist in training only."""
    pools: Pools = {}
    classes: dict[str, Any] = {}
    for name in sorted(items):
        by_place = pools.setdefault(name, {})
        for key in sorted(items[name]):
            item = items[name][key]
            value = item.labels.get(label)
            if value is None:
                raise DataError(f"this {name} has no label {label!r} to align by.", where=key, fix="Give it when tokenizing (--label).")
            split = placement.of(item)
            if split == SPLITS[0] or original_of(item) == key:
                classes.setdefault(str(value), value)
                by_place.setdefault((split, str(value)), []).append(replace(item, tokens={}))
    return pools, classes


def _combinations(protocol: MissingnessProtocol, split: str, names: Sequence[str]) -> dict[tuple[str, ...], float]:
    """What samples hold, and the share of samples of each."""
    if split in protocol.apply_to and protocol.pairs:
        return dict(sorted((names_of(pair), share_of(pair)) for pair in protocol.pairs))
    return {tuple(names): 1.0}


def _share(pool: Pool, name: str, names: tuple[str, ...], groups: Mapping[tuple[str, ...], float], seed: int) -> Pool:
    """The part of a modality's pool that belongs to one combination: originals are dealt in turn, by the shares of the combinations;
    variants follow theirs."""
    users = {group: share for group, share in groups.items() if name in group}
    originals = sorted({original_of(item) for item in pool}, key=lambda key: (uniform(seed, "pool", name, key), key))
    turns = sorted(((number + 1) / share, group) for group, share in users.items() for number in range(len(originals)))
    dealt = {original for original, (_, group) in zip(originals, turns, strict=False) if group == names}
    return [item for item in pool if original_of(item) in dealt]


def _dealt(pool: Pool, count: int, purpose: str, seed: int) -> list[Sample]:
    """`count` items of a pool, all of it before any again; each round has its own order, so that the same items do not meet again."""
    dealt: list[Sample] = []
    while len(dealt) < count:
        turn = f"{purpose}/{len(dealt)}"
        dealt += sorted(pool, key=lambda item: (uniform(seed, turn, item.key), item.key))
    return dealt[:count]


def _sample(key: str, split: str, common: Mapping[str, Any], sources: Mapping[str, Sample]) -> Sample:
    tokens = {name: item.tokens[name] for name, item in sources.items()}
    labels = {f"{name}.{label}": value for name, item in sources.items() for label, value in item.labels.items() if label not in common}
    fields = [(item, field) for name, item in sources.items() for field in (original_field(name), content_field(name))]
    originals = {field: item.metadata.get(field) for item, field in fields}
    known = {name: original for name, original in originals.items() if original}
    metadata = {SOURCES: {name: item.key for name, item in sources.items()}, **known}
    return Sample(key, tokens, {**common, **labels}, metadata, split)
