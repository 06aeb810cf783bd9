"""What every tokenizer is: a fitted, fingerprinted object between raw values and token ids of one modality.

Saved as one `.safetensors` file: weights as tensors, everything else as a single metadata key holding sorted JSON (several
keys would come out in another order in each process).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from mmtool.common.bounds import Bounds, check_range
from mmtool.common.errors import DataError, UsageError
from mmtool.common.options import did_you_mean
from mmtool.common.seal import check_seal, reading, sealed
from mmtool.common.storage import canonical_json, sha256_bytes, write_bytes
from mmtool.kinds import KINDS, schemes_by_kind
from mmtool.kinds import load as load_reference
from mmtool.tokenizers.code_values import CodeValues

Positions = Literal["line", "grid", "set"]
Number = float | int
PositiveNumber = Annotated[Number, Bounds(0, open_low=True)]
SampleRate = Annotated[int, Bounds(1, 384_000)]
MAX_BINS = (1 << 16) - 1
Bins = Annotated[int, Bounds(2, MAX_BINS)]
METADATA_KEY = "mmtool"
FITTED_ON, FITTED_CONTENTS = "fitted_on", "fitted_contents"  # names of tensors beside those of the state
FORMAT, UNSEALED = "mmtool-tokenizer/2", "mmtool-tokenizer/1"  # the earlier one carries no digest
REPLACE = "Restore it from a copy, or fit it again."


class Tokenizer(Protocol):
    """Raw values of one kind <-> token arrays.

    Raw values: image (H, W, C) uint8; audio (T,) float32 at `sample_rate_hz`; text str; table (F,) float32 with NaN where a
    value is missing; trajectory {stream: (steps, ...) numbers}. `encode`/`decode` take and give batches; decode(encode(x)) is x as
    far as the codes can hold it.
    """

    kind: ClassVar[str]  # see `mmtool.kinds`
    scheme: ClassVar[str]  # which file format of the family: "codec", "patches", "pieces", "bins", "steps"
    vocabulary_size: int  # 0: continuous
    shape: tuple[int, ...] | None
    positions: Positions
    report: dict[str, Any]  # what fitting measured: reconstruction error, codebook usage
    fitted_on: np.ndarray | None  # sorted identities of the items it was fitted on (see data/identity.py); None: not recorded
    fitted_contents: np.ndarray | None  # the same of their contents, which may repeat

    def encode(self, values: Sequence[Any]) -> list[np.ndarray]: ...

    def decode(self, tokens: Sequence[np.ndarray]) -> list[Any]: ...

    def write(self, value: Any, stem: Path) -> Path:
        """Write a raw value as a real file beside `stem` (PNG, WAV, TXT, CSV, NPZ added to its name); give the path."""
        ...

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """(tensors, settings): all that `from_state` needs."""
        ...

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> "Tokenizer": ...


@runtime_checkable
class RowWriter(Protocol):
    """A tokenizer whose values belong together in one file: many rows as one CSV, the sample key first."""

    def write_rows(self, keys: Sequence[str], values: Sequence[Any], path: Path) -> Path: ...


@runtime_checkable
class ValueCodes(Protocol):
    """A tokenizer of numbers: each code at each place stands for a value, and rows follow linearly from values.

    So a mean of code values becomes the mean of the rows, without drawing any; of categories, the most probable one.
    ordered_codes: the first so many codes ascend.
    """

    features: tuple[str, ...]
    ordered_codes: int

    def align(self, header: Sequence[str], where: object = None) -> np.ndarray: ...

    def code_values(self) -> CodeValues:
        """What the codes of each place stand for, in W numbers of a row."""
        ...

    def from_code_values(self, values: np.ndarray) -> np.ndarray:
        """(N, W) values or means of them -> (N, F) rows."""
        ...

    def residual(self) -> np.ndarray:
        """(F,) standard deviation of what the codes do not hold, on the tokenizer's scale."""
        ...


@runtime_checkable
class RangeLimited(Protocol):
    """A tokenizer of numbers whose codes end somewhere: values beyond count as the last ones there are."""

    def beyond(self, value: Any) -> dict[str, int]:
        """How many numbers of each part of a value lie beyond the range the tokenizer was fitted to; parts without any are left out."""
        ...


