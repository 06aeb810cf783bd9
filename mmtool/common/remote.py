"""Remote places (`s3://`, `gs://`, `hf://`, `https://` ...) as fsspec opens them: files under names that are safe on this machine, and
errors in words of ours, without credentials."""

import errno
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from mmtool.common.errors import DataError, MmtoolError, UsageError
from mmtool.common.log import log
from mmtool.common.urls import masked, protocol_of, shown

WEB = ("http", "https")
PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "hf": "huggingface_hub",
}
OURS = "'mmtool[remote]'"
VERSION_FIELDS = (  # by which file systems tell that a file was changed, letters alone
    *("etag", "checksum", "contentmd", "contentmd5", "md5", "md5hash", "crc32c", "digest", "sha", "sha256", "blobid", "generation"),
    *("versionid", "mtime", "modified", "modify", "lastmodified", "lastwritetime", "updated", "created"),
)
DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
READ_TIMEOUT_S = 120.0
PASSING = (408, 425, 429, 500, 502, 503, 504)  # what a web server answers that may answer otherwise soon
WAITS_S = (0.5, 1.0, 2.0)  # before it is asked again
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class RemoteFile:
    """A file in a remote place.

    path: as its file system calls it. name: where its copy lies below the folder of copies. size: in bytes, None where it is not known.
    version: what changes with its content, empty where nothing is known of it.
    """

    path: str
    name: PurePosixPath
    size: int | None
    version: str


@dataclass(frozen=True)
class Place:
    """What a URL names. system: the file system of fsspec; path: as it calls the place."""

    url: str
    system: Any
    path: str

    @classmethod
    def of(cls, url: str) -> "Place":
        """Raises UsageError where the URL, or the package that opens it, is unknown."""
        protocol = protocol_of(url)
        if "::" in url:
            raise UsageError("chained URLs are not read.", where=shown(url), fix="Give the URL of the file, folder or archive itself.")
        try:
            from fsspec.core import url_to_fs
        except ImportError:
            raise _missing_package(url, OURS) from None
        with reaching(url):
            try:
                system, path = url_to_fs(url, **_options(protocol))
            except ImportError:
                raise _missing_package(url, PACKAGES.get(protocol, OURS)) from None
            except ValueError as error:
                fix = "Give a path, or a URL of s3://, gs://, hf://, https:// or another protocol of fsspec."
                raise UsageError(f"this cannot be opened ({_words(error)}).", where=shown(url), fix=fix) from None
            system.invalidate_cache()
            return cls(url, system, path)

    @property
    def is_web(self) -> bool:
        return protocol_of(self.url) in WEB

    @property
    def home(self) -> PurePosixPath:
        """Where copies from there lie: the protocol, and the host where paths do not name it."""
        protocol, host = protocol_of(self.url), urlsplit(self.url).netloc.rpartition("@")[2]
        names_host = self.is_web or not host or self.path.lstrip("/").split("/")[0] == host
        return PurePosixPath(protocol) if names_host else PurePosixPath(protocol, host)

    def file(self, path: str, info: Mapping[str, Any]) -> RemoteFile:
        """A file of this file system. Raises DataError for a name that cannot be that of a file here."""
        size = info.get("size")
        return RemoteFile(path, self.name(path), None if size is None else int(size), version_of(info))

    def name(self, path: str) -> PurePosixPath:
        """Where the copy of a path lies below the folder of copies. Raises DataError as `file` does."""
        names = path.removeprefix("/").removesuffix("/").split("/")
        if self.is_web:
            parts = urlsplit(path)
            below = parts.path.removeprefix("/").removesuffix("/")
            names = [parts.netloc.rpartition("@")[2], *(map(unquote, below.split("/")) if below else ())]
        if any(name in ("", ".", "..") or {*name} & {"/", "\0"} or len(name.encode(errors="surrogateescape")) > 255 for name in names):
            fix = "Rename it there, or give the files that are wanted."
            raise DataError(f"{shown(path)!r} cannot be the path of a file on this machine.", where=shown(self.url), fix=fix)
        return self.home / PurePosixPath(*names)


def version_of(info: Mapping[str, Any]) -> str:
    """What a file system says of a file that changes with its content."""
    known = {"".join(filter(str.isalnum, field.lower())): value for field, value in info.items() if value is not None}
    return ";".join(f"{field}={known[field]}" for field in VERSION_FIELDS if field in known)


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """What file systems and their packages raise, as DataError that names the URL; a full disk on this machine stays an OSError."""
    try:
        yield
    except (MmtoolError, MemoryError):
        raise
    except ImportError:
        raise _missing_package(url, PACKAGES.get(protocol_of(url), OURS)) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_IS_FULL:
            raise
        status = _status_of(error)
        if isinstance(error, PermissionError) or status in (401, 403):
            fix = "Check the address and the credentials: each file system has its own environment variables and files for them."
            raise DataError("access is refused.", where=shown(url), fix=fix) from None
        is_unreached = protocol_of(url) in WEB and status is None and error.__cause__ is not None  # of which fsspec makes the same error
        if isinstance(error, FileNotFoundError) and status in (None, 404) and not is_unreached:
            raise DataError("there is no such file or folder.", where=shown(url), fix="Check the address.") from None
        fix = "Check the address, the credentials and the network, then run the same command again."
        raise DataError(f"it cannot be reached ({_words(error)}).", where=shown(url), fix=fix) from None


def patiently(url: str, ask: Callable[..., Answer], *arguments: Any, **keywords: Any) -> Answer:
    """What `ask` gives; where a web server fails in a way that may pass, it is asked again. Raises as `reaching` does."""
    for wait_s in WAITS_S if protocol_of(url) in WEB else ():
        with reaching(url):
            try:
                return ask(*arguments, **keywords)
            except Exception as error:
                if not _may_pass(error):
                    raise
                log(f"{shown(url)}: {_words(error)}; asking again in {wait_s:g} s")
        time.sleep(wait_s)
    with reaching(url):
        return ask(*arguments, **keywords)


def _may_pass(error: Exception) -> bool:
    """Whether it is worth asking again: not where nobody is at the address, nor after a long wait."""
    from aiohttp import ClientConnectionError, ClientConnectorError, ClientPayloadError

    cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ is not None else error
    if isinstance(cause, (ClientConnectionError, ClientPayloadError, ConnectionError)):
        return not isinstance(cause, (ClientConnectorError, TimeoutError))
    return _status_of(error) in PASSING


def _status_of(error: BaseException) -> int | None:
    """What a web server answered, None where it did not."""
    status: int | None = getattr(error, "status", getattr(error.__cause__, "status", None))
    return status


def _words(error: BaseException) -> str:
    """An error of somebody else in one line, without credentials."""
    cause = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ is not None else error
    first = next(iter(str(cause).strip().splitlines()), "")
    return masked(f"{type(cause).__name__}: {first}" if first else type(cause).__name__)


def _missing_package(url: str, package: str) -> UsageError:
    what = f"{protocol_of(url)}:// needs a package that is not installed."
    return UsageError(what, where=shown(url), fix=f"Install it with `pip install {package}`.")


def _options(protocol: str) -> dict[str, Any]:
    """Of the web: files as they are stored, for as long as data comes, through the proxy of the environment."""
    if protocol not in WEB:
        return {}
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=READ_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True, "headers": {"Accept-Encoding": "identity"}}}
