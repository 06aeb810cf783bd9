"""The validation samples that calibrate runs: by which bounds of imputed tables are corrected, and which tell how probable draws are right.
They are as unknown to all that was trained as the test samples are.

A run that was stopped early was chosen by its loss on them. That is one choice among a few checkpoints, which moves errors of a value by
far less than samples differ; but samples that anything learned from are left out.
"""

from collections.abc import Sequence
from pathlib import Path

from mmtool.common.log import log
from mmtool.data.held_out import VALIDATION, open_validation
from mmtool.data.identity import TrainingItems
from mmtool.data.sample import SPLITS, Sample
from mmtool.data.shards import TokenSet
from mmtool.evaluation.config import EvaluationConfig
from mmtool.evaluation.leaks import Learner, without_leaks
from mmtool.evaluation.reference.data import draw_test, judged_rows
from mmtool.evaluation.tasks import ALL, CONFIDENCE, USUAL
from mmtool.evaluation.uncertainty import MIN_DRAWS

BOUNDS, PROBABILITIES = "bounds of imputed tables stay as drawn", "no probabilities of being right are fitted"


def calibrating_set(
    data: Path, test_set: TokenSet, test: Sequence[Sample], learners: Sequence[Learner], config: EvaluationConfig
) -> list[Sample]:
    """At most `config.limit` samples of the split `validation` beside or inside the held-out data, without those that any of the learners
    was trained on and those that are among the test samples. [] where no task asks for them, or where it is said why there are none."""
    lost = " and ".join(_asked(test_set, config))
    if not lost:
        return []
    validation = _validation_beside(data)
    if validation is None or not len(judged_rows(validation, config.complete)):
        log(f"{lost}: there are no validation samples beside the held-out ones to calibrate by")
        return []
    if validation.fingerprint == test_set.fingerprint:
        log(f"{lost}: they would be judged by the validation samples that they were calibrated by")
        return []
    if _tokenizers(validation) != _tokenizers(test_set):
        log(f"{lost}: other tokenizers made the validation samples beside the held-out ones")
        return []
    drawn = draw_test(validation, config.limit, config.seed, complete=config.complete)
    kept = without_leaks(drawn, [*learners, Learner("the test samples", TrainingItems.of(test), "")])
    if len(kept) < len(drawn):
        left_out = len(drawn) - len(kept)
        log(f"{left_out:,} of {len(drawn):,} validation samples calibrate nothing: they were trained on, or are test samples as well")
    return kept


def _asked(test_set: TokenSet, config: EvaluationConfig) -> list[str]:
    """What is lost without validation samples: see `uncertainty.py` and `probabilities.py`."""
    tasks, kinds = set(config.tasks or [USUAL]), {modality.kind for modality in test_set.modalities}
    bounds = bool(tasks & {USUAL, ALL}) and config.draws >= MIN_DRAWS and "table" in kinds
    probabilities = bool(tasks & {CONFIDENCE, ALL}) and kinds != {"table"}
    return [BOUNDS] * bounds + [PROBABILITIES] * probabilities


def _validation_beside(data: Path) -> TokenSet | None:
    """None where there is none."""
    if data.is_file():
        return open_validation(data)
    shards = data if any((data / split).is_dir() for split in SPLITS) else data.resolve().parent
    return open_validation(shards) if (shards / VALIDATION / "index.json").is_file() else None


def _tokenizers(tokens: TokenSet) -> dict[str, str]:
    return {modality.name: modality.tokenizer for modality in tokens.modalities}
