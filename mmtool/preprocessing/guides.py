"""What the other tables of the same samples hold: the guides of a table's components.

Principal components of a wide table hold what varies most, which need not be what other tables know of. Guides come from token shards, in
which the modalities that a protocol removed are absent: no pair is seen that training would not see.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmtool.common.errors import UsageError
from mmtool.data.shards import TokenSet, open_token_set
from mmtool.tokenizers.base import ValueCodes, from_bytes


def guide_tables(shards: Path, name: str, keys: Sequence[str]) -> list[np.ndarray]:
    """(N, W) code values of every other table that training samples of `shards` hold together with `name`; rows of NaN for keys
    whose sample lacks it. Raises UsageError where there is no such table."""
    tokens = open_token_set(shards, split="train")
    numbers = {key: i for i, key in enumerate(tokens.keys) if name in tokens.present(i)}
    others = [modality.name for modality in tokens.modalities if modality.name != name and modality.ordered]
    all_values = [_values(tokens, other, [numbers.get(key) for key in keys]) for other in others]
    guides = [values for values in all_values if not np.isnan(values).all()]
    if not guides:
        fix = "Give shards whose training samples hold it together with another table."
        raise UsageError(f"no other table goes with {name!r} in these shards.", where=shards, fix=fix)
    return guides


def _values(tokens: TokenSet, other: str, numbers: Sequence[int | None]) -> np.ndarray:
    tokenizer = from_bytes(tokens.tokenizers[other])
    assert isinstance(tokenizer, ValueCodes)
    table = tokenizer.code_values()
    rows = np.full((len(numbers), len(table)), np.nan, np.float32)
    for row, number in enumerate(numbers):
        if number is not None and other in tokens.present(number):
            rows[row] = table.of(tokens[number].tokens[other][None])[0]
    return rows
