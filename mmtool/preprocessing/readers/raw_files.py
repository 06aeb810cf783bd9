"""Raw files as people have them: single files, folders, and archives that are read without unpacking them to disk."""

import io
import os
import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mmtool.common.artefact_files import is_token_tar
from mmtool.common.errors import DataError
from mmtool.common.regular_files import mode_of, not_regular, open_regular
from mmtool.common.seal import foreign, guarded
from mmtool.kinds import KINDS, Reference, kind_named, load
from mmtool.preprocessing.readers.compressed import OPENERS, Stream, read_bytes
from mmtool.preprocessing.readers.conversions import CONVERSIONS, advice
from mmtool.preprocessing.readers.entries import Broken
from mmtool.preprocessing.readers.folders import ZARR, is_zarr, walk
from mmtool.preprocessing.readers.other_formats import OtherFormats, is_document, is_hidden, is_system_folder
from mmtool.preprocessing.readers.tar_members import tar_members

AS_LINKS = " as links"  # said of such members of an archive
MAX_FILE_BYTES = 4 << 30  # that are read into memory
MAX_GROWTH_BYTES = 1 << 30  # by which content that is read into memory may be larger than what is stored: beyond, it is taken for a bomb
ARCHIVES = ("tar", "tgz", "zip")
COMPRESSIONS = "|".join(OPENERS)
NAME = re.compile(
    rf"(?P<stem>.+?)(?:\.(?!(?:{COMPRESSIONS})$)(?P<format>[a-z0-9]+)|[.-](?P<idx>idx)[1-9]-ubyte|)(?:\.(?:{COMPRESSIONS}))?",
    re.IGNORECASE | re.DOTALL,
)
BUFFER_BYTES = 4 << 20  # of a file that is read as a stream
HEAD_BYTES = 4 << 20  # by which a file of an unclear name is judged
UNCLEAR_FORMATS = ("txt", "")  # of files in folders and archives that may be anything; so may those that end in a number
LISTS_OF_FILES = re.compile(r"(manifest|annotations|gdc_manifest\S*|gdc_sample_sheet\S*)\.(txt|tsv)", re.IGNORECASE)  # of the GDC
ZIP_MEMBER = b"PK\3\4"
COMPRESSED_TAR = re.compile(r"\.(tar\.(bz2|xz)|tbz2?|txz)$", re.IGNORECASE)


@dataclass(frozen=True)
class RawFile:
    """A file that may lie in an archive.

    where: what a person calls it; stem: its path below what was given, without extension, with `/`; format: its extension in lower
    case, without `.gz` and the like (`idx` for MNIST's); read: its content, decompressed; path: of the file itself, None inside an
    archive; archive: in which it lies; labels: of its samples, from files beside it.
    """

    where: str
    stem: str
    format: str
    read: Callable[[], bytes]
    path: Path | None = None
    archive: Path | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)

    def held(self) -> "RawFile":
        """The file to be read twice: with its content in memory where it lies in an archive."""
        return self if self.path is not None else replace(self, read=partial(bytes, self.read()))

    def open(self) -> IO[bytes]:
        """Its content, decompressed, as a stream: a file on disk need not fit into memory. Raises DataError as `read` does."""
        if self.path is None:
            return io.BytesIO(self.read())
        return io.BufferedReader(Stream(open_regular(self.path), self.path.name, self.where), BUFFER_BYTES)


def held(file: RawFile | Broken) -> RawFile | Broken:
    """The file with its content in memory if it lies in an archive, which is read in its order; one that cannot be read says so when it is
    read."""
    if isinstance(file, Broken) or file.archive is None:
        return file
    try:
        return file.held()
    except DataError as error:
        return replace(file, read=partial(_raise, error))


def _raise(error: DataError) -> bytes:
    raise error


