"""Which source of encoders a directory is."""

import json
from pathlib import Path
from typing import Any, get_args

from mmtool.common.errors import DataError, UsageError
from mmtool.data.identity import TrainingItems
from mmtool.encoders.open_hugging_face import open_hugging_face
from mmtool.encoders.run_encoder import open_run_encoder
from mmtool.model.encoder import Encoder, Pool
from mmtool.training.config import RUN_FORMATS
from mmtool.training.run import open_run

FIX = "Give a run of `mmtool pretrain`, or a local directory in Hugging Face format (config.json and safetensors)."


def training_items_of(source: Path) -> TrainingItems:
    """What the encoder in a directory was trained on; of a model from elsewhere nothing is known, and nothing could be compared."""
    return open_run(source).training_items() if _config(Path(source)).get("format") in RUN_FORMATS else TrainingItems()


def open_encoder(source: Path, modality: str | None = None, tokenizer: bytes | None = None, pool: Pool = "auto") -> Encoder:
    """The frozen encoder of one modality: a run of this toolkit, or a local directory in Hugging Face format.

    modality: its name in the data; may be left out where a run has one only. tokenizer: the file of the tokenizer that made its tokens in
    the data (`TokenSet.tokenizers[modality]`): a run must have been trained with it, a Hugging Face model reads what it decodes.
    Raises DataError where the directory is no encoder or does not fit, UsageError where it does not know the modality.
    """
    source = Path(source)
    if pool not in get_args(Pool):
        raise UsageError(f"there is no pooling {pool!r}.", where="pool", fix=f"Choose from: {', '.join(get_args(Pool))}.")
    record = _config(source)
    if record.get("format") in RUN_FORMATS:
        return open_run_encoder(source, modality, tokenizer, pool)
    if "model_type" in record:
        return open_hugging_face(source, modality, tokenizer, pool)
    if "pretrained_cfg" in record:
        raise DataError(
            "models in the format of timm are not read.", where=source, fix="Give one in that of transformers, such as a DINOv2."
        )
    raise DataError("this config.json is neither that of a run nor of a Hugging Face model.", where=source, fix=FIX)


def _config(source: Path) -> dict[str, Any]:
    """The directory's config.json, empty where it is no object. Raises DataError where there is none."""
    try:
        record = json.loads((source / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"there is no encoder here (config.json: {error}).", where=source, fix=FIX) from error
    return record if isinstance(record, dict) else {}
