"""Volumes (CT, MR and other scans): a learned codec of three-dimensional convolutions with FSQ codes, or uint8 patches, on a grid of depth,
rows and columns.

Raw values are (D, H, W) float32 in the units of the scans. Where these state an orientation, depth runs to the head, rows to the front and
columns to the right of the patient (RAS, the last axis first).
"""

import gzip
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import write_bytes
from mmtool.tokenizers.base import Positions, check_settings
from mmtool.tokenizers.codec import CODEC_SETTINGS, LEARNING_RATE, Batch, Codec, CodecShape, fit_codec, hold_out, in_batches
from mmtool.tokenizers.fsq import code_usage, levels_of

Sides = tuple[int, ...]  # three, of depth, rows and columns
Lengths = tuple[float, ...]
MAX_LEVEL = 255
MAX_CELLS = 8  # tokens along a side by default
MAX_SIDE = 2048  # of a volume in voxels
CODE_BATCH = 4
MAX_BATCH, BATCH_VOXELS = 32, 1 << 18  # of a training batch
VOLUME_SETTINGS = {
    **{"size": int | list | tuple, "patch": int | list | tuple, "value_range": list | tuple, "write_as": str},
    **{"spacing_mm": str | list | tuple, "extent_mm": list | tuple, "oriented": bool},
}


@dataclass(frozen=True)
class VolumeFormat:
    """What volumes are brought to; axes are depth, rows and columns.

    size: in voxels; patch: voxels of a token; low, high: the values that codes reach; stretch: whether volumes of another size are scaled
    to this one, else refused; spacing_mm: of the voxels of scans, as they are read (None: any); extent_mm: of a whole scan (None: unknown);
    oriented: whether scans state an orientation; write_as: nii.gz, npz, or "" for the former where nibabel is there.
    """

    size: Sides
    patch: Sides
    low: float
    high: float
    stretch: bool
    spacing_mm: Lengths | None
    extent_mm: Lengths | None
    oriented: bool
    write_as: str

    @property
    def grid(self) -> Sides:
        return tuple(side // part for side, part in zip(self.size, self.patch, strict=True))

    @property
    def step(self) -> float:
        """Between two of 256 levels."""
        return (self.high - self.low) / MAX_LEVEL

    @property
    def voxel_mm(self) -> Lengths:
        """Of the voxels that are written; of unknown extent they are cubes of 1 mm."""
        return tuple(whole / side for whole, side in zip(self.extent_mm or self.size, self.size, strict=True))

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.__dict__.items()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "VolumeFormat":
        fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        return cls(**fields)

    @classmethod
    def of(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any]) -> "VolumeFormat":
        """The settings, and what they leave open taken from the volumes. Raises UsageError where that is impossible."""
        if not len(values):
            raise DataError("there are no training volumes to fit a tokenizer on.", fix="Check the paths and the split fractions.")
        if (write_as := settings.get("write_as", "")) not in ("", *WRITERS):
            fix = f"Choose from: {', '.join(WRITERS)}."
            raise UsageError(f"volumes cannot be written as {write_as!r}.", where="--set write_as", fix=fix)
        stretch = settings.get("size") is not None
        size = three_sides(settings["size"], "size") if stretch else _common_size(values)
        patch = three_sides(settings["patch"], "patch") if "patch" in settings else _default_patch(size)
        if any(side % part for side, part in zip(size, patch, strict=True)):
            what = f"patches of {shown(patch)} voxels do not tile {shown(size)}."
            raise UsageError(what, where="--set patch", fix="Choose divisors, e.g. --set patch=[2,8,8], or another size.")
        low, high = _range(values, settings.get("value_range"))
        spacing, extent = (_spacing(settings.get(name)) for name in ("spacing_mm", "extent_mm"))
        return cls(size, patch, low, high, stretch, spacing, extent, settings.get("oriented", False), write_as)

    def bring(self, value: np.ndarray) -> np.ndarray:
        """A volume as (D, H, W) float32 of this size. Raises DataError for one of another size, unless such are scaled."""
        if value.ndim != 3 or (value.shape != self.size and not self.stretch):
            what = f"the volume has {shown(value.shape)} voxels, the tokenizer {shown(self.size)}."
            raise DataError(what, fix="Crop or pad it, or fit a tokenizer that scales volumes with --set size=[DEPTH,HEIGHT,WIDTH].")
        return stretched(value, self.size)

    def shares(self, values: np.ndarray) -> np.ndarray:
        """float32: 0 at the low end of the range and 1 at the high end; values beyond count as the ends."""
        return np.clip((values - np.float32(self.low)) / np.float32(self.high - self.low), 0, 1)

    def values(self, shares: np.ndarray) -> np.ndarray:
        """The inverse of `shares`."""
        return (shares * (self.high - self.low) + self.low).astype(np.float32)


