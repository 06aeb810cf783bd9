"""European Data Format, EDF and EDF+C (https://www.edfplus.info/specs/edf.html): a text header, then records of 16-bit samples."""

from typing import NamedTuple

import numpy as np

from mmtool.common.errors import DataError

HEADER_BYTES, CHANNEL_BYTES = 256, 256  # the latter for each channel, 32 of them reserved
VERSION, ANNOTATIONS, INTERRUPTED = b"0       ", "EDF Annotations", b"EDF+D"
FIELDS = {"label": 16, "transducer": 80, "unit": 8, "low": 8, "high": 8, "digital_low": 8, "digital_high": 8, "filter": 80, "count": 8}


class EdfChannel(NamedTuple):
    """samples: (T,) float32 in physical units at `rate_hz`."""

    name: str
    rate_hz: float
    samples: np.ndarray


def read_edf(data: bytes, where: str) -> list[EdfChannel]:
    """The channels of a file; annotations are no channel. Raises DataError where it is cut, interrupted, or no EDF."""
    if len(data) < HEADER_BYTES or data[:8] != VERSION:
        raise DataError("this is not an EDF file.", where=where, fix="Convert it, e.g. with EDFbrowser; BDF is not read.")
    if data[192:197] == INTERRUPTED:
        raise DataError("the recording is interrupted (EDF+D).", where=where, fix="Export its parts as files of their own.")
    try:
        num_records, seconds, num_channels = int(data[236:244]), float(data[244:252]), int(data[252:256])
        fields = _fields(data, num_channels)
        counts = [int(text) for text in fields["count"]]
        ranges = np.array([[float(text) for text in fields[name]] for name in ("low", "high", "digital_low", "digital_high")])
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"the header of the EDF file is damaged ({error}).", where=where, fix="Get it again.") from error
    start, size = HEADER_BYTES + CHANNEL_BYTES * num_channels, 2 * sum(counts)
    held = (len(data) - start) // max(size, 1)
    surplus = len(data) - start - max(num_records, 0) * size
    if num_channels < 1 or min(counts) < 1 or seconds <= 0 or held < max(num_records, 1):
        what = f"{num_records} records of {size} bytes are promised, {max(held, 0)} are there."
        raise DataError(f"the recording is cut or empty: {what}", where=where, fix="Get it again.")
    if surplus % size if num_records < 0 else surplus:
        what = f"the header promises {num_records} records of {size} bytes, and {surplus:,} bytes follow them."
        if num_records < 0:
            what = f"the recording is cut: its last record has {surplus % size} of {size} bytes."
        raise DataError(what, where=where, fix="Get it again, or mend its header, e.g. with EDFbrowser.")
    records = np.frombuffer(data, "<i2", held * size // 2 if num_records < 0 else num_records * size // 2, start).reshape(-1, size // 2)
    channels = []
    for number, stop in enumerate(np.cumsum(counts).tolist()):
        low, high, digital_low, digital_high = ranges[:, number]
        if fields["label"][number] == ANNOTATIONS:
            continue
        if digital_high <= digital_low:
            raise DataError(
                f"the channel {fields['label'][number]!r} has no range.", where=where, fix="Mend its digital minimum and maximum."
            )
        levels = records[:, stop - counts[number] : stop].reshape(-1).astype(np.float64)
        samples = low + (levels - digital_low) * (high - low) / (digital_high - digital_low)
        channels.append(EdfChannel(fields["label"][number], counts[number] / seconds, samples.astype(np.float32)))
    return channels


def _fields(data: bytes, num_channels: int) -> dict[str, list[str]]:
    """Name of a field -> its text for each channel; the header holds field by field."""
    fields, index = {}, HEADER_BYTES
    for name, width in FIELDS.items():
        parts = (data[index + width * i : index + width * (i + 1)] for i in range(num_channels))
        fields[name] = [part.decode("latin-1").strip() for part in parts]
        index += width * num_channels
    return fields
