"""Arrays in files: npy and npz without pickle, and the idx format of MNIST; sizes are checked against the headers."""

import io
import struct
import zipfile
import zlib

import numpy as np

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.raw_files import RawFile, check_archive

NPY_NAME = "images"  # what the only array of an npy file stands for
IDX_BYTES = b"\0\0\x08"


def load_arrays(file: RawFile) -> dict[str, np.ndarray]:
    """The arrays of an npy or npz file by name. Raises DataError where it is damaged, expands without end, or holds objects."""
    data = io.BytesIO(file.read())
    try:
        if file.format == "npz":
            check_archive(data, file.where)
        loaded = np.load(data, allow_pickle=False)
        return {NPY_NAME: loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        if isinstance(error, DataError):
            raise
        fix = "Save plain number and string arrays with numpy.savez."
        raise DataError(f"the arrays cannot be read ({error}).", where=file.where, fix=fix) from error


def read_idx(file: RawFile) -> np.ndarray:
    """The array of an idx file of bytes. Raises DataError where header and size differ."""
    data = file.read()
    if len(data) < 4 or data[:3] != IDX_BYTES or len(data) < 4 + 4 * data[3]:
        raise DataError("this is not an idx file of bytes.", where=file.where, fix="Get it again.")
    shape = struct.unpack_from(f">{data[3]}I", data, 4)
    start, size = 4 + 4 * data[3], int(np.prod(shape, dtype=np.int64))
    if len(data) - start != size:
        raise DataError(f"the header promises {size} bytes, the file holds {len(data) - start}.", where=file.where, fix="Get it again.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
