"""Several modalities from the columns of one table, a manifest: the stage `tokenize` for each, into one folder of token sets."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from mmtool.common.errors import UsageError
from mmtool.common.lock import one_writer
from mmtool.common.log import log
from mmtool.common.output import OutputPath
from mmtool.common.seal import write_sealed
from mmtool.data.identity import VARIANT_OF
from mmtool.data.presence import PRESENCE, PRESENCE_FORMAT
from mmtool.data.shards import open_token_set
from mmtool.kinds import KINDS
from mmtool.preprocessing.decoding import IN_PROCESS, Decoding, opens_engine
from mmtool.preprocessing.keys import COUNTS_ROWS, KeyColumnError, Keys, is_first_name, numbers_rows
from mmtool.preprocessing.readers.entries import NUMBERED, Broken, SourceOptions, require_column
from mmtool.preprocessing.readers.file_columns import CONTENT, PATH, is_missing
from mmtool.preprocessing.readers.other_formats import OtherFormats
from mmtool.preprocessing.readers.raw_files import RawFile, find_files, split_name
from mmtool.preprocessing.readers.rows import ROW_FORMATS, header_of, row_keys, rows_of
from mmtool.preprocessing.splits import Split
from mmtool.preprocessing.tokenize import TokenizeSummary, tokenize

CELLS_TRIED = 200  # to see what a column holds
TEXT, TABLE = "text", "table"
BY_EXTENSION = ("image", "audio", "video", TEXT)  # kinds that follow from a path; npz and npy may be of several


@dataclass(frozen=True)
class Column:
    """A modality of a manifest. column: one of the table, of texts several, separated by commas. holds_files: whether its cells are paths,
    or the content of files, instead of texts."""

    name: str
    kind: str
    column: str
    holds_files: bool


@dataclass(frozen=True)
class ManifestSummary:
    """What tokenizing a manifest did. modalities: by name. presence: present modalities ("image+text") -> samples; "" those with none."""

    output: str
    modalities: dict[str, TokenizeSummary] = field(default_factory=dict)
    presence: dict[str, int] = field(default_factory=dict)

    def matrix(self) -> str:
        """The combinations of modalities that occur, one a line, the commonest first."""
        names = list(self.modalities)
        width = max(len(f"{sum(self.presence.values()):,}"), len("samples"))
        lines = [" ".join([f"{'samples':>{width}}", *names])]
        for combination, count in sorted(self.presence.items(), key=lambda item: -item[1]):
            held = combination.split("+")
            marks = [f"{'x' if name in held else '-':^{len(name)}}" for name in names]
            lines.append(" ".join([f"{count:>{width},}", *marks]).rstrip())
        return "\n".join(lines)


@one_writer
@opens_engine
def tokenize_manifest(
    manifest: Path,
    output: Path,
    columns: Mapping[str, str],
    *,
    tokenizer: Path | None = None,
    schemes: Mapping[str, str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    options: SourceOptions | None = None,
    split: Split | None = None,
    split_label: str | None = None,
    seed: int = 0,
    force: bool = False,
    decoding: Decoding = IN_PROCESS,
) -> ManifestSummary:
    """Tokenize the columns of a table (or of all tables in a folder) into a folder `output` with a token set NAME.tar for each modality.

    columns: name of each modality, or NAME:KIND, -> its column. Cells hold paths, the content of files, or texts; an empty one is an absent
    modality. tokenizer: a run, or an earlier output, whose tokenizers are used (None: new ones are fitted). schemes, settings: by modality.
    split_label: a label, or a column, that names the split. decoding: in which processes files are read. Raises DataError and UsageError
    before anything is written.
    """
    options = options or SourceOptions()
    place = OutputPath(Path(output), force, [Path(manifest), tokenizer, options.labels_path, options.root])
    place.check_directory()
    table, header = _first_table(Path(manifest), options)
    chosen = [_column(name, column, table, header, options) for name, column in columns.items()]
    _check(chosen, schemes or {}, settings or {})
    if split_label in header and split_label not in options.label_names:
        options = replace(options, label_columns=(*options.label_columns, str(split_label)))
    keys = row_keys(table, header, options, [part for column in chosen for part in column.column.split(",")], numbered=True)
    _check_repeated(keys, options, header)
    if split_label is None:
        _check_files(table, [column for column in chosen if column.holds_files], keys, options, header)
    options = replace(options, key_column=NUMBERED if keys.column is None else keys.column)  # the same for all modalities
    summary = ManifestSummary(str(output))
    with place.directory() as folder:
        for column in chosen:
            log(f"{column.name}: {column.kind}{' files' if column.holds_files else ''} of column {column.column!r}")
            summary.modalities[column.name] = tokenize(
                column.kind,
                [Path(manifest)],
                folder / f"{column.name}.tar",
                name=column.name,
                tokenizer=_tokenizer(tokenizer, column.name),
                scheme=(schemes or {}).get(column.name),
                settings=(settings or {}).get(column.name),
                options=_options(options, column),
                split=split,
                split_label=split_label,
                seed=seed,
                finally_at=Path(output) / f"{column.name}.tar",
                decoding=decoding,
            )
        summary.presence.update(_presence(folder, summary.modalities))
        files = sorted(path.name for path in folder.iterdir())
        write_sealed(folder / PRESENCE, {"format": PRESENCE_FORMAT, "presence": summary.presence, "files": files})
    return summary


def _check_repeated(keys: Keys, options: SourceOptions, header: Sequence[str]) -> None:
    """Raise KeyColumnError where rows would be numbered although a column is called `id` or `key`: those of one id could be divided between
    training and test. Other ids, such as of speakers, may well repeat."""
    ids = {name: reason for name, reason in keys.ids.items() if is_first_name(name) and reason != COUNTS_ROWS}
    if keys.column is None and ids and not numbers_rows(options, header):
        name, reason = next(iter(ids.items()))
        fix = f"Mend it, or say --key-column {shlex.quote(name)} --captions all where its rows are texts of one sample"
        fix += ", or --key-column none, which numbers the rows."
        raise KeyColumnError(f"the column {name!r} {reason}, so that it holds no keys.", where=keys.where, fix=fix)


def _check_files(table: RawFile, columns: Sequence[Column], keys: Keys, options: SourceOptions, header: Sequence[str]) -> None:
    """Raise KeyColumnError where rows are numbered although one file stands in several: it could be in training and in test. Warn where
    such rows have keys, or are numbered because that was wanted."""
    if options.group_column is not None:
        return
    for column in columns:
        seen: dict[Any, str] = {}
        for number, read in enumerate(rows_of(table, options, [column.column, *filter(None, [keys.column])])):
            cell = None if isinstance(read, Broken) else read[1].get(column.column)
            if isinstance(read, Broken) or is_missing(cell, options.table.na):
                continue
            if seen.setdefault(_content(cell), keys.of(read[1], number)) != keys.of(read[1], number):
                _log_repeated(column.column, read[0], keys, is_wanted=keys.column is not None or numbers_rows(options, header))
                break


def _log_repeated(column: str, where: str, keys: Keys, *, is_wanted: bool) -> None:
    what = f"a file of the column {column!r} stands in several rows, so that it could be in training and in test"
    name = shlex.quote(column)
    if is_wanted:
        log(f"warning: {what} ({where}): --group-column {name} keeps such rows in one split.")
        return
    fix = f"Say --group-column {name}, which keeps such rows in one split; --key-column {name} --captions all where they are texts of one "
    fix += "sample; or --key-column none, which numbers the rows."
    raise KeyColumnError(f"{what}.", where=where, fix=fix)


def _content(cell: Any) -> Any:
    """What tells one file from another: its path, or what it holds."""
    content = cell.get(CONTENT) or cell.get(PATH) if isinstance(cell, Mapping) else cell
    return hash(content) if isinstance(content, bytes) else str(content).strip()


def _first_table(manifest: Path, options: SourceOptions) -> tuple[RawFile, list[str]]:
    """The table, or the first one of a folder, and its columns. Raises DataError where there is none."""
    file = next(find_files(TABLE, [manifest], options.labels_path, OtherFormats(), ROW_FORMATS))
    if isinstance(file, Broken):
        raise file.error
    table = file.held()
    return table, header_of(table, options)


def _column(name: str, column: str, table: RawFile, header: Sequence[str], options: SourceOptions) -> Column:
    """What a column is: by the kind that is said, by the modality's name where that is a kind, else by the extensions in its cells."""
    name, _, stated = name.partition(":")
    parts = [column] if column in header else [part.strip() for part in column.split(",")]
    for part in parts:
        require_column(part, list(header), table.where, f"--column {name}=COLUMN")
    if stated and stated not in KINDS:
        raise UsageError(f"there is no kind {stated!r}.", where="--column", fix=f"Choose from: {', '.join(KINDS)}.")
    cells = list(islice(_filled(table, parts[0], options), CELLS_TRIED))
    looks = _kind_of(cells)
    kind = stated or (name if name in KINDS else looks)
    if kind is None:
        fix = f"Say it: --column {name}:KIND={column}, with one of {', '.join(KINDS)}."
        raise UsageError(f"the kind of {name!r} is not clear from the column {column!r}.", where=table.where, fix=fix)
    if kind == TABLE:
        fix = "Tokenize its columns with `mmtool tokenize table`, or keep them as labels."
        raise UsageError("a row of a table is no cell of a manifest.", where=f"--column {name}={column}", fix=fix)
    if len(parts) > 1 and kind != TEXT:
        raise UsageError("only texts may come from several columns.", where=f"--column {name}={column}", fix="Name one.")
    return Column(name, kind, ",".join(parts), kind != TEXT or bool(cells and all(_extension(cell) == "txt" for cell in cells)))


