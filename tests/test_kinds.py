"""The table of kinds: every entry is complete and names what exists, and nothing happens to a kind that it does not hold."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from mmtool.common.errors import DataError, UsageError
from mmtool.data.sample import Modality
from mmtool.data.shard_format import check_modalities
from mmtool.evaluation.figures.thumbnails import Thumbnails
from mmtool.evaluation.reference.features import Embedding
from mmtool.kinds import KINDS, Kind, kind_named, load
from mmtool.preprocessing.prepare import Preparer, preparer_of
from mmtool.preprocessing.readers.entries import Broken
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.sources import SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import FORMAT, METADATA_KEY, RowWriter, from_bytes

ROOMS = {
    "gatherer": "mmtool.preprocessing.readers.",
    "reader": "mmtool.preprocessing.readers.",
    "preparer": "mmtool.preprocessing.",
    "augmentation": "mmtool.preprocessing.",
    "features": "mmtool.evaluation.reference.",
    "thumbnail": "mmtool.evaluation.figures.",
}
UNKNOWN: type = type("Unknown", (), {"kind": "smell", "scheme": "codec"})


def test_every_field_of_an_entry_is_stated() -> None:
    assert not any(
        field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING for field in dataclasses.fields(Kind)
    )


@pytest.mark.parametrize("name", KINDS)
def test_an_entry_is_complete(name: str) -> None:
    entry, optional = KINDS[name], {field for field, hint in get_type_hints(Kind).items() if type(None) in getattr(hint, "__args__", ())}
    for field in dataclasses.fields(Kind):
        value = getattr(entry, field.name)
        assert value or isinstance(value, bool) or field.name in optional, f"{name} has no {field.name}"
    for field, room in ROOMS.items():
        reference = getattr(entry, field)
        assert reference is None or (reference.startswith(room) and callable(load(reference))), f"{field} of {name}"
    assert issubclass(load(entry.preparer), Preparer)
    assert all(suffix == suffix.lower().strip(".") for suffix in (*entry.suffixes, *entry.writes))


@pytest.mark.parametrize(("name", "scheme"), [(name, scheme) for name, entry in KINDS.items() for scheme in entry.schemes])
def test_a_scheme_is_a_tokenizer_of_its_kind(name: str, scheme: str) -> None:
    tokenizer = load(KINDS[name].schemes[scheme])
    assert (tokenizer.kind, tokenizer.scheme) == (name, scheme)
    methods = ("fit", "encode", "decode", "write", "state", "from_state")
    assert all(callable(getattr(tokenizer, method)) for method in methods)
    assert not hasattr(tokenizer, "write_rows") or (issubclass(tokenizer, RowWriter) and "csv" in KINDS[name].writes)


def test_options_of_kinds_are_those_of_the_command_line() -> None:
    from mmtool.common.options import settings_of
    from mmtool.preprocessing.readers.table_options import TableOptions

    flags = {setting.flag for options in (SourceOptions, TableOptions) for setting in settings_of(options)} | {"--split-within"}
    assert {flag for entry in KINDS.values() for flag in entry.options} <= flags


def pairs(files: Iterator[RawFile | Broken]) -> Iterator[RawFile | Broken]:
    """A gatherer: the files of each folder are one sample, called like it."""
    for folder, group in groupby(files, lambda file: Path(file.where).parent):
        parts = [file for file in group if isinstance(file, RawFile)]
        yield replace(parts[0], stem=folder.name, read=partial(bytes, b" ".join(file.read() for file in parts)))


def test_files_that_hold_one_sample_together_are_gathered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "text", replace(KINDS["text"], gatherer=f"{__name__}:pairs"))
    for name in ("a/1.txt", "a/2.txt", "b/1.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"words of {name}")
    read = read_items("text", [tmp_path], SourceOptions())
    assert {item.key: item.value for item in read} == {"a": "words of a/1.txt words of a/2.txt", "b": "words of b/1.txt"}


def test_the_table_is_light() -> None:
    code = "import sys, mmtool.kinds; print([name for name in ('numpy', 'torch', 'PIL', 'mmtool.tokenizers') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_no_kind_is_named_in_a_ladder_of_the_stages() -> None:
    """Conditions on a kind belong into the table; what is about one kind alone (a table's guides) names it in a message besides."""
    package = Path(sys.modules["mmtool"].__file__ or "").parent
    files = [*package.glob("preprocessing/*.py"), *package.glob("evaluation/figures/*.py"), package / "evaluation/reference/features.py"]
    ladders = [path.name for path in files for name in KINDS if f'elif kind == "{name}"' in path.read_text()]
    assert ladders == []


def test_an_unknown_kind_is_an_error_that_names_it_and_the_table(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    attempts = (
        lambda: kind_named("smell"),
        lambda: list(read_items("smell", [tmp_path], SourceOptions())),
        lambda: tokenize("smell", [tmp_path], tmp_path / "out.tar", name="smell"),
        lambda: preparer_of(UNKNOWN()),
        lambda: Thumbnails(UNKNOWN(), ["a", "b"], (10, 10)),
        lambda: Embedding(UNKNOWN(), ["a", "b"], seed=0),
    )
    for attempt in attempts:
        with pytest.raises(UsageError, match=r"unknown kind 'smell'") as caught:
            attempt()
        assert "mmtool/kinds.py" in str(caught.value) and "trajectory" in str(caught.value)
    assert not (tmp_path / "out.tar").exists()


def test_artefacts_of_an_unknown_kind_are_refused() -> None:
    modality = Modality("scent", "smell", 8, None, "line", "0" * 64, 4)
    with pytest.raises(DataError, match="unknown kind \\('smell'\\)"):
        check_modalities([modality])
    from safetensors.numpy import save

    from mmtool.common.seal import sealed
    from mmtool.common.storage import canonical_json

    for kind, scheme in (("smell", "codec"), ("text", "codec")):
        record, tensors = {"format": FORMAT, "kind": kind, "scheme": scheme, "settings": {}, "report": {}}, {"none": np.zeros(1)}
        data = save(tensors, {METADATA_KEY: canonical_json(sealed(record, tensors))})
        with pytest.raises(DataError, match=f"unknown kind '{kind}' or scheme 'codec'.*mmtool/kinds.py"):
            from_bytes(data, where="scent.safetensors")
