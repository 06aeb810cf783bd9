"""Arguments that the verbs have in common, and what they become."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mmtool.common.remote_arguments import accepts_urls

PathLike = str | Path
Paths = PathLike | Iterable[PathLike]
Names = str | Sequence[str]


def problems_of(path: Path) -> list[str]:
    """What is wrong with an artefact."""
    from mmtool.artefacts import lint

    return lint(path)


takes_urls = accepts_urls(problems_of)


def as_paths(paths: Paths) -> list[Path]:
    return [Path(paths)] if isinstance(paths, (str, Path)) else [Path(path) for path in paths]


def optional_path(path: PathLike | None) -> Path | None:
    return None if path is None else Path(path)


def as_names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def as_sources(encoders: Mapping[str, PathLike]) -> dict[str, Path]:
    return {name: Path(path) for name, path in encoders.items()}
