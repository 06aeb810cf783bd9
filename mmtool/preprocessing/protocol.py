"""Protocols that remove modalities: which ones a sample keeps is a pure function of the seed and the sample's key.

Pairs: every training sample serves one of the given pairs and loses all other modalities, so the pools of the pairs are disjoint
(LoReTTa, arXiv 2305.14243). Missing rate: a share of the samples loses exactly one modality, a named one or any of them in equal parts
(missing-aware prompts, Lee et al., CVPR 2023), or every modality is lost independently at its own rate. A sample that lacks a
modality at one share lacks it at every higher share.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from mmtool.common.errors import UsageError
from mmtool.data.sample import SPLITS

Pair = tuple[str, str]


@dataclass(frozen=True)
class MissingnessProtocol:
    """What samples lose.

    pairs: each sample keeps one of the pairs it holds, chosen by hash; samples that hold none are left out, or with `keep_unpaired`
    keep a single modality, chosen by hash.
    missing_rate: share of the samples that lose modalities, or a rate per modality; the last one is never lost.
    missing: with a share, the modalities that may be lost (none named: all, in equal parts). num_missing: how many each such sample loses.
    least: samples that hold fewer modalities from the start are left out of every split.
    apply_to: splits that lose anything; validation and test stay complete unless named. seed: of all choices.
    """

    pairs: tuple[Pair, ...] = ()
    missing_rate: float | Mapping[str, float] | None = None
    apply_to: tuple[str, ...] = ("train",)
    keep_unpaired: bool = False
    seed: int = 0
    missing: tuple[str, ...] = ()
    num_missing: int = 1
    least: int = 1

    def __post_init__(self) -> None:
        for pair in self.pairs:
            if len(pair) != 2 or len(set(pair) - {""}) != 2:
                raise UsageError(f"{','.join(pair)!r} is not a pair.", where="--pair", fix="Name two modalities, e.g. --pair image,text.")
        if len({frozenset(pair) for pair in self.pairs}) < len(self.pairs):
            raise UsageError("a pair is given twice.", where="--pair", fix="Give each pair once.")
        for rate in _rates(self.missing_rate):
            if not 0 <= rate <= 1:
                raise UsageError(f"{rate} is no rate.", where="--missing-rate", fix="Give a number from 0 to 1.")
        if self.missing and not isinstance(self.missing_rate, float | int):
            raise UsageError(
                "--missing names what a share of samples loses.", where="--missing", fix="Give the share, e.g. --missing-rate 0.7."
            )
        if self.num_missing < 1:
            raise UsageError(f"{self.num_missing} modalities cannot be lost.", where="--num-missing", fix="Give a number from 1 on.")
        if self.least < 1:
            raise UsageError(f"no sample holds {self.least} modalities.", where="least", fix="Give a number from 1 on.")
        if not set(self.apply_to) <= set(SPLITS):
            raise UsageError(f"unknown split in {self.apply_to}.", where="apply_to", fix=f"Choose from: {', '.join(SPLITS)}.")

    @property
    def named(self) -> set[str]:
        """Every modality that the protocol speaks of."""
        rates = self.missing_rate if isinstance(self.missing_rate, Mapping) else {}
        return {name for pair in self.pairs for name in pair} | set(rates) | set(self.missing)

    def kept(self, key: str, present: Collection[str], split: str) -> tuple[str, ...]:
        """The modalities that a sample keeps, in order of their names; none of them: the sample is left out."""
        names = tuple(sorted(present))
        if len(names) < self.least:
            return ()
        if split not in self.apply_to:
            return names
        if self.pairs:
            names = self._one_pair(key, names)
        if isinstance(self.missing_rate, Mapping):
            return self._independent(key, names, self.missing_rate)
        return self._some_lost(key, names, self.missing_rate or 0.0)

    def to_json(self) -> dict[str, Any]:
        """The record in a manifest, its fields named as in earlier versions: `holes` is the missing rate, `lose` how many are missing."""
        rate = dict(self.missing_rate) if isinstance(self.missing_rate, Mapping) else self.missing_rate
        pairs = [list(pair) for pair in self.pairs]
        record = {"pairs": pairs, "holes": rate, "apply_to": list(self.apply_to), "keep_unpaired": self.keep_unpaired, "seed": self.seed}
        further = {"missing": list(self.missing), "lose": self.num_missing, "least": self.least}
        return {**record, **{name: value for name, value in further.items() if value and value != 1}}

    def _one_pair(self, key: str, names: tuple[str, ...]) -> tuple[str, ...]:
        served = sorted(tuple(sorted(pair)) for pair in self.pairs if set(pair) <= set(names))
        if not served:
            return (names[int(uniform(self.seed, "single", key) * len(names))],) if self.keep_unpaired and names else ()
        return served[int(uniform(self.seed, "pair", key) * len(served))]

    def _some_lost(self, key: str, names: tuple[str, ...], share: float) -> tuple[str, ...]:
        losable = [name for name in names if not self.missing or name in self.missing]
        if len(names) < 2 or uniform(self.seed, "holes", key) >= share:
            return names
        kept = list(names)
        for turn in range(min(self.num_missing, len(names) - 1, len(losable))):
            words = ("lost", key, str(turn)) if turn else ("lost", key)
            kept.remove(losable.pop(int(uniform(self.seed, *words) * len(losable))))
        return tuple(kept)

    def _independent(self, key: str, names: tuple[str, ...], rates: Mapping[str, float]) -> tuple[str, ...]:
        kept = tuple(name for name in names if uniform(self.seed, "holes", key, name) >= rates.get(name, 0.0))
        if kept or not names:
            return kept
        return (names[int(uniform(self.seed, "survivor", key) * len(names))],)


def uniform(seed: int, *words: str) -> float:
    """A number in [0, 1) that depends on nothing but the seed and the words."""
    digest = hashlib.sha256("\0".join((str(seed), *words)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _rates(missing_rate: float | Mapping[str, float] | None) -> list[float]:
    return list(missing_rate.values()) if isinstance(missing_rate, Mapping) else [missing_rate or 0.0]
