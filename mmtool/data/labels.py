"""Labels of samples: which one is meant, and whether it is a class or a number."""

from collections.abc import Sequence
from typing import Any

from mmtool.common.errors import UsageError
from mmtool.common.log import log
from mmtool.data.sample import Sample

MAX_CLASSES = 100
MAX_NUMBERS = 20  # whole numbers of more different values, ages say, are quantities and no classes
MIN_SHARE = 0.5  # of the samples that must hold a label for it to be taken without being named


def choose_label(samples: Sequence[Sample], wanted: str | None, apart: Sequence[str] = ()) -> str | None:
    """The wanted label, or the only one with classes that at least half of the samples hold; None where there is none.

    apart: labels that are wanted for something else (time and event of survival), which are taken only if there is no other.
    Raises UsageError where no sample has the wanted one, or several could be meant.
    """
    if wanted is not None:
        check_label(samples, wanted, "--label")
        return wanted
    known = sorted({name for sample in samples for name in sample.labels})
    values = {name: _held(samples, name) for name in known}
    candidates = [name for name in known if len(values[name]) >= MIN_SHARE * len(samples) and categorical(values[name])]
    candidates = [name for name in candidates if name not in apart] or candidates
    if len(candidates) > 1:
        what = f"several labels have classes: {', '.join(candidates)}."
        raise UsageError(what, where="--label", fix=f"Choose one, for example --label {candidates[0]}.")
    if not candidates:
        what = "no label with 2 to 100 classes is held by most samples: imputed data is not judged by class"
        log(f"{what} (mmtool shard --labels FILE adds labels).")
    return candidates[0] if candidates else None


def check_label(samples: Sequence[Sample], wanted: str, where: str) -> None:
    """Raise UsageError where no sample has the label that the option `where` names."""
    if any(sample.labels.get(wanted) is not None for sample in samples):
        return
    known = sorted({name for sample in samples for name in sample.labels})
    raise UsageError(f"no sample has the label {wanted!r}.", where=where, fix=_fix(known))


def check_classes(samples: Sequence[Sample], wanted: str, where: str) -> None:
    """The same, and that the label has classes."""
    check_label(samples, wanted, where)
    held = _held(samples, wanted)
    distinct = len(set(map(str, held)))
    if not categorical(held) or distinct > len(held) / 2:
        what = f"{wanted} has {distinct} different values in {len(held)} samples, which are no classes."
        raise UsageError(what, where=where, fix="Name a label with 2 to 100 classes that samples share.")


def _fix(known: Sequence[str]) -> str:
    if known:
        return f"Labels: {', '.join(known)}."
    return "There are no labels. Add them with `mmtool shard --labels FILE`, or keep a column with `mmtool tokenize --label COLUMN`."


def is_number(samples: Sequence[Sample], label: str | None) -> bool:
    """Whether a label is a number to regress on: not of classes, and numeric wherever it is."""
    values = _held(samples, label) if label else []
    return bool(values) and not categorical(values) and all(isinstance(value, (int, float)) for value in values)


def categorical(values: Sequence[Any]) -> bool:
    """Whether values are classes: 2 to 100 different ones, no fractions, and of whole numbers at most 20, each of which some share."""
    if any(isinstance(value, float) and not value.is_integer() for value in values):
        return False
    distinct = len(set(map(str, values)))
    if all(isinstance(value, (int, float)) for value in values) and (distinct > MAX_NUMBERS or distinct > max(2, len(values) / 2)):
        return False
    return 2 <= distinct <= MAX_CLASSES


def _held(samples: Sequence[Sample], label: str) -> list[Any]:
    return [sample.labels[label] for sample in samples if sample.labels.get(label) is not None]
