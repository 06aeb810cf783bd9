"""URLs in the place of paths: how they are told apart, passed on, and shown without credentials; and where local copies of them lie.

A copy lies in the cache as `copies/DIGEST/PROTOCOL/...`, a result on its way out as `outgoing/DIGEST/PROTOCOL/...`: so a path in the cache
says of itself which URL it stands for, and messages say that (`as_given`).
"""

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

COPIES, OUTGOING = "copies", "outgoing"
PACKED = "mmtool-url:"  # before a URL in the form of a file name, which a Path keeps as it is: it would drop slashes of a URL
PROTOCOL = r"[A-Za-z][A-Za-z0-9+.-]+"
URL = re.compile(rf"{PROTOCOL}://.*", re.DOTALL)
COLLAPSED = re.compile(rf"{PROTOCOL}:/[^/]", re.DOTALL)  # how a URL begins that was made a Path
ARGUMENT = re.compile(rf"(?P<before>-o|(?:--[\w-]+=)?(?:[\w-]+=)?)(?P<url>{PROTOCOL}://.*)", re.DOTALL)
USER = re.compile(r"(?<=://)[^/?#\s'\"]*@")
WEB_QUERY, QUERY = re.compile(r"(https?://[^\s?#'\"]*)[?#][^\s'\"]*"), re.compile(rf"({PROTOCOL}://[^\s?'\"]*)\?[^\s'\"]*=[^\s'\"]*")


def is_url(value: object) -> bool:
    """Whether a text is a URL, such as `s3://bucket/shards`."""
    return isinstance(value, str) and URL.fullmatch(value) is not None


def is_collapsed(path: Path) -> bool:
    """Whether a path was a URL once, before it became a path."""
    return COLLAPSED.match(str(path)) is not None and not path.exists()


def protocol_of(url: str) -> str:
    return url.partition("://")[0].lower()


def masked(text: str) -> str:
    """A text without the users, passwords and (signed) queries of the URLs in it."""
    return QUERY.sub(r"\1?***", WEB_QUERY.sub(r"\1?***", USER.sub("***@", text)))


def shown(url: str) -> str:
    """A URL as messages and records show it: on one line, without credentials."""
    bare, mark, _ = url.partition("?") if "=" in url or url.startswith("http") else (url, "", "")
    return masked(quote(bare, safe=":/@#*?[]!$&'()+,;=~%", errors="surrogateescape")) + ("?***" if mark else "")


def packed(argument: str) -> str:
    """An argument of the command line (`URL`, `NAME=URL`, `--option=URL`) with its URL in a form that a Path keeps as it is."""
    match = ARGUMENT.fullmatch(argument)
    return argument if match is None else match["before"] + PACKED + quote(match["url"], safe="", errors="surrogateescape")


def unpacked(text: str) -> str:
    """A text with the URLs that `packed` put into it."""
    return re.sub(rf"{PACKED}([\w.~%-]+)", lambda match: unquote(match[1], errors="surrogateescape"), text)


def cache_folder() -> Path:
    """Where copies of remote files lie: `$MMTOOL_CACHE`, else `mmtool` in the cache of the user (`$XDG_CACHE_HOME`, `~/.cache`). Raises
    RuntimeError where the user has no home."""
    chosen, shared = os.environ.get("MMTOOL_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    caches = Path(shared) if Path(shared).is_absolute() else Path("~/.cache").expanduser()
    return (Path(chosen).expanduser() if chosen else caches / "mmtool").resolve()


def as_given(text: str) -> str:
    """A text with the URL in place of each path of its copy, and of each packed one."""
    if PACKED in text:
        text = re.sub(rf"{PACKED}([\w.~%-]+)", lambda match: shown(unquote(match[1], errors="surrogateescape")), text)
    if f"/{COPIES}/" not in text and f"/{OUTGOING}/" not in text:
        return text
    try:
        cache = re.escape(str(cache_folder()))
    except RuntimeError:  # so there are no copies
        return text
    return re.sub(rf"{cache}/(?:{COPIES}|{OUTGOING})/\w+/({PROTOCOL})/", r"\1://", text)
