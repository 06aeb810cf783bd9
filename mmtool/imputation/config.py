"""The settings of an imputation into files, light enough for the command line to import (no numpy)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mmtool.common.bounds import Bounds, Count, Seed
from mmtool.common.options import Option, check_bounds
from mmtool.imputation.sampling_params import PLAIN, SAMPLING, SamplingParams
from mmtool.preprocessing.readers.entries import READING

TableFormat = Literal["csv", "h5ad", "h5mu"]
REAL = "Real data"  # panel of the help


@dataclass(frozen=True)
class ImputeOptions:
    """What is imputed, from what, and how. Raises UsageError for numbers that are out of bounds."""

    have: Annotated[tuple[str, ...], Option(metavar="NAME", default="all a sample holds")] = ()
    """Given modalities; repeatable, or a,b."""
    want: Annotated[tuple[str, ...], Option(metavar="NAME", default="all a sample lacks")] = ()
    """Modalities to impute; repeatable, or a,b."""
    only_missing: Annotated[bool, Option()] = False
    """Only samples that lack the wanted modality."""
    limit: Annotated[Count | None, Option(panel=READING)] = None
    """At most so many samples."""
    draws: Annotated[Count, Option(panel=SAMPLING)] = 1
    """Draws per missing modality, the best first."""
    params: SamplingParams = PLAIN
    """How they are drawn."""
    consistency: Annotated[bool, Option("--confidence", panel=SAMPLING)] = True
    """Rank draws by how well they predict the given modalities."""
    chain: Annotated[bool, Option(panel=SAMPLING)] = False
    """Where given and wanted modalities never occurred together, draw first what links them, then from that alone what is wanted. It takes
    longer, and suits runs of methods that learn no such pairs, all but loretta."""
    calibration: Annotated[str | None, Option(metavar="REPORT", default="as drawn", panel=SAMPLING)] = None
    """Report of the run (`mmtool evaluate`): by its validation samples, bounds of tables are corrected, and everything else gets a
    probability of being right (--task confidence)."""
    donors: Sequence[Any] | None = None
    """Real samples; what is missing is imputed by data of the most probable ones (see `Imputer.choose`) instead of generated data."""
    max_donors: Annotated[int, Bounds(2), Option(panel=REAL)] = 1000
    """With --donors, at most so many of those that hold what is wanted, at random."""
    seed: Seed = 0
    """Of the draws."""
    format: TableFormat = "csv"
    """Of tables."""

    def __post_init__(self) -> None:
        check_bounds(self)
