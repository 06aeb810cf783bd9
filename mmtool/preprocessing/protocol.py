"""Protocols that remove modalities: which ones a sample keeps is a pure function of the seed and the sample's key.

Pairs: every training sample serves one of the given pairs and loses all other modalities, so the pools of the pairs are disjoint
(LoReTTa, arXiv 2305.14243). Missing rate: a share of the samples loses exactly one modality, a named one or any of them in equal parts
(missing-aware prompts, Lee et al., CVPR 2023), or every modality is lost independently at its own rate. A sample that lacks a
modality at one share lacks it at every higher share.

How corpora without common keys become samples at all is an `Alignment`, carried out in `alignment.py`.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from mmtool.common.arguments import assignments
from mmtool.common.artefact_files import SPLITS
from mmtool.common.errors import UsageError
from mmtool.common.options import Option

MISSING, ALIGNING = "Missing modalities", "Corpora without common keys"  # panels of the help
ALIGNED_PER_CLASS = 384
Pair = tuple[str, str] | tuple[str, str, float]  # two modalities, and the share of samples where that is not 1


def read_pairs(values: Iterable[str | Sequence[Any]]) -> tuple[Pair, ...]:
    """Pairs of names, written `A,B` or `A,B=SHARE`, or given as two or three; what is no pair stays for `MissingnessProtocol` to refuse."""
    return tuple(_read_pair(pair) if isinstance(pair, str) else tuple(pair) for pair in values)


def _read_pair(text: str) -> tuple[Any, ...]:
    names, given, share = text.partition("=")
    try:
        return (*map(str.strip, names.split(",", 1)), *([float(share)] if given else []))
    except ValueError as error:
        fix = "Write a number above 0, at most 1, e.g. --pair speech,text=0.02."
        raise UsageError(f"{share!r} is no share of samples.", where="--pair", fix=fix) from error


def names_of(pair: Pair) -> tuple[str, str]:
    """The two modalities of a pair, in order of their names."""
    first, second = sorted(pair[:2])
    return first, second


def share_of(pair: Pair) -> float:
    """How many samples keep a pair, as a share of those that keep one without a share."""
    return pair[2] if len(pair) > 2 else 1.0


def read_rates(values: Sequence[str]) -> float | Mapping[str, float] | None:
    """`0.3` is one rate for all, `image=0.3` a rate for one modality. Raises UsageError for a mixture and for what is no number."""
    try:
        if len(values) == 1 and "=" not in values[0]:
            return float(values[0])
        return {name: float(rate) for name, rate in assignments(values, "--missing-rate").items()} or None
    except ValueError as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError("a rate must be a number from 0 to 1.", where="--missing-rate", fix="Write 0.3, or image=0.3.") from error


@dataclass(frozen=True)
class MissingnessProtocol:
    """What samples lose."""

    pairs: Annotated[tuple[Pair, ...], Option("--pair", "A,B[=SHARE]", panel=MISSING, type=list[str], read=read_pairs)] = ()
    """Training samples keep one of these pairs and lose the rest; of a pair with a share (A,B=0.02) that many as of another. Repeatable.

    Which of those it holds is chosen by hash; samples that hold none are left out."""
    keep_unpaired: Annotated[bool, Option(panel=MISSING)] = False
    """With --pair, samples that hold none of the pairs keep one modality.

    It is chosen by hash."""
    missing_rate: Annotated[
        float | Mapping[str, float] | None, Option(metavar="[NAME=]RATE", panel=MISSING, type=list[str], read=read_rates)
    ] = None
    """Share of samples that lose one modality, or the rate at which NAME is lost. Repeatable.

    The last modality of a sample is never lost."""
    missing: Annotated[tuple[str, ...], Option(metavar="NAME", default="any", panel=MISSING)] = ()
    """Which of them --missing-rate RATE may take; repeatable.

    None named: all, in equal parts."""
    num_missing: Annotated[int, Option(panel=MISSING)] = 1
    """How many modalities such a sample loses."""
    least: Annotated[int, Option(panel=MISSING)] = 1
    """Leave out samples that hold fewer modalities than this from the start.

    Of every split."""
    apply_to: Annotated[tuple[str, ...], Option(metavar="SPLIT", default="train", panel=MISSING)] = ("train",)
    """Splits that lose modalities.

    Validation and test stay complete unless named."""
    seed: int = 0
    """Of all choices."""

    def __post_init__(self) -> None:
        for pair in self.pairs:
            named = {name for name in pair[:2] if isinstance(name, str) and name and not set(name) & set(",=")}
            if len(pair) not in (2, 3) or len(named) != 2:
                what = f"{','.join(map(str, pair))!r} is not a pair."
                raise UsageError(what, where="--pair", fix="Name two modalities, e.g. --pair image,text.")
            share = share_of(pair)
            if not isinstance(share, float | int) or not 0 < share <= 1:
                fix = "Write a number above 0, at most 1, e.g. --pair speech,text=0.02."
                raise UsageError(f"{share!r} is no share of samples.", where="--pair", fix=fix)
        if len(set(map(names_of, self.pairs))) < len(self.pairs):
            raise UsageError("a pair is given twice.", where="--pair", fix="Give each pair once.")
        for rate in _rates(self.missing_rate):
            if not isinstance(rate, float | int) or not 0 <= rate <= 1:
                raise UsageError(f"{rate!r} is no rate.", where="--missing-rate", fix="Give a number from 0 to 1.")
        if self.missing and not isinstance(self.missing_rate, float | int):
            raise UsageError(
                "--missing names what a share of samples loses.", where="--missing", fix="Give the share, e.g. --missing-rate 0.7."
            )
        if self.num_missing < 1:
            raise UsageError(f"{self.num_missing} modalities cannot be lost.", where="--num-missing", fix="Give a number from 1 on.")
        if self.least < 1:
            raise UsageError(f"no sample holds {self.least} modalities.", where="--least", fix="Give a number from 1 on.")
        if not set(self.apply_to) <= set(SPLITS):
            raise UsageError(f"unknown split in {self.apply_to}.", where="--apply-to", fix=f"Choose from: {', '.join(SPLITS)}.")

    @property
    def named(self) -> set[str]:
        """Every modality that the protocol speaks of."""
        rates = self.missing_rate if isinstance(self.missing_rate, Mapping) else {}
        return {name for pair in self.pairs for name in names_of(pair)} | set(rates) | set(self.missing)

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

    @property
    def of_dealt_pairs(self) -> "MissingnessProtocol":
        """The same for samples that were dealt into pairs by their shares (see `alignment.py`)."""
        return replace(self, pairs=tuple(map(names_of, self.pairs)))

    def to_json(self) -> dict[str, Any]:
        """The record in a manifest, its fields named as in earlier versions: `holes` is the missing rate, `lose` how many are missing."""
        rate = dict(self.missing_rate) if isinstance(self.missing_rate, Mapping) else self.missing_rate
        pairs = [list(pair) for pair in self.pairs]
        record = {"pairs": pairs, "holes": rate, "apply_to": list(self.apply_to), "keep_unpaired": self.keep_unpaired, "seed": self.seed}
        further = {"missing": list(self.missing), "lose": self.num_missing, "least": self.least}
        return {**record, **{name: value for name, value in further.items() if value and value != 1}}

    def _one_pair(self, key: str, names: tuple[str, ...]) -> tuple[str, ...]:
        served = sorted((names_of(pair), share_of(pair)) for pair in self.pairs if set(names_of(pair)) <= set(names))
        left = uniform(self.seed, "pair", key) * max(1.0, sum(share for _, share in served))
        for pair, share in served:
            left -= share
            if left < 0:
                return pair
        return (names[int(uniform(self.seed, "single", key) * len(names))],) if self.keep_unpaired and names else ()

    def _some_lost(self, key: str, names: tuple[str, ...], share: float) -> tuple[str, ...]:
        losable = [name for name in names if not self.missing or name in self.missing]
        if len(names) < 2 or uniform(self.seed, "holes", key) >= share:
            return names
        kept = list(names)
        for draw in range(min(self.num_missing, len(names) - 1, len(losable))):
            words = ("lost", key, str(draw)) if draw else ("lost", key)
            kept.remove(losable.pop(int(uniform(self.seed, *words) * len(losable))))
        return tuple(kept)

    def _independent(self, key: str, names: tuple[str, ...], rates: Mapping[str, float]) -> tuple[str, ...]:
        kept = tuple(name for name in names if uniform(self.seed, "holes", key, name) >= rates.get(name, 0.0))
        if kept or not names:
            return kept
        return (names[int(uniform(self.seed, "survivor", key) * len(names))],)


@dataclass(frozen=True)
class Alignment:
    """How items are dealt, index by index in a seeded order. Smaller pools are dealt again, in another order each time."""

    label: Annotated[str, Option("--align", "LABEL", panel=ALIGNING)]
    """Deal items into samples by this label, not by key.

    All corpora have it."""
    pairs_per_class: Annotated[int | None, Option(default="larger pool", panel=ALIGNING)] = None
    """Training samples of each pair and class.

    None: as many as the larger of its two pools holds."""
    aligned_per_class: Annotated[int | None, Option(default="largest pool, 384 at most", panel=ALIGNING)] = None
    """Complete held-out samples of each class.

    None: as many as the largest pool holds, 384 at most, as in the paper."""

    def __post_init__(self) -> None:
        if any(count is not None and count < 1 for count in (self.pairs_per_class, self.aligned_per_class)):
            raise UsageError("a class needs at least one sample.", where="--align", fix="Give a positive number of samples per class.")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def count(self, split: str, largest: int, whole: int, share: float = 1.0) -> int:
        """Samples of a combination and class, where the largest of its pools has `largest` items, and `whole` were dealt to all; share: of
        `pairs_per_class`, or of what was dealt, for a pair that has one."""
        if split == SPLITS[0]:
            return max(1, round(share * self.pairs_per_class)) if self.pairs_per_class else min(largest, max(1, round(share * whole)))
        return self.aligned_per_class or min(largest, ALIGNED_PER_CLASS)


def uniform(seed: int, *words: str) -> float:
    """A number in [0, 1) that depends on nothing but the seed and the words."""
    digest = hashlib.sha256("\0".join((str(seed), *words)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _rates(missing_rate: float | Mapping[str, float] | None) -> list[float]:
    return list(missing_rate.values()) if isinstance(missing_rate, Mapping) else [missing_rate or 0.0]
