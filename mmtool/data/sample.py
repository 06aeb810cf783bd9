"""What a sample and a modality are: the words every other room uses."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmtool.common.artefact_files import SPLITS as SPLITS
from mmtool.common.errors import DataError, UsageError
from mmtool.tokenizers.base import Positions


@dataclass(frozen=True)
class Modality:
    """A named kind of data as it stands in token shards.

    name: chosen by the user (`image`, `speech`, `mrna`).
    kind: which tokenizer family made it (see `mmtool.kinds`).
    vocabulary_size: number of codes; 0 for a continuous modality (uint8 patches instead of codes).
    shape: of a segment where every segment has the same one: `(rows, cols)` or `(frames, rows, cols)` ... on a grid, `(length,)` on a
        line or set, with the number of values behind it for continuous patches; None where the length varies.
    positions: what a token's index means: place on a line, cell of a grid of any number of axes (row-major), or identity in a set.
    tokenizer: fingerprint of the fitted tokenizer (sha256, hexadecimal).
    max_length: tokens in the longest segment of the data set.
    ordered: so many codes, counted from 0, are levels of a quantity in ascending order; 0 where codes are mere names.
    values: numbers in a patch of a continuous modality whose length varies (shape None); 0 for all others.
    """

    name: str
    kind: str
    vocabulary_size: int
    shape: tuple[int, ...] | None
    positions: Positions
    tokenizer: str
    max_length: int
    ordered: int = 0
    values: int = 0

    @property
    def continuous(self) -> bool:
        return self.vocabulary_size == 0

    @property
    def fixed_length(self) -> bool:
        return self.shape is not None

    @property
    def grid(self) -> tuple[int, ...]:
        """How many cells the grid of a segment has along each axis; empty for what lies on no grid."""
        if self.positions != "grid" or self.shape is None:
            return ()
        return self.shape[:-1] if self.continuous else self.shape

    @property
    def patch_width(self) -> int:
        """Values per token of a continuous modality; 0 for codes."""
        return (self.shape[-1] if self.shape else self.values) if self.continuous else 0

    def to_json(self) -> dict[str, Any]:
        record = {**self.__dict__, "shape": list(self.shape) if self.shape else None}
        return {name: value for name, value in record.items() if value or name not in ("ordered", "values")}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Modality":
        shape = record["shape"]
        return cls(**{**record, "shape": tuple(shape) if shape else None})


@dataclass
class Sample:
    """One entity: its key, and the tokens of the modalities that are present.

    tokens: modality name -> (L,) unsigned codes below the modality's vocabulary size, or (L, values) uint8 patches.
    labels: name -> number or string (what evaluation may judge by); metadata: anything JSON; split: train, validation or test.
    """

    key: str
    tokens: dict[str, np.ndarray]
    labels: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    split: str = "train"

    @property
    def present(self) -> tuple[str, ...]:
        return tuple(sorted(self.tokens))

    def number(self, label: str) -> float:
        """A label that is a number. Raises DataError where it is not."""
        try:
            return float(self.labels[label])
        except (TypeError, ValueError) as error:
            what = f"{label} is {self.labels[label]!r}, where other samples have numbers."
            raise DataError(what, where=self.key, fix="Correct it in the table of labels and shard again, or leave it empty.") from error


def listed_samples(samples: Any) -> list[Sample]:
    """The samples. Raises UsageError for a single one, for data frames, and for what is none."""
    fix = "Give a list of samples: [sample] of one, run.encode(...) of data frames and other values."
    if isinstance(samples, Sample | Mapping) or not (isinstance(samples, Iterable) or hasattr(samples, "__getitem__")):
        raise UsageError(f"samples are a single {type(samples).__name__}.", where="samples", fix=fix)
    chosen = list(samples)
    wrong = next((type(item).__name__ for item in chosen if not isinstance(item, Sample)), None)
    if wrong is not None:
        raise UsageError(f"samples hold {wrong}, which is no sample.", where="samples", fix=fix)
    return chosen
