"""The settings of an evaluation, light enough for the command line to import (no numpy).

`mmtool evaluate` and `mmtool compare` offer every field as an option (see `common/options.py`); in its help `{tasks}` stands for the names
of all tasks.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

from mmtool.common.bounds import Bounds, Count, Natural, Seed, Share
from mmtool.common.errors import UsageError
from mmtool.common.options import Option, assemble, check_bounds, settings_of
from mmtool.imputation.sampling_params import PLAIN, SAMPLING, SamplingParams

TABLES = "Tables"  # panel of the help


@dataclass(frozen=True)
class ImputeOptions:
    """Of the task `impute`."""

    chain: Annotated[tuple[str, ...], Option(metavar="RUN,...", default="none")] = ()
    """Runs, as named in the report, that also impute through the linking modality where modalities never co-occurred: the link is drawn
    first, the target from it. Repeatable."""


@dataclass(frozen=True)
class RetrievalOptions:
    """Of the task `retrieval`."""

    candidates: Annotated[int, Bounds(2), Option()] = 100
    """Samples among which retrieval looks for the right one."""


@dataclass(frozen=True)
class DonorOptions:
    """Of the task `donors`."""

    max_donors: Annotated[int, Bounds(2), Option()] = 256
    """Real samples, at random, that donors are chosen from."""


@dataclass(frozen=True)
class OodOptions:
    """Of the task `ood`."""

    samples: Annotated[str | None, Option("--ood", "SHARDS|LABEL=...", default="each class in turn")] = None
    """Out-of-distribution samples of the task ood: other data, or some classes."""


@dataclass(frozen=True)
class ReconstructOptions:
    """Of the task `reconstruct`."""

    mask_ratio: Annotated[Share | None, Option(default="as in training")] = None
    """Share of tokens that are masked and then reconstructed."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How runs are evaluated; what concerns a single task is in the field of the task's name.

    Raises UsageError for numbers that are out of bounds.
    """

    tasks: Annotated[tuple[str, ...], Option("--task", "NAME,...", default="impute; predict where runs are finetuned")] = ()
    """What to measure: {tasks}, or all. Repeatable."""
    label: Annotated[str | None, Option(default="the only one")] = None
    """Label that reference classifiers and probes predict."""
    limit: Annotated[Count | None, Option()] = 1000
    """Held-out samples used at most."""
    complete: Annotated[bool, Option("--complete")] = False
    """Use only held-out samples that hold every modality, so that all directions are of the same samples."""
    train_limit: Annotated[Count, Option()] = 2000
    """Training samples of each combination of modalities that probes, reference classifiers and baselines learn from."""
    contact_samples: Annotated[Natural, Option()] = 10
    """Samples of each direction to look at and listen to."""
    impute: ImputeOptions = field(default_factory=ImputeOptions)
    retrieval: RetrievalOptions = field(default_factory=RetrievalOptions)
    donors: DonorOptions = field(default_factory=DonorOptions)
    ood: OodOptions = field(default_factory=OodOptions)
    reconstruct: ReconstructOptions = field(default_factory=ReconstructOptions)
    survival: Annotated[tuple[str, str] | None, Option(metavar="TIME,EVENT", panel=TABLES)] = None
    """Labels of a survival time and its event (0, 1)."""
    strata: Annotated[str | None, Option(metavar="LABEL", panel=TABLES)] = None
    """Compare survival within the classes of this label as well (stratified concordance), and with what the label alone tells."""
    draws: Annotated[Count, Option(panel=SAMPLING)] = 1
    """Draws per missing modality."""
    params: SamplingParams = PLAIN
    """How they are drawn."""
    seed: Annotated[Seed, Option()] = 0
    """Same seed and same input give the same result."""

    def __post_init__(self) -> None:
        check_bounds(self)
        if self.strata and not self.survival:
            fix = "Name the labels of time and event with --survival, or leave --strata out."
            raise UsageError("strata are those of survival, which is not evaluated.", where="--strata", fix=fix)
        if self.survival and self.strata in self.survival:
            what = f"{self.strata} is what is to be told."
            raise UsageError(what, where="--strata", fix="Name a label that is known before, such as the type of a disease.")

    @classmethod
    def of(cls, **values: Any) -> "EvaluationConfig":
        """A config from the keys of its settings, those of single tasks beside the others: `EvaluationConfig.of(draws=8, candidates=40)`.

        Raises UsageError for a key that does not exist, and for numbers out of bounds.
        """
        return assemble(cls, values)


SETTINGS = tuple(settings_of(EvaluationConfig))
DEFAULTS = EvaluationConfig()