@dataclass(frozen=True)
class Wanted:
    """The files of a kind that are looked for. formats: their extensions. recognizer: of the kind, for names that say nothing."""

    kind: str
    formats: Sequence[str]
    recognizer: Reference | None

    @classmethod
    def of(cls, kind: str, formats: Sequence[str] | None = None) -> "Wanted":
        entry = kind_named(kind)
        return cls(kind, entry.suffixes if formats is None else formats, entry.recognizer)

    def __str__(self) -> str:
        names = ["idx3-ubyte (MNIST)" if name == "idx" else f".{name}" for name in self.formats]
        unclear = ", and such content under any name" if self.recognizer else ""
        compressed, archives = (", ".join(f".{name}" for name in suffixes) for suffixes in (OPENERS, ARCHIVES))
        return f"{', '.join(names)}{unclear} (also with {compressed}), and such files in folders or in {archives} archives"

    def holds(self, name: str, opened: Callable[[], IO[bytes]], where: object) -> bool:
        """Whether a file in a folder or archive is one of them: by its name, or where that says nothing, by its content."""
        if self.recognizer is not None and LISTS_OF_FILES.fullmatch(name):
            return False
        form = split_name(name)[1]
        is_unclear = form in UNCLEAR_FORMATS or form.isdigit()
        return form in self.formats or (is_unclear and self.recognizes(name, opened, where))

    def recognizes(self, name: str, opened: Callable[[], IO[bytes]], where: object, *, named: bool = False) -> bool:
        """Whether the content of a file may be of the kind. named: the file was given by its name, in no folder."""
        if self.recognizer is None:
            return False
        try:
            with foreign(where), opened() as file:
                recognized: bool = load(self.recognizer)(read_bytes(file, name, where, HEAD_BYTES), named)
        except (DataError, OSError):  # it is reported when the file is read
            return True
        return recognized


def find_files(
    kind: str,
    paths: Sequence[Path],
    skip: Path | None = None,
    others: OtherFormats | None = None,
    formats: Sequence[str] | None = None,
) -> Iterator[RawFile | Broken]:
    """All files of a kind below `paths`, folders sorted, archives in their own order; `skip` (a labels file) is left out.

    formats: those that are looked for (None: those of the kind).
    others: where files of other formats in folders and archives are counted.

    Archives and members that cannot or must not be read are given as `Broken`.
    Raises DataError for a path that does not exist, a named file of another kind, and a path that holds no file of the kind.
    """
    wanted = Wanted.of(kind, formats)
    others = OtherFormats() if others is None else others
    others.formats |= frozenset(wanted.formats)
    for path in map(Path, paths):
        if not path.exists():
            raise DataError("there is no such file or folder.", where=path, fix="Check the path.")
        if (above := _above(path, paths)) is not None:
            raise DataError(f"it lies in {above}, which is given as well.", where=path, fix="Give one of them, for files are read once.")
        if not (path.is_dir() or path.is_file()):
            raise not_regular(path)
        any_file, before = False, others.total
        for file in _below(path, wanted, skip, others):
            any_file = True
            yield file
        if not any_file:
            what = f"no {kind} file here" + (f", but {others}." if others.total > before else ".")
            frames = "Where the pictures of a folder are the frames of a video, say --frames. " if kind == "video" else ""
            raise DataError(what, where=path, fix=f"{frames}Accepted: {wanted}.")


def _above(path: Path, paths: Sequence[Path]) -> Path | None:
    """The path among these that is a folder in which another one lies."""
    folders = path.resolve().parents
    return next((other for other in map(Path, paths) if other.resolve() in folders), None)


def raw_file(path: Path, name: str | None = None) -> RawFile:
    """A plain file on disk; `name` is its path below the folder that was given."""
    stem, form = split_name(name or path.name)
    return RawFile(str(path), stem, form, partial(_read_path, path), path)