class VolumeTokenizer:
    """What both schemes share."""

    kind: ClassVar[str] = "volume"
    positions: Positions = "grid"
    format: VolumeFormat

    def beyond(self, value: np.ndarray) -> dict[str, int]:
        """How many voxels lie beyond the range of the codes."""
        brought, slack = self.format.bring(value), self.format.step / 2
        outside = int(((brought < self.format.low - slack) | (brought > self.format.high + slack)).sum())
        return {"voxels": outside} if outside else {}

    def stills(self, value: np.ndarray, count: int) -> np.ndarray:
        """(count, H, W, 1) uint8: the slices in the middle of so many slabs from the feet to the head, as they are looked at: of scans with
        an orientation the front is up and the patient's right on the left."""
        slices = value[((np.arange(count) + 0.5) * len(value) / count).astype(int)]
        slices = slices[:, ::-1, ::-1] if self.format.oriented else slices
        return (self.format.shares(slices) * MAX_LEVEL).round().astype(np.uint8)[..., None]

    def write(self, value: np.ndarray, stem: Path) -> Path:
        """Write a volume as `stem`.nii.gz, or as `stem`.npz (volume; affine, or spacing_mm where no orientation is known)."""
        suffix = self.format.write_as or ("nii.gz" if find_spec("nibabel") else "npz")
        path = stem.with_name(f"{stem.name}.{suffix}")
        write_bytes(path, WRITERS[suffix](value, self.format))
        return path


