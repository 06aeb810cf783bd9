"""The record beside the token sets of a manifest: which modalities samples hold, and which files belong together."""

from pathlib import Path
from typing import Any

from mmtool.common.errors import DataError
from mmtool.common.seal import check_seal, read_json

PRESENCE, PRESENCE_FORMAT = "presence.json", "mmtool-presence/1"
AGAIN = "Tokenize the manifest again."


def read_presence(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Present modalities ("image+text", "" for none) -> samples, and the names of the files in the folder.

    Raises DataError for a record of another format, one that was changed, and one that holds anything else.
    """
    path = folder / PRESENCE
    record = read_json(path, AGAIN)
    _check_format(record.get("format"), path)
    check_seal(record, path, AGAIN, unsealed=True)
    presence, files = record.get("presence"), record.get("files")
    if not isinstance(presence, dict) or not all(map(_is_count, presence.values())):
        raise DataError("`presence` is no table of numbers of samples.", where=path, fix=AGAIN)
    if not isinstance(files, list) or not all(map(_is_file_name, files)):
        raise DataError("`files` is no list of names of files in this folder.", where=path, fix=AGAIN)
    return presence, files


def _check_format(name: Any, path: Path) -> None:
    if not isinstance(name, str) or not name.startswith("mmtool-presence/"):
        raise DataError("this is no artefact of mmtool.", where=path, fix=AGAIN)
    if name != PRESENCE_FORMAT:
        what = f"the format {name!r} is unknown; this version reads {PRESENCE_FORMAT}."
        raise DataError(what, where=path, fix=f"Use the version of mmtool that wrote it, or: {AGAIN}")


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", ".", "..") and "/" not in value and "\\" not in value