def _kind_of(cells: Sequence[Any]) -> str | None:
    """The kind of which all these cells seem to be, None where that is not clear."""
    forms = {_extension(cell) for cell in cells}
    if not forms - {""} and cells and all(isinstance(cell, str | list) for cell in cells):
        return TEXT
    kinds = [kind for kind in BY_EXTENSION if forms <= set(KINDS[kind].suffixes) - {"npz", "npy"}]
    return kinds[0] if forms and kinds else None


def _extension(cell: Any) -> str:
    """Of the path in a cell, empty where there is none; a text that ends like one has blanks in it."""
    name = cell.get(PATH) if isinstance(cell, Mapping) and CONTENT in cell else cell
    form = split_name(name)[1] if isinstance(name, str) and len(name.split()) == 1 else ""
    return form if any(form in entry.suffixes for entry in KINDS.values()) else ""


def _filled(table: RawFile, column: str, options: SourceOptions) -> Iterator[Any]:
    for read in rows_of(table, options, [column]):
        if not isinstance(read, Broken) and not is_missing(read[1].get(column), options.table.na):
            yield read[1][column]


def _check(columns: Sequence[Column], schemes: Mapping[str, str], settings: Mapping[str, Any]) -> None:
    names = [column.name for column in columns]
    if not names:
        fix = "Name each with --column, e.g. --column image=image_path --column text=caption."
        raise UsageError("which columns hold modalities?", where="--manifest", fix=fix)
    unknown = next((name for name in (*schemes, *settings) if name not in names), None)
    if unknown is not None:
        raise UsageError(f"no column is the modality {unknown!r}.", where="--as, --set", fix=f"Choose from: {', '.join(names)}.")


def _options(options: SourceOptions, column: Column) -> SourceOptions:
    if column.holds_files:
        return replace(options, file_column=column.column)
    return replace(options, text_column=column.column)


def _tokenizer(path: Path | None, name: str) -> Path | None:
    """The token set of a modality in a folder of them; else what was given."""
    token_set = None if path is None else Path(path) / f"{name}.tar"
    return token_set if token_set is not None and token_set.is_file() else path


def _presence(folder: Path, modalities: Mapping[str, TokenizeSummary]) -> dict[str, int]:
    """How many samples hold which modalities, in the order of the manifest's columns."""
    held: dict[str, list[str]] = {}
    for name in modalities:
        for sample in open_token_set(folder / f"{name}.tar"):
            if VARIANT_OF not in sample.metadata:
                held.setdefault(sample.key, []).append(name)
    presence = Counter("+".join(names) for names in held.values())
    done = next(iter(modalities.values()))
    none = done.samples - done.variants + done.absent + done.rejected - len(held)
    return dict(presence) | ({"": none} if none > 0 else {})
