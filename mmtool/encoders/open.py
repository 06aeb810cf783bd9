"""Which source of encoders a directory is."""

import json
from pathlib import Path

from mmtool.encoders.run_encoder import open_run_encoder
from mmtool.errors import DataError
from mmtool.model.encoder import Encoder
from mmtool.training.config import RUN_FORMAT

CONFIG = "config.json"


def open_encoder(source: Path, modality: str | None = None, tokenizer: bytes | None = None) -> Encoder:
    """The frozen encoder of one modality (`tune("none")`) from a run of this toolkit.

    modality: its name in the data; may be left out where a run has one only. tokenizer: the file of the tokenizer that made its tokens in
    the data (`TokenSet.tokenizers[modality]`), which a run must have been trained with.
    Raises DataError where the directory is no encoder, UsageError where it does not know the modality.
    """
    source = Path(source)
    try:
        record = json.loads((source / CONFIG).read_text())
    except (OSError, ValueError) as error:
        fix = "Give a run of `mmtool pretrain`."
        raise DataError(f"there is no encoder here (config.json: {error}).", where=source, fix=fix) from error
    if isinstance(record, dict) and record.get("format") == RUN_FORMAT:
        return open_run_encoder(source, modality, tokenizer)
    raise DataError("this config.json is not that of a run.", where=source, fix="Give a run of `mmtool pretrain`.")