def a_kind(kind: str) -> str:
    """The name of a kind with its article."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def split_name(name: str) -> tuple[str, str]:
    """`scans/7.PNG` -> (`scans/7`, `png`); the format is empty where there is none."""
    match = NAME.fullmatch(COMPRESSED_TAR.sub(".tar", name))
    if match is None:
        return name, ""
    return match["stem"], (match["format"] or match["idx"] or "").lower()


def _below(path: Path, wanted: Wanted, skip: Path | None, others: OtherFormats) -> Iterator[RawFile | Broken]:
    form = split_name(path.name)[1]
    if path.is_dir() and not is_zarr(path):
        for file in walk(path, others.repeated.append):
            if not is_document(file.name) and (skip is None or not _same(file, skip)):
                yield from _open(file, file.relative_to(path).as_posix(), wanted, others)
    elif is_zarr(path) or form in (*wanted.formats, *ARCHIVES):
        if skip is None or not _same(path, skip):
            yield from _open(path, path.name, wanted, others)
    elif form not in CONVERSIONS and wanted.recognizes(path.name, partial(open_regular, path), path, named=True):
        yield raw_file(path)
    else:
        what = f"this is not {a_kind(wanted.kind)} file by its name."
        other = [kind for kind, entry in KINDS.items() if form in entry.suffixes]
        readable = f"It may be read as {' or '.join(other)}." if other else ""
        advised = f"{advice(form, wanted.formats)} {readable}".strip()
        raise DataError(what, where=path, fix=f"{advised} Accepted: {wanted}.".strip())


def _same(path: Path, other: Path) -> bool:
    return path.exists() and path.samefile(other)


def _open(path: Path, name: str, wanted: Wanted, others: OtherFormats) -> Iterator[RawFile | Broken]:
    """A file, or a folder that is a Zarr store."""
    stem, form = split_name(name)
    mode = mode_of(path)
    if stat.S_ISDIR(mode) and ZARR in wanted.formats:
        yield replace(raw_file(path, name), format=ZARR)
    elif mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe or a socket, which would keep a reader waiting
        others.add(str(path), path.name, form)
    elif form == "tar" and is_token_tar(path):
        others.add(str(path), path.name, form, " of tokens")
    elif form in ARCHIVES:
        yield from _members(path, _zip_members if form == "zip" else _tar_members, wanted, others)
    elif wanted.holds(path.name, partial(open_regular, path), path):
        yield raw_file(path, name)
    else:
        others.add(str(path), path.name, form, stem=stem)


def _members(
    path: Path, reader: Callable[..., Iterator[RawFile | Broken]], wanted: Wanted, others: OtherFormats
) -> Iterator[RawFile | Broken]:
    """The members of an archive, which is open as long as they are read."""
    try:
        file = open_regular(path)
    except DataError as error:
        yield Broken(str(path), error)
        return
    with file:
        try:
            yield from guarded(reader(path, file, wanted, others), path)
        except DataError as error:
            yield Broken(str(path), error)


def _read_path(path: Path) -> bytes:
    with open_regular(path) as file:
        return _read_stream(file, path.name, path, os.fstat(file.fileno()).st_size)


def _read_stream(file: IO[bytes], name: str, where: object, stored_bytes: int) -> bytes:
    """A whole file, decompressed. Raises DataError where it is cut, damaged or expands without end."""
    largest = min(MAX_FILE_BYTES, stored_bytes + MAX_GROWTH_BYTES)
    data = read_bytes(file, name, where, largest + 1)
    if len(data) > largest:
        check_growth(len(data), stored_bytes, where)
    return data


def check_growth(num_bytes: int, stored_bytes: int, where: object) -> None:
    """Raise DataError for content of `num_bytes` that is too large for memory, or for what is stored of it."""
    if num_bytes > MAX_FILE_BYTES:
        raise DataError(f"the file holds more than {MAX_FILE_BYTES >> 30} GiB.", where=where, fix="Split it into smaller files.")
    if num_bytes > stored_bytes + MAX_GROWTH_BYTES:
        what = f"it holds more than {MAX_GROWTH_BYTES >> 30} GiB beyond the {stored_bytes:,} bytes that are stored."
        raise DataError(what, where=where, fix="Unpack it, if it is what it should be, or split it into smaller files.")


def check_archive(data: IO[bytes], where: object) -> None:
    """The same for all members of a zip archive, in which other formats are stored. Raises BadZipFile where it is none."""
    with zipfile.ZipFile(data) as archive:
        sizes = [(info.file_size, info.compress_size) for info in archive.infolist()]
    check_growth(sum(size for size, _ in sizes), sum(stored for _, stored in sizes), where)
    data.seek(0)


def _zip_members(path: Path, file: IO[bytes], wanted: Wanted, others: OtherFormats) -> Iterator[RawFile | Broken]:
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        yield _broken(f"the archive is damaged or cut ({error}).", path, "Get it again.")
        return
    with archive:
        if _lacks_first(archive, file):
            what = "the archive seems to be several behind one another, of which only the last one's members are listed."
            yield _broken(what, path, "Unpack each before it was joined, and give the folder.")
            return
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if info.flag_bits & 1:
                yield _broken(f"the archive's member {info.filename!r} is encrypted.", path, "Unpack it and give the folder.")
            elif stat.S_ISLNK(info.external_attr >> 16):
                others.add(f"{path}/{info.filename}", PurePosixPath(info.filename).name, split_name(info.filename)[1], AS_LINKS)
            elif not info.filename.endswith("/"):
                yield from _member(path, info.filename, wanted, partial(archive.open, info), info.compress_size, others)


def _lacks_first(archive: zipfile.ZipFile, file: IO[bytes]) -> bool:
    """Whether the file begins with a member that its directory does not list."""
    file.seek(0)
    return file.read(len(ZIP_MEMBER)) == ZIP_MEMBER and all(info.header_offset > 0 for info in archive.infolist())


def _tar_members(path: Path, file: IO[bytes], wanted: Wanted, others: OtherFormats) -> Iterator[RawFile | Broken]:
    for member in tar_members(path, file):
        if isinstance(member, Broken):
            yield member
            continue
        archive, info, content = member
        if content is None and (info.issym() or info.islnk()):  # to a member that is read under its name, or to what must not be
            others.add(f"{path}/{info.name}", PurePosixPath(info.name).name, split_name(info.name)[1], AS_LINKS)
        elif info.isdev():
            yield _broken(f"the archive holds a device, {info.name!r}.", path, "Pack plain files only.")
        elif content is not None:
            yield from _member(path, info.name, wanted, partial(_tar_member, archive, content), content.size, others)


def _broken(what: str, where: Path, fix: str) -> Broken:
    return Broken(str(where), DataError(what, where=where, fix=fix))


def _tar_member(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    file = archive.extractfile(info)
    assert file is not None
    return file


def _member(
    archive: Path, name: str, wanted: Wanted, open_member: Callable[[], IO[bytes]], stored_bytes: int, others: OtherFormats
) -> Iterator[RawFile | Broken]:
    """One member, if it is of the kind; broken where its name leaves the archive. Archives in archives are not read."""
    parts = PurePosixPath(name.replace("\\", "/").lstrip("/"))  # as Windows writes them; nothing is unpacked, so names are keys alone
    if ".." in parts.parts:
        yield _broken(f"the archive holds the unsafe name {name!r}.", archive, "Pack it again with relative names.")
        return
    stem, form = split_name(parts.as_posix())
    if any(is_system_folder(part) for part in parts.parts[:-1]) or is_hidden(parts.name) or is_document(parts.name):
        return
    if any(split_name(part)[1] == ZARR for part in parts.parts[:-1]):
        others.add(f"{archive}/{name}", parts.name, form, " of a Zarr store, which is read unpacked")
    elif not wanted.holds(parts.name, open_member, f"{archive}/{name}"):
        others.add(f"{archive}/{name}", parts.name, form, " inside archives" if form in ARCHIVES else "", stem)
    else:
        read = partial(_read_member, open_member, name, f"{archive}/{name}", stored_bytes)
        yield RawFile(f"{archive}/{name}", stem, form, read, archive=archive)


def _read_member(open_member: Callable[[], IO[bytes]], name: str, where: str, stored_bytes: int) -> bytes:
    try:
        with open_member() as file:
            return _read_stream(file, name, where, stored_bytes)
    except (NotImplementedError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DataError(f"the archive's member cannot be read ({error}).", where=where, fix="Unpack it and give the folder.") from error
