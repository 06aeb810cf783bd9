"""What lies at a URL: one file, all files of a folder, or what a pattern matches."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from html import unescape
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from mmtool.common.errors import DataError, UsageError
from mmtool.common.remote import Place, RemoteFile, patiently, reaching
from mmtool.common.urls import shown

MAGIC = re.compile(r"[*?\[]")
HTML = "text/html"
PAGES = {"", ".html", ".htm", ".xhtml", ".php", ".asp", ".aspx", ".jsp", ".cgi"}
REQUESTS_AT_ONCE = 16
REPEATED = 2  # folders above with the same list: once may be meant


@dataclass(frozen=True)
class Listing:
    """named: what the URL names, one path or those that its pattern matches, in order; files: all files there. Both below the folder of
    copies."""

    named: Sequence[PurePosixPath]
    files: Sequence[RemoteFile]


def list_files(place: Place) -> Listing:
    """The files that a URL names. Raises DataError where there are none, or names that cannot be those of files on this machine."""
    with reaching(place.url):
        listing = _on_the_web(place) if place.is_web else _in_a_store(place)
    if not listing.files:
        raise DataError("there are no files here.", where=shown(place.url), fix="Check the address; a pattern has to match some.")
    return listing


def _in_a_store(place: Place) -> Listing:
    system, path = place.system, place.path
    if not MAGIC.search(path) or system.exists(path):
        info = system.info(path)
        return _listing(place, [info["name"]], _files(place, info))
    last = path.rpartition("/")[2]
    found = system.glob(path, detail=True)
    infos = [info for name, info in sorted(found.items()) if last.startswith(".") or not name.rpartition("/")[2].startswith(".")]
    return _listing(place, [info["name"] for info in infos], (file for info in infos for file in _files(place, info)))


def _files(place: Place, info: Mapping[str, Any]) -> Iterator[RemoteFile]:
    """A file, or all files of a folder."""
    if info["type"] != "directory":
        yield place.file(info["name"], info)
        return
    home = f"{info['name'].rstrip('/')}/"
    for path, entry in place.system.find(info["name"], detail=True).items():
        if entry["type"] == "directory" or path.endswith("/"):  # an object that stands for a folder
            continue
        if not path.startswith(home):
            fix = "Give the files that are wanted."
            raise DataError(f"the folder lists {shown(path)!r}, which lies elsewhere.", where=shown(place.url), fix=fix)
        yield place.file(path, entry)


def _listing(place: Place, named: Sequence[str], files: Iterable[RemoteFile]) -> Listing:
    """Raises DataError where a file has the name of a folder, which object stores allow."""
    by_name = {file.name: file for file in files}
    for file in by_name.values():
        if both := next((folder for folder in file.name.parents if folder in by_name), None):
            what = f"{shown(by_name[both].path)!r} is both a file and a folder."
            raise DataError(what, where=shown(place.url), fix="Rename one of them there.")
    return Listing([place.name(path) for path in named], [by_name[name] for name in sorted(by_name)])


def _on_the_web(place: Place) -> Listing:
    """By the links of pages that list folders, as web servers make them."""
    url = place.path
    address, _, query = url.partition("?")
    if "*" in address:
        return _matching(place, address)
    if not query and (address.endswith("/") or not urlsplit(address).path):
        return _listing(place, [address], _described(place, _below(place, f"{address.rstrip('/')}/")))
    info, name = patiently(url, place.system.info, url), unquote(address.rpartition("/")[2])
    is_folder = "." not in name or unquote(urlsplit(str(info.get("url", ""))).path).endswith(f"/{name}/")  # to which it was redirected
    if not query and info.get("mimetype") == HTML and is_folder:
        return _listing(place, [address], _described(place, _below(place, f"{address}/")))
    if info.get("mimetype") == HTML and not is_page(name):
        raise no_page(url)
    return _listing(place, [url], [place.file(url, info)])


def is_page(name: str) -> bool:
    """Whether a file of this name may well be a page."""
    return PurePosixPath(name).suffix.lower() in PAGES


def no_page(url: str) -> DataError:
    """The error for a page in the place of a file."""
    what = "the server answered with a web page (HTML) instead of this file."
    fix = "Open the address in a browser: it may ask for a login, or lead to the link of the file itself; or download it and give its path."
    return DataError(what, where=shown(url), fix=fix)


def _matching(place: Place, address: str) -> Listing:
    folder, _, pattern = address.rpartition("/")
    if "*" in folder:
        raise UsageError("only the last part of a web address can be a pattern.", where=shown(place.url), fix="Give one folder.")
    links = [link for link in _links(place, f"{folder}/") if "/" not in link[len(folder) + 1 :].rstrip("/")]
    matched = sorted(link for link in links if fnmatchcase(unquote(link.rstrip("/").rpartition("/")[2]), unquote(pattern)))
    urls = [url for link in matched for url in (_below(place, link) if link.endswith("/") else [link])]
    return _listing(place, matched, _described(place, urls))


def _described(place: Place, urls: Iterable[str]) -> list[RemoteFile]:
    """The files at these addresses, of each of which the server is asked. Raises DataError for one that is not there."""

    def described(url: str) -> RemoteFile:
        return place.file(url, patiently(url, place.system.info, url))

    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as threads:
        return list(threads.map(described, urls))


def _below(place: Place, folder: str) -> Iterator[str]:
    """All files below a folder. Raises DataError where folders repeat, as a link to a folder above makes them."""
    waiting: list[tuple[str, list[list[str]]]] = [(folder, [])]  # folders, and what those above them list
    seen = {folder}
    while waiting:
        address, above = waiting.pop()
        links = list(_links(place, address))
        listed = [link.removeprefix(address) for link in links]
        if above.count(listed) >= REPEATED:
            what = "it lists the same as several folders above it, as a link that leads in a circle does."
            raise DataError(what, where=shown(address), fix="Give the folders or files that are wanted.")
        for link in links:
            if not link.endswith("/"):
                yield link
            elif link not in seen:
                seen.add(link)
                waiting.append((link, [*above, listed]))


def _links(place: Place, folder: str) -> Iterator[str]:
    """What a page that lists a folder links to below it, folders with a slash at the end: not the folder above, not the list in another
    order, nothing elsewhere."""
    for written in sorted(patiently(folder, place.system.ls, folder, detail=False)):
        link = unescape(written.removeprefix(folder))
        below = link.removeprefix("./")  # as some servers write each link, so that a colon in it ends no protocol
        parts = [unquote(part) for part in below.removesuffix("/").split("/")]
        if written.startswith(folder) and below and not re.search(r"[?#]|^[a-z]+:", link) and not {"", ".", ".."} & {*parts}:
            yield folder + below