def to_bytes(tokenizer: Tokenizer) -> bytes:
    """The file's bytes: the same tokenizer always gives the same ones, one that an earlier version fitted those of its file."""
    from safetensors.numpy import save

    tensors, settings = tokenizer.state()
    fitted = {name: getattr(tokenizer, name, None) for name in (FITTED_ON, FITTED_CONTENTS)}  # the stage that fits sets them
    tensors = {**tensors, **{name: items for name, items in fitted.items() if items is not None}}
    record = {"kind": tokenizer.kind, "scheme": tokenizer.scheme, "settings": settings, "report": tokenizer.report}
    record = {"format": getattr(tokenizer, "file_format", FORMAT), **json.loads(canonical_json(record))}
    if record["format"] != UNSEALED:
        record = sealed(record, tensors)
    return save({name: np.asarray(tensor, order="C") for name, tensor in sorted(tensors.items())}, {METADATA_KEY: canonical_json(record)})


def fingerprint(tokenizer: Tokenizer) -> str:
    """sha256 of the tokenizer's file."""
    return sha256_bytes(to_bytes(tokenizer))


def save_tokenizer(tokenizer: Tokenizer, path: Path, force: bool = False) -> None:
    write_bytes(path, to_bytes(tokenizer), force)


def load_tokenizer(path: Path) -> Tokenizer:
    """Open a tokenizer file. Raises DataError where it is missing or not one of ours."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        fix = "Give a tokenizer's file, a token set or a run; `mmtool tokenize KIND ... --fit` fits a new one."
        raise DataError(f"cannot read the tokenizer ({error.strerror}).", where=path, fix=fix) from error
    return from_bytes(data, where=path)


def read_header(data: bytes, where: object) -> dict[str, Any]:
    """The JSON record of a tokenizer file. Raises DataError for anything else."""
    try:
        length = int.from_bytes(data[:8], "little")
        record = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][METADATA_KEY])
        known = record.get("format")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            "this is not a tokenizer file of mmtool.", where=where, fix="Give a .safetensors file that `mmtool tokenize --fit` wrote."
        ) from error
    if known not in (FORMAT, UNSEALED):
        raise DataError(f"tokenizer format {known!r} is unknown; this version reads {FORMAT} and {UNSEALED}.", where=where)
    return record


def from_bytes(data: bytes, where: object = None) -> Tokenizer:
    """Rebuild a tokenizer from its file's bytes. Raises DataError where they are damaged, or of a kind or scheme that is not known."""
    from safetensors.numpy import load

    record = read_header(data, where)
    with reading(where, REPLACE):
        tensors = load(data)
    check_seal(record, where, REPLACE, tensors=tensors, unsealed=record["format"] == UNSEALED)
    with reading(where, REPLACE):
        cls = _class_of(record["kind"], record["scheme"], where)
        fitted_on, fitted_contents = tensors.pop(FITTED_ON, None), tensors.pop(FITTED_CONTENTS, None)
        tokenizer: Any = cls.from_state(tensors, record["settings"])
        tokenizer.report, tokenizer.file_format = record["report"], record["format"]
        tokenizer.fitted_on, tokenizer.fitted_contents = fitted_on, fitted_contents
    checked: Tokenizer = tokenizer
    return checked


def _class_of(kind: str, scheme: str, where: object) -> Any:
    if kind not in KINDS or scheme not in KINDS[kind].schemes:
        fix = f"KINDS in mmtool/kinds.py holds {schemes_by_kind()}."
        raise DataError(f"a tokenizer of the unknown kind {kind!r} or scheme {scheme!r}.", where=where, fix=fix)
    return load_reference(KINDS[kind].schemes[scheme])


def read_fitted_on(data: bytes, what: str = FITTED_ON) -> np.ndarray | None:
    """Identities of the items that a tokenizer was fitted on, of its file's bytes, or their contents (FITTED_CONTENTS); None where an
    earlier version fitted it, or where the bytes are no tokenizer, which `from_bytes` says."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return load(data).get(what)
    except SafetensorError:
        return None


def read_features(data: bytes) -> Sequence[str]:
    """Columns that a tokenizer of tables keeps, of its file's bytes; none of other kinds, and where the bytes are no tokenizer."""
    try:
        features: Sequence[str] = read_header(data, None)["settings"].get("features", ())
    except DataError:
        return ()
    return features


def check_settings(settings: Mapping[str, Any], valid: Mapping[str, Any], where: str) -> None:
    """Raise UsageError for a setting that the tokenizer does not know, and a value of another type or outside of the bounds in its type.

    valid: name -> type (or union of types) of every setting.
    """
    for name, value in settings.items():
        if name not in valid:
            raise UsageError(
                f"unknown tokenizer setting {name!r}.", where=where, fix=f"{did_you_mean(name, valid)}Valid ones: {', '.join(valid)}."
            )
        plain = getattr(valid[name], "__origin__", valid[name])
        if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
            what = f"{name} is {value!r}, which is no {getattr(plain, '__name__', plain)}."
            raise UsageError(what, where=where, fix="Give a value of that type.")
        check_range(name, value, valid[name], where)
