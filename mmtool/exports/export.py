"""The verb `export` as a function."""

from pathlib import Path

from mmtool.exports.directory import ExportSummary, export_directory

PathLike = str | Path


def export(run: PathLike, output: PathLike, *, force: bool = False) -> ExportSummary:
    """Write a run to pass on: a directory with its best weights and its tokenizers that `mmtool.load` opens anywhere.

    mmtool.export("run/", "digits/")
    """
    return export_directory(Path(run), Path(output), force=force)
