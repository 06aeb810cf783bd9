"""URLs in the place of paths, at the edge: what a verb is called with becomes local copies, and what it wrote is sent where it belongs.

Nothing behind the edge knows of URLs. Where there are none, nothing is imported and nothing is done.
"""

import dataclasses
import functools
import inspect
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from glob import has_magic
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

from mmtool.common.errors import UsageError
from mmtool.common.urls import PACKED, as_given, is_collapsed, is_url, packed, protocol_of, shown, unpacked

P = ParamSpec("P")
T = TypeVar("T")
Verify = Callable[[Path], Sequence[str]]
OUTPUT, TOKENIZER = "output", "save_tokenizer"
SEVERAL = ("paths", "inputs", "trained")  # arguments that may be one path or several
WRITTEN_ONCE = ("tokenize", "tokenize_manifest", "shard", "impute", "evaluate", "peek", "export")  # verbs whose output is not continued
OF_PATHS = ("raw", "encoders", "calibration", "ood", "root", "labels_path", "sample_sheet")  # settings whose texts are, or hold, paths
ONE = re.compile(rf"(?P<name>[\w-]+=)?(?P<url>{PACKED}[\w.~%-]+)")


def accepts_urls(verify: Verify | None = None) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """A function that takes URLs for paths, also in lists and mappings. verify: gives the problems of what it wrote before it is sent."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def at_edge(*args: P.args, **kwargs: P.kwargs) -> T:
            try:
                given = signature.bind(*args, **kwargs)
            except TypeError:
                return function(*args, **kwargs)  # which says what is wrong with them
            packed_values = {name: _packed_paths(signature.parameters[name], value) for name, value in given.arguments.items()}
            if not _urls(packed_values):
                return function(*args, **kwargs)
            given.arguments.update(packed_values)
            with at_hand(function.__name__, given.arguments, verify) as local:
                given.arguments.update(local)
                return _as_given(function(*given.args, **given.kwargs))

        return at_edge

    return decorate


@contextmanager
def at_hand(verb: str, values: dict[str, Any], verify: Verify | None = None, quiet: bool = False) -> Iterator[dict[str, Any]]:
    """The arguments of a verb with paths of this machine in place of packed URLs (`urls.packed`): of copies of what is read, and of where
    the output is to be written, which is sent when the block ends without an error. What is said on standard output waits for that.

    Raises UsageError where an output may not go to its place, DataError where something cannot be read or sent.
    """
    values = dict(_mapped(dict(values), _local_file))
    if not _urls(values):
        yield values
        return
    sources = {name: value for name, value in values.items() if name != OUTPUT}
    target = next(iter(_urls(values.get(OUTPUT))), None)
    _check(verb, values, target)
    if target is None:
        with _silence(quiet):
            local = {name: _copied(value, name) for name, value in sources.items()}
        yield values | local
        return
    from mmtool.common.upload import deliver, output_place, room_for

    force = bool(values.get("force"))
    with _silence(quiet):
        place = output_place(target, _urls(sources), force)
        local = {name: _copied(value, name) for name, value in sources.items()}
    with room_for(place) as path:
        with redirect_stdout(io.StringIO()) as said:
            yield values | local | {OUTPUT: path}
        with _silence(quiet):
            deliver(path, place, force, verify)
    print(said.getvalue(), end="", flush=True)


def _check(verb: str, values: Mapping[str, Any], target: str | None) -> None:
    """Refuse outputs that are continued, and what cannot be done to a copy."""
    if target is not None and verb not in WRITTEN_ONCE:
        what = f"`{verb}` writes to its output again and again, and continues it, which a remote place cannot take."
        fix = "Name a local folder, and copy it there when the command has ended."
        raise UsageError(what, where=shown(target), fix=fix)
    if tokenizers := _urls(values.get(TOKENIZER)):
        raise UsageError("only --output may be a URL.", where=shown(tokenizers[0]), fix="Save the tokenizer in a local file.")
    if values.get("repair"):
        raise UsageError("what lies in a remote place is read, not repaired.", where=shown(_urls(values)[0]), fix="Leave out --repair.")


def _copied(value: Any, name: str) -> Any:
    """The value with local copies for its URLs; those of a list lie to each other as they do there."""
    if isinstance(value, Mapping):
        return {key: _copied(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied_together(value))
    if not _urls(value):
        return value
    copies = list(_copied_together([value]))
    return copies if name in SEVERAL else _only(copies, value)


def _copied_together(values: Sequence[Any]) -> Iterator[Any]:
    from mmtool.common.copies import local_copies

    copies = iter(local_copies([url for value in values for url in _urls(value)]) if _urls(values) else ())
    for value in values:
        match = ONE.fullmatch(str(value)) if isinstance(value, str | Path) else None
        if match is None:
            yield value
        elif match["name"]:
            yield f"{match['name']}{_only(next(copies), value)}"
        else:
            yield from map(type(value), map(str, next(copies)))


def _only(paths: Sequence[Any], value: object) -> Any:
    """The one path that a pattern matches. Raises UsageError where it matches several."""
    if len(paths) > 1:
        fix = "Name the folder, or one of them."
        raise UsageError(f"{len(paths)} files match, where one path is wanted.", where=shown(_urls(value)[0]), fix=fix)
    return paths[0]


def local_settings(path: Path) -> Path:
    """The path of a file of settings. Raises UsageError for a URL of another machine."""
    local = Path(_local_file(path))
    if urls := _urls(local):
        raise UsageError("settings are read from this machine alone.", where=f"--config {shown(urls[0])}", fix="Download the file first.")
    return local


def _local_file(value: Any) -> Any:
    """The path that a `file://` URL names, any other value as it is."""
    match = ONE.fullmatch(str(value))
    if match is None or protocol_of(url := unpacked(match["url"])) != "file":
        return value
    parts = urlsplit(url.replace("?", "%3F").replace("#", "%23"))
    if parts.netloc not in ("", "localhost"):
        raise UsageError("this names a file of another machine.", where=shown(url), fix="Write file:///folder/file, with three slashes.")
    path = unquote(parts.path)
    if has_magic(path) and not Path(path).exists():
        raise UsageError("patterns of local files are for the shell.", where=shown(url), fix="Leave out file:// and the quotes.")
    return type(value)(f"{match['name'] or ''}{path}")


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    """A value with each text and path in it changed."""
    if isinstance(value, str | Path):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(inner, change) for key, inner in value.items()}
    return type(value)(_mapped(inner, change) for inner in value) if type(value) in (list, tuple) else value


def _packed_paths(parameter: inspect.Parameter, value: Any) -> Any:
    """What was given for a parameter, with URLs packed where paths are meant: a column may be named by a URL, too."""
    if "Path" in str(parameter.annotation) or parameter.name in OF_PATHS:
        return _mapped(value, _pack)
    if isinstance(value, dict):
        return {key: _mapped(inner, _pack) if key in OF_PATHS else inner for key, inner in value.items()}
    return value


def _pack(value: str | Path) -> str | Path:
    if isinstance(value, Path) and is_collapsed(value):
        raise UsageError("a Path drops slashes of a URL.", where=shown(str(value)), fix="Give the URL as a text.")
    return packed(value) if isinstance(value, str) and is_url(value) else value


def _urls(value: Any) -> list[str]:
    """All URLs that are packed in a value."""
    if isinstance(value, str | Path):
        match = ONE.fullmatch(str(value))
        return [] if match is None else [unpacked(match["url"])]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [url for each in inner for url in _urls(each)]


def _as_given(result: T) -> T:
    """What a function gives, with URLs in place of paths on this machine."""
    if isinstance(result, list) and all(isinstance(item, str) for item in result):
        return [as_given(item) for item in result]  # type: ignore[return-value]
    if not dataclasses.is_dataclass(result) or isinstance(result, type):
        return result
    paths = {name: str(value) for name, value in vars(result).items() if isinstance(value, str | Path)}
    return dataclasses.replace(result, **{name: as_given(path) for name, path in paths.items() if as_given(path) != path})


def _silence(quiet: bool) -> Any:
    return redirect_stderr(io.StringIO()) if quiet else nullcontext()
