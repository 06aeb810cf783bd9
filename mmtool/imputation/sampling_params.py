"""How modalities are drawn, all of them or by name: what users ask for with --temperature, --top-k and --guidance."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from mmtool.common.bounds import Count, NotNegative
from mmtool.common.errors import UsageError
from mmtool.common.options import Option

if TYPE_CHECKING:
    from mmtool.model.sampling import Sampling
    from mmtool.tokenizers.code_values import CodeValues

SAMPLING = "Sampling"  # panel of the help
ByModality = NotNegative | Mapping[str, NotNegative]  # of all modalities, or by modality, where OTHERS stands for those not named
OTHERS = "*"


@dataclass(frozen=True)
class SamplingParams:
    """What `Sampling` says of one wanted modality, here of all, or by name."""

    temperature: Annotated[ByModality, Option(metavar="T|NAME=T,...", default="1", panel=SAMPLING)] = 1.0
    """Of the draws; 0: the most likely code. Of all modalities, of one, or both: 0.5,text=0.2."""
    top_k: Annotated[Count | None, Option(default="all", panel=SAMPLING)] = None
    """Draw from the k most likely codes."""
    guidance: Annotated[ByModality, Option(metavar="G|NAME=G,...", default="0", panel=SAMPLING)] = 0.0
    """How much more the evidence of the given modalities counts; 1: twice. Draws fit better where the model knows and vary less (0 where
    bounds of tables matter), and take twice as long. For all wanted modalities or by name, as --temperature."""

    def of(self, name: str, code_values: "CodeValues | None" = None) -> "Sampling":
        """How modality `name` is drawn."""
        from mmtool.model.sampling import Sampling

        return Sampling(_setting(self.temperature, name, 1.0), self.top_k, _setting(self.guidance, name, 0.0), code_values)

    def check(self, names: Iterable[str]) -> None:
        """Raise UsageError where something is said of a modality that is not among `names`, or is not a number of 0 or more."""
        known = sorted(names)
        for option, asked in (("--temperature", self.temperature), ("--guidance", self.guidance)):
            values = asked if isinstance(asked, Mapping) else {OTHERS: asked}
            unknown = sorted(set(values) - {OTHERS, *known})
            if unknown:
                raise UsageError(f"there is no modality {unknown[0]!r}.", where=option, fix=f"There are {', '.join(known)}.")
            wrong = [value for value in values.values() if not 0 <= value < math.inf]
            if wrong:
                raise UsageError(f"{wrong[0]} is not a number of 0 or more.", where=option, fix="Give 0 or more.")


PLAIN = SamplingParams()


def _setting(asked: ByModality, name: str, usual: float) -> float:
    return asked.get(name, asked.get(OTHERS, usual)) if isinstance(asked, Mapping) else asked
