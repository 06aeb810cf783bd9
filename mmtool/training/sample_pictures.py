"""Pictures of what a training imputes: real values above imputed ones, for trackers."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from PIL import Image

from mmtool.data.sample import Sample
from mmtool.kinds import kind_named, load
from mmtool.methods.base import Method
from mmtool.methods.protocols import ImputationRequest, Imputing, Retrieving
from mmtool.model.transformer import Transformer
from mmtool.tokenizers.base import Tokenizer
from mmtool.training.run import Run
from mmtool.training.trackers import Tracking
from mmtool.training.trainer import Trainer

COUNT = 6  # samples side by side
CELL, GAP = (144, 108), 4


def shown(
    validate: Callable[[], dict[str, float]], trainer: Trainer, tracking: Tracking | None, run: Run, samples: Sequence[Sample]
) -> dict[str, float]:
    """What `validate` measures; a tracker is also shown what is imputed of some of the samples."""
    measured = validate()
    if tracking and tracking.wants_pictures(trainer.step):
        with trainer.measured_model() as model:
            pictures = imputed_pictures(trainer.method, model, run.tokenizers(), samples, trainer.config.seed)
        tracking.pictures(trainer.step, pictures)
    return measured


def imputed_pictures(
    method: Method, model: Transformer, tokenizers: Mapping[str, Tokenizer], samples: Sequence[Sample], seed: int
) -> dict[str, np.ndarray]:
    """`imputed/text->image` and the like -> (H, W, 3) uint8, one for every modality that some samples hold beside others.

    Empty for methods that impute nothing, or by choosing among training samples.
    """
    if not isinstance(method, Imputing) or isinstance(method, Retrieving):
        return {}
    pictures = {}
    for want in method.layout.names:
        have = next((tuple(name for name in method.present(sample) if name != want) for sample in samples if _holds_more(sample, want)), ())
        chosen = [sample for sample in samples if have and {want, *have} <= sample.tokens.keys()][:COUNT]
        if chosen:
            generator = torch.Generator(device=model.head.device).manual_seed(seed)
            codes = method.impute(model, chosen, ImputationRequest(have, want), generator).codes
            pictures[f"imputed/{'+'.join(have)}->{want}"] = _sheet(tokenizers[want], [sample.tokens[want] for sample in chosen], codes)
    return pictures


def _holds_more(sample: Sample, name: str) -> bool:
    return name in sample.tokens and len(sample.tokens) > 1


def _sheet(tokenizer: Tokenizer, real: Sequence[np.ndarray], imputed: Sequence[np.ndarray]) -> np.ndarray:
    """Real values in the first line, below each the imputed one."""
    lines = list(tokenizer.decode(list(real))), list(tokenizer.decode(list(imputed)))
    draw = load(kind_named(tokenizer.kind).thumbnail)(tokenizer, lines[0], CELL)
    sheet = Image.new("RGB", (len(real) * (CELL[0] + GAP) - GAP, 2 * CELL[1] + GAP), "white")
    for down, values in enumerate(lines):
        for across, value in enumerate(values):
            sheet.paste(draw(value), (across * (CELL[0] + GAP), down * (CELL[1] + GAP)))
    return np.asarray(sheet)