class VolumeCodecTokenizer(VolumeTokenizer):
    """(D, H, W) float32 <-> one FSQ code per patch, slice by slice and row by row.

    Settings of `fit`: size (one side or three), patch, value_range, write_as, spacing_mm (see VolumeFormat); codebook or levels (of FSQ);
    width, depth, steps, batch, learning_rate of the codec. Reported on held-out training volumes: mean squared error where the range is 1,
    PSNR in dB, codebook usage; the range.
    """

    scheme: ClassVar[str] = "codec"
    SETTINGS = VOLUME_SETTINGS | CODEC_SETTINGS

    def __init__(self, form: VolumeFormat, codec: Codec) -> None:
        self.format, self.codec = form, codec
        self.vocabulary_size, self.shape = prod(codec.shape.levels), form.grid
        self.report: dict[str, Any] = {}

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        """Train the codec on volumes. Raises UsageError for settings that make no sense."""
        check_settings(settings, cls.SETTINGS, "volume codec")
        form = VolumeFormat.of(values, settings)
        volumes = _signals(form, values)
        train, held_out = (volumes[part] for part in hold_out(len(volumes), seed))
        shape = CodecShape(1, form.patch, levels_of(settings, 256), settings.get("width", 64), settings.get("depth", 2), detail=8)
        batch = settings.get("batch", max(1, min(MAX_BATCH, BATCH_VOXELS // prod(form.size))))

        def draw(generator: torch.Generator) -> Batch:
            return train[torch.randint(len(train), (batch,), generator=generator)], None

        steps, rate = settings.get("steps", 1000), settings.get("learning_rate", LEARNING_RATE)
        codec = fit_codec(shape, draw, steps=steps, learning_rate=rate, seed=seed, description="fitting the volume codec")
        tokenizer = cls(form, codec)
        codes = tokenizer._encode(held_out)
        error = float(((tokenizer._decode(codes) - held_out) / 2).square().mean())
        usage = code_usage(codes.numpy(), tokenizer.vocabulary_size)
        tokenizer.report = {
            "mse": error,
            "psnr_db": float(-10 * np.log10(max(error, 1e-10))),
            "value_range": [form.low, form.high],
            **usage,
        }
        return tokenizer

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes (prod(grid),) of each volume. Raises DataError for one of another size, unless such are scaled."""
        return list(self._encode(_signals(self.format, values)).flatten(1).numpy()) if len(values) else []

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Volumes (D, H, W) float32."""
        if not len(tokens):
            return []
        codes = torch.from_numpy(np.stack(tokens).astype(np.int64)).view(-1, *self.shape)
        return [self.format.values((signal[0].numpy() + 1) / 2) for signal in self._decode(codes)]

    def _encode(self, signals: Tensor) -> Tensor:
        return in_batches(self.codec.encode, signals, CODE_BATCH)

    def _decode(self, codes: Tensor) -> Tensor:
        return in_batches(lambda part: self.codec.decode(part).float().clamp(-1, 1), codes, CODE_BATCH)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return self.codec.tensors(), {"format": self.format.to_json(), "codec": self.codec.shape.to_json()}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        codec = Codec.from_tensors(CodecShape.from_json(settings["codec"]), tensors)
        return cls(VolumeFormat.from_json(settings["format"]), codec)


class VolumePatchTokenizer(VolumeTokenizer):
    """(D, H, W) float32 <-> (prod(grid), prod(patch)) uint8 patches: continuous, in 256 levels of the range.

    Settings of `fit`: size, patch, value_range, write_as, spacing_mm (see VolumeFormat). Reported: the range, and the step between two
    levels; a voxel is off by half of that at most.
    """

    scheme: ClassVar[str] = "patches"
    vocabulary_size = 0
    SETTINGS = VOLUME_SETTINGS

    def __init__(self, form: VolumeFormat) -> None:
        self.format = form
        self.shape = (*form.grid, prod(form.patch))
        self.report: dict[str, Any] = {"value_range": [form.low, form.high], "step": form.step}

    @classmethod
    def fit(cls, values: Sequence[np.ndarray], settings: Mapping[str, Any], seed: int) -> Self:
        check_settings(settings, cls.SETTINGS, "volume patches")
        return cls(VolumeFormat.of(values, settings))

    def encode(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Patches of each volume. Raises DataError for one of another size, unless such are scaled."""
        (depth, rows, columns), (thick, high, wide) = self.format.grid, self.format.patch
        levels = ((self.format.shares(self.format.bring(value)) * MAX_LEVEL).round().astype(np.uint8) for value in values)
        cells = [volume.reshape(depth, thick, rows, high, columns, wide).transpose(0, 2, 4, 1, 3, 5) for volume in levels]
        return [volume.reshape(depth * rows * columns, -1) for volume in cells]

    def decode(self, tokens: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Volumes (D, H, W) float32."""
        cells = [patches.reshape(*self.format.grid, *self.format.patch).transpose(0, 3, 1, 4, 2, 5) for patches in tokens]
        return [self.format.values(volume.reshape(self.format.size).astype(np.float32) / MAX_LEVEL) for volume in cells]

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        return {}, {"format": self.format.to_json()}

    @classmethod
    def from_state(cls, tensors: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> Self:
        return cls(VolumeFormat.from_json(settings["format"]))


def stretched(value: np.ndarray, size: Sides) -> np.ndarray:
    """(D, H, W) float32 scaled to a size: averaged along axes that become shorter, linear along those that become longer."""
    value = np.asarray(value, np.float32)
    if value.shape == size:
        return value
    signal = torch.from_numpy(np.ascontiguousarray(value))[None, None]
    signal = F.adaptive_avg_pool3d(signal, tuple(map(min, value.shape, size)))
    return F.interpolate(signal, size, mode="trilinear", align_corners=False)[0, 0].numpy()


def three_sides(wanted: Any, where: str) -> Sides:
    """A size or patch of one side or three, in voxels. Raises UsageError for any other."""
    sides = tuple(wanted) if isinstance(wanted, list | tuple) else (wanted,) * 3
    if len(sides) != 3 or not all(isinstance(side, int) and 0 < side <= MAX_SIDE for side in sides):
        fix = f"Give one side, 64, or depth, height and width, [32,64,64], from 1 to {MAX_SIDE} voxels."
        raise UsageError(f"{wanted} is no {where}.", where=f"--set {where}", fix=fix)
    return sides


def shown(sides: Sequence[float]) -> str:
    return " x ".join(f"{side:.4g}" for side in sides)


def _spacing(wanted: Any) -> Lengths | None:
    """None where any will do."""
    if wanted in (None, "any"):
        return None
    lengths = wanted if isinstance(wanted, list | tuple) else ()
    if len(lengths) != 3 or not all(isinstance(length, int | float) and length > 0 for length in lengths):
        fix = "Give that of depth, rows and columns, [5,1,1], or any."
        raise UsageError(f"{wanted} is no spacing.", where="--set spacing_mm", fix=fix)
    return tuple(map(float, lengths))


def _common_size(values: Sequence[np.ndarray]) -> Sides:
    sizes = Counter(value.shape for value in values)
    if len(sizes) > 1:
        common = ", ".join(f"{shown(size)} ({count})" for size, count in sizes.most_common(3))
        fix = "Crop or pad them, or say to which size they are scaled, e.g. --set size=[32,64,64]."
        raise UsageError(f"the volumes come in {len(sizes)} sizes: {common} ...", where="--set size", fix=fix)
    return next(iter(sizes))


def _default_patch(size: Sides) -> Sides:
    """The smallest parts of which there are few enough along each axis."""
    return tuple(next(part for part in range(1, side + 1) if side % part == 0 and side // part <= MAX_CELLS) for side in size)


def _range(values: Sequence[np.ndarray], wanted: Any) -> tuple[float, float]:
    """What is wanted, else from the lowest to the highest value. Raises UsageError for one that single precision cannot hold."""
    if wanted is None:
        low, high = float(min(value.min() for value in values)), float(max(value.max() for value in values))
        if high - low > np.finfo(np.float32).max:
            raise UsageError(
                f"the values reach from {low:g} to {high:g}.", where="--value-range", fix="Give LOW and HIGH of those to keep."
            )
        return low, high if low < high else low + 1
    if len(wanted) != 2 or not all(isinstance(end, int | float) for end in wanted) or not wanted[0] < wanted[1]:
        raise UsageError(f"{wanted} is no range.", where="--set value_range", fix="Give LOW and HIGH, LOW the smaller one.")
    return float(wanted[0]), float(wanted[1])


def _signals(form: VolumeFormat, values: Sequence[np.ndarray]) -> Tensor:
    """(B, 1, D, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(np.stack([form.shares(form.bring(value)) for value in values]) * 2 - 1)[:, None]


def _affine(form: VolumeFormat) -> np.ndarray:
    """(4, 4): from places (column, row, slice) to mm to the right, front and head, the middle of the volume at 0."""
    affine = np.diag([*form.voxel_mm[::-1], 1.0])
    affine[:3, 3] = -affine.diagonal()[:3] * (np.array(form.size[::-1]) - 1) / 2
    return affine


def _nifti(value: np.ndarray, form: VolumeFormat) -> bytes:
    import nibabel

    image = nibabel.Nifti1Image(np.asarray(value, np.float32).transpose(2, 1, 0), _affine(form) if form.oriented else None)
    image.header.set_zooms(form.voxel_mm[::-1])
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), mtime=0)


def _npz(value: np.ndarray, form: VolumeFormat) -> bytes:
    data, affine = io.BytesIO(), _affine(form)[:, [2, 1, 0, 3]]  # of the axes of the array
    if form.oriented:
        np.savez(data, volume=value, affine=affine)
    else:
        np.savez(data, volume=value, spacing_mm=np.array(form.voxel_mm))
    return data.getvalue()


WRITERS: dict[str, Callable[[np.ndarray, VolumeFormat], bytes]] = {"nii.gz": _nifti, "npz": _npz}
