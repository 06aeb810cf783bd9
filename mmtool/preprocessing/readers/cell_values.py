"""What a cell of a file may hold, whatever its format: one text, number or date; bytes are text in UTF-8."""

from typing import Any

from mmtool.common.errors import DataError

SHOWN = 60  # characters of a cell in a message
NOT_ONE_VALUE = (bytes, list, tuple, dict, set)  # once bytes that are text are


def shown(cell: Any) -> str:
    """A cell for a message: its beginning."""
    text = repr(cell[:SHOWN] if isinstance(cell, str | bytes) else cell)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} ..."


def decoded(cell: Any) -> Any:
    """Bytes as the text that they are in UTF-8; bytes that are none, and any other cell, as they are."""
    if not isinstance(cell, bytes):
        return cell
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return cell


def one_value(cell: Any, column: str, where: object) -> Any:
    """The cell, bytes as text. Raises DataError for bytes that are none, and for several values."""
    value = decoded(cell)
    if isinstance(value, NOT_ONE_VALUE):
        fix = "Write one text or number into each cell, or name another column."
        raise DataError(f"the column {column!r} holds {shown(value)}, which is neither text nor a number.", where=where, fix=fix)
    return value
