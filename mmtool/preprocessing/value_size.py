"""How much memory raw values take."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def num_bytes(value: Any) -> int:
    """About how many bytes a raw value has; of a row with its header, and of samples with their rate, the numbers count."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(num_bytes, value.values()))
    return num_bytes(value[0]) if isinstance(value, tuple) and value else 0
