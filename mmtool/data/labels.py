"""Labels of samples: which one is meant, and whether it is a class or a number."""

from collections.abc import Sequence
from typing import Any

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.data.sample import Sample

MAX_CLASSES = 100


def choose_label(samples: Sequence[Sample], wanted: str | None) -> str | None:
    """The label to judge by: the wanted one, or the only categorical one that all samples share; None where there is none."""
    if wanted is not None:
        if not any(sample.labels.get(wanted) is not None for sample in samples):
            known = sorted({name for sample in samples for name in sample.labels})
            raise UsageError(f"no sample has the label {wanted!r}.", where="--label", fix=f"Labels: {', '.join(known) or 'none'}.")
        return wanted
    found = [name for name in sorted(samples[0].labels) if categorical([sample.labels.get(name) for sample in samples])]
    if len(found) > 1:
        what = f"several labels could be judged by: {', '.join(found)}."
        raise UsageError(what, where="--label", fix=f"Choose one, for example --label {found[0]}.")
    if not found:
        log("no label with 2 to 100 classes is common to all samples: imputed data is not judged by class.")
    return found[0] if found else None


def is_number(samples: Sequence[Sample], label: str | None) -> bool:
    """Whether a label is a number to regress on: not of classes, and numeric wherever it is."""
    values = [sample.labels[label] for sample in samples if sample.labels.get(label) is not None] if label else []
    return bool(values) and not categorical(values) and all(isinstance(value, (int, float)) for value in values)


def categorical(values: Sequence[Any]) -> bool:
    """Whether values are classes: 2 to 100 different ones, and no fractions."""
    if any(value is None or (isinstance(value, float) and not value.is_integer()) for value in values):
        return False
    return 2 <= len(set(map(str, values))) <= MAX_CLASSES
