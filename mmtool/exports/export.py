"""The verb `export` as a function."""

from collections.abc import Sequence
from pathlib import Path

from mmtool.common.remote_arguments import accepts_urls
from mmtool.exports.directory import ExportSummary, export_directory
from mmtool.exports.onnx import OnnxSummary, export_onnx

PathLike = str | Path
ONNX = ".onnx"


@accepts_urls()
def export(run: PathLike, output: PathLike, *, have: str | Sequence[str] = (), force: bool = False) -> ExportSummary | OnnxSummary:
    """Write a run to pass on: a directory with its best weights and its tokenizers that `mmtool.load` opens anywhere; or, where the name of
    the output ends with `.onnx`, what makes features of its modalities `have` (none named: all).

        mmtool.export("run/", "digits/")
        mmtool.export("run/", "digits.onnx", have="image")
    """
    names = (have,) if isinstance(have, str) else tuple(have)
    if Path(output).suffix == ONNX:
        return export_onnx(Path(run), Path(output), names, force=force)
    return export_directory(Path(run), Path(output), force=force)
