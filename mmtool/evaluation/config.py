"""The settings of an evaluation, light enough for the command line to import (no numpy).

`mmtool evaluate` and `mmtool compare` offer every field as an option: the docstring under a field is the help of its option (in which
`{tasks}` stands for the names of all tasks), and `Option` holds what of an option does not follow from the field's name, type and default.
"""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

from mmtool.common.bounds import Bounds, Count, Natural, NotNegative, Seed, Share, check_range
from mmtool.common.errors import UsageError

if TYPE_CHECKING:
    from mmtool.imputation.sampling_params import SamplingParams

SAMPLING, TABLES = "Sampling", "Tables"  # panels of the help
ByModality = NotNegative | Mapping[str, NotNegative]  # of all modalities, or by name, where * stands for those not named


@dataclass(frozen=True)
class Option:
    """A field on the command line. flag: instead of `--field-name`. metavar: what its value looks like. default: what the help shows
    instead of the default. panel: of the help."""

    flag: str = ""
    metavar: str | None = None
    default: str | None = None
    panel: str | None = None


@dataclass(frozen=True)
class ImputeOptions:
    """Of the task `impute`."""

    chain: Annotated[tuple[str, ...], Option(metavar="RUN,...", default="none")] = ()
    """Runs, as named in the report, that also impute through the linking modality where modalities never co-occurred: the link is drawn
    first, the target from it. Repeatable."""


@dataclass(frozen=True)
class RetrievalOptions:
    """Of the task `retrieval`."""

    candidates: Annotated[int, Bounds(2)] = 100
    """Samples among which retrieval looks for the right one."""


@dataclass(frozen=True)
class DonorOptions:
    """Of the task `donors`."""

    max_donors: Annotated[int, Bounds(2)] = 256
    """Real samples, at random, that donors are chosen from."""


@dataclass(frozen=True)
class OodOptions:
    """Of the task `ood`."""

    samples: Annotated[str | None, Option("--ood", "SHARDS|LABEL=VALUE,...", default="each class in turn")] = None
    """Out-of-distribution samples of the task ood: other data, or some classes."""


@dataclass(frozen=True)
class ReconstructOptions:
    """Of the task `reconstruct`."""

    mask_ratio: Annotated[Share | None, Option(default="as in training")] = None
    """Share of tokens masked for reconstructions."""


@dataclass(frozen=True)
class EvaluationConfig:
    """How runs are evaluated; what concerns a single task is in the field of the task's name.

    Raises UsageError for numbers that are out of bounds.
    """

    tasks: Annotated[tuple[str, ...], Option("--task", "NAME,...", default="impute; predict where runs are finetuned")] = ()
    """What to measure: {tasks}, or all. Repeatable."""
    label: Annotated[str | None, Option(default="the only one")] = None
    """Label that reference classifiers and probes predict."""
    limit: Count | None = 1000
    """Held-out samples used at most."""
    train_limit: Count = 2000
    """Training samples of each combination of modalities that probes, reference classifiers and baselines learn from."""
    contact_samples: Natural = 10
    """Samples of each direction to look at and listen to."""
    impute: ImputeOptions = field(default_factory=ImputeOptions)
    retrieval: RetrievalOptions = field(default_factory=RetrievalOptions)
    donors: DonorOptions = field(default_factory=DonorOptions)
    ood: OodOptions = field(default_factory=OodOptions)
    reconstruct: ReconstructOptions = field(default_factory=ReconstructOptions)
    survival: Annotated[tuple[str, str] | None, Option(metavar="TIME,EVENT", panel=TABLES)] = None
    """Labels of a survival time and its event (0, 1)."""
    draws: Annotated[Count, Option(panel=SAMPLING)] = 1
    """Draws per missing modality."""
    temperature: Annotated[ByModality, Option(metavar="T|NAME=T,...", default="1", panel=SAMPLING)] = 1.0
    """Of the draws; 0: the most likely code. Of all modalities, of one, or both: 0.5,text=0.2."""
    top_k: Annotated[Count | None, Option(default="all", panel=SAMPLING)] = None
    """Draw from the k most likely codes."""
    guidance: Annotated[ByModality, Option(metavar="G|NAME=G,...", default="0", panel=SAMPLING)] = 0.0
    """Of the draws; 1: what the given modalities speak for counts twice. Fits better where the model knows, varies less (0 where bounds
    of tables matter), takes twice as long. By wanted modality as --temperature is."""
    seed: Seed = 0
    """Same seed and same input give the same result."""

    def __post_init__(self) -> None:
        for setting in SETTINGS:
            value = getattr(getattr(self, setting.task) if setting.task else self, setting.name)
            check_range(setting.name, value, setting.type_for(value), setting.flag)

    @classmethod
    def of(cls, **values: Any) -> "EvaluationConfig":
        """A config from the keys of its settings, those of single tasks beside the others: `EvaluationConfig.of(draws=8, candidates=40)`.

        Raises UsageError for a key that does not exist, and for numbers out of bounds.
        """
        grouped: dict[type, dict[str, Any]] = {}
        settings = {setting.key: setting for setting in SETTINGS}
        for key, value in values.items():
            if key not in settings:
                raise UsageError(f"there is no setting {key!r} of an evaluation.", fix=f"Settings: {', '.join(settings)}.")
            grouped.setdefault(settings[key].owner, {})[settings[key].name] = value
        owners = {setting.task: setting.owner for setting in SETTINGS if setting.task}
        options: dict[str, Any] = {task: owner(**grouped.get(owner, {})) for task, owner in owners.items()}
        return cls(**grouped.get(cls, {}), **options)

    @property
    def params(self) -> "SamplingParams":
        """How the draws are drawn."""
        from mmtool.imputation.sampling_params import SamplingParams

        return SamplingParams(self.temperature, self.top_k, self.guidance)


@dataclass(frozen=True)
class Setting:
    """A field of `owner`: `EvaluationConfig` itself (task: None), or the options of the task."""

    name: str
    default: Any
    types: tuple[Any, ...]
    option: Option
    owner: type
    task: str | None

    @property
    def flag(self) -> str:
        """As on the command line."""
        return self.option.flag or f"--{self.name.replace('_', '-')}"

    @property
    def key(self) -> str:
        """A name that no other setting has: of a setting of a task that of its option, else that of the field."""
        return self.flag.removeprefix("--").replace("-", "_") if self.task else self.name

    def type_for(self, value: Any) -> Any:
        """Of the types a field may have (None apart) the one with the bounds of this value."""
        return next((hint for hint in self.types if (get_origin(hint) is Mapping) == isinstance(value, Mapping)), self.types[0])


def settings_of(owner: type, task: str | None = None) -> Iterator[Setting]:
    """Every field of a dataclass in order, those of its nested dataclasses in their place."""
    hints = get_type_hints(owner, include_extras=True)
    for item in fields(owner):
        hint = hints[item.name]
        if is_dataclass(hint) and isinstance(hint, type):
            yield from settings_of(hint, item.name)
            continue
        option = next((extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, Option)), Option())
        assert item.default is not MISSING, f"{item.name} has no default"
        yield Setting(item.name, item.default, tuple(_types(hint)), option, owner, task)


def _types(hint: Any) -> Iterator[Any]:
    """The members of a union, annotated or not, without None; bounds stay with their member."""
    union = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(union) in (Union, UnionType):
        yield from (member for member in get_args(union) if member is not NoneType)
    else:
        yield hint


SETTINGS = tuple(settings_of(EvaluationConfig))
DEFAULTS = EvaluationConfig()
