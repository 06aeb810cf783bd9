"""Tables among the modalities: raw values for a fair comparison, and the imputers of whole tables."""

from collections.abc import Iterator

import numpy as np

from mmtool.evaluation.directions import Direction
from mmtool.evaluation.reference.data import Reference
from mmtool.evaluation.reference.decoded import DecodedSamples

TABULAR_NAMES = ("training mean", "ridge (chain)", "kernel ridge (chain)", "k nearest (chain)", "chained equations")


Answered = dict[tuple[Direction, bytes], list[tuple[str, np.ndarray]]]  # by direction and held-out samples


class TabularBaselines:
    """Asks every imputer of `tabular_baselines` for directions in which all given and wanted modalities are tables.

    answered: what they said before on the same data, which is not computed again; new answers are added.
    """

    def __init__(self, reference: Reference, answered: Answered) -> None:
        self._reference, self._answered = reference, answered
        kinds = {name: tokenizer.kind for name, tokenizer in reference.tokenizers.items()}
        self._names = [name for name, kind in kinds.items() if kind == "table" and len(reference.train.having(name))]
        if self._names:
            from mmtool.evaluation.baselines.tabular import TABULAR_BASELINES, TrainingTables

            tables = {name: _with_nan(reference, reference.train, name) for name in self._names}
            self._imputers = {name: TABULAR_BASELINES[name] for name in TABULAR_NAMES}
            self._train = TrainingTables(tables, reference.graph)

    def answers(self, direction: Direction, indices: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        """(name of the imputer, (n, F) rows) for the held-out samples at `indices`, from those that have an answer."""
        if not {*direction.given, direction.target} <= set(self._names):
            return
        asked = direction, indices.tobytes()
        if asked not in self._answered:
            self._answered[asked] = list(self._computed(direction, indices))
        yield from self._answered[asked]

    def _computed(self, direction: Direction, indices: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        given = {name: _numbers(self._reference, self._reference.test, name, indices) for name in direction.given}
        for name, imputer in self._imputers.items():
            numbers = imputer(self._train, direction, given)
            if numbers is not None:
                yield name, self._reference.one_hot(direction.target).decode(numbers)


def _numbers(reference: Reference, side: DecodedSamples, name: str, indices: np.ndarray) -> np.ndarray:
    """(n, W) numbers that have means: a category is one for each."""
    return reference.one_hot(name).encode(reference.table(side, name, indices))


def _with_nan(reference: Reference, side: DecodedSamples, name: str) -> np.ndarray:
    """(all samples, W) numbers, NaN where a sample lacks the table."""
    held = side.having(name)
    rows = _numbers(reference, side, name, held)
    table = np.full((len(side), rows.shape[1]), np.nan, np.float32)
    table[held] = rows
    return table
