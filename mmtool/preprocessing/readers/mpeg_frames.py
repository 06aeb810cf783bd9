"""Whether an MP3 file is whole. It has no length of its own: it is a row of frames, and its first one may say how many there are."""

from dataclasses import dataclass

from mmtool.common.errors import DataError

KBPS = {  # MPEG version 1, versions 2 and 2.5, layer III
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # by the version's bits
SYNC, LAYER_III, MONO = 0x7FF, 1, 3
COUNT_TAGS, HAS_COUNT = (b"Xing", b"Info"), 1
TAGS_AT_END = (b"TAG", b"APETAGEX", b"LYRICSBEGIN", b"ID3", b"3DI")
ID3_HEADER_BYTES = 10


@dataclass(frozen=True)
class _Frame:
    """bytes: its length; samples: per channel; info: where a count of frames stands in it."""

    bytes: int
    samples: int
    info: int


def is_mpeg(data: bytes) -> bool:
    """Whether the file begins, behind its tags, with a frame of MPEG audio, layer III."""
    return _frame(data, _first_frame(data)) is not None


def count_samples(data: bytes, where: str) -> int | None:
    """Samples per channel in the frames of an MP3 file that has no count of its frames, None where it has one, which is right.

    Raises DataError where frames are cut, missing or damaged, or something other than tags follows them.
    """
    offset = first = _first_frame(data)
    frames = samples = 0
    while (frame := _frame(data, offset)) is not None:
        if offset + frame.bytes > len(data):
            raise DataError("the recording is cut: its last frame is not whole.", where=where, fix="Get it again.")
        frames, samples, offset = frames + 1, samples + frame.samples, offset + frame.bytes
    if not frames or not (data.startswith(TAGS_AT_END, offset) or not data[offset:].strip(b"\0")):
        what = f"the recording is damaged: byte {offset:,} should begin a frame of MPEG audio."
        raise DataError(what, where=where, fix="Get it again, or convert it to wav.")
    counted = _counted(data, first)
    if counted is not None and counted not in (frames - 1, frames):  # that frame itself holds no sound, and few count it
        raise DataError(f"the header promises {counted} frames, the file holds {frames - 1}.", where=where, fix="Get it again.")
    return samples if counted is None else None


def _first_frame(data: bytes) -> int:
    """The place behind ID3 tags and their padding."""
    offset = 0
    while data.startswith(b"ID3", offset) and offset + ID3_HEADER_BYTES <= len(data):
        size = 0
        for byte in data[offset + 6 : offset + ID3_HEADER_BYTES]:
            size = size << 7 | byte & 0x7F
        offset += ID3_HEADER_BYTES + size
    return len(data) - len(data[offset:].lstrip(b"\0")) if offset else 0


def _frame(data: bytes, offset: int) -> _Frame | None:
    """What the four bytes at a place say, None where they begin no frame (or one of free bit rate)."""
    header = int.from_bytes(data[offset : offset + 4], "big") if offset + 4 <= len(data) else 0
    version, layer, kbps, rate = header >> 19 & 3, header >> 17 & 3, header >> 12 & 15, header >> 10 & 3
    if header >> 21 != SYNC or layer != LAYER_III or version not in RATES_HZ or kbps in (0, 15) or rate == 3:
        return None
    first = version == 3
    size = (144 if first else 72) * KBPS[first][kbps] * 1000 // RATES_HZ[version][rate] + (header >> 9 & 1)
    mono, protected = header >> 6 & 3 == MONO, not header >> 16 & 1
    side_bytes = (17 if mono else 32) if first else (9 if mono else 17)
    return _Frame(size, 1152 if first else 576, 4 + 2 * protected + side_bytes)


def _counted(data: bytes, offset: int) -> int | None:
    """The count of frames in the first one."""
    frame = _frame(data, offset)
    assert frame is not None
    # Encoders disagree whether the checksum moves the count.
    for info in (offset + frame.info, offset + frame.info - 2):
        if data[info : info + 4] in COUNT_TAGS and data[info + 7] & HAS_COUNT:
            return int.from_bytes(data[info + 8 : info + 12], "big")
    return None
