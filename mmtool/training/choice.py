"""Which method a training takes where none is named."""

import dataclasses
from collections.abc import Sequence
from itertools import combinations

from mmtool.common.log import log
from mmtool.data.graph import CoOccurrence
from mmtool.data.sample import Modality
from mmtool.training.config import PretrainConfig


def with_method(config: PretrainConfig, modalities: Sequence[Modality], graph: CoOccurrence) -> PretrainConfig:
    """The settings with the method that suits the data (see `choose_method`); says which one, and why."""
    name, reason = choose_method(modalities, graph)
    log(f"method: {name}, because {reason} (--method names another)")
    return dataclasses.replace(config, method=name)


def choose_method(modalities: Sequence[Modality], graph: CoOccurrence) -> tuple[str, str]:
    """(name, reason) of the method for training samples of these modalities, whose co-occurrence is `graph`.

    loretta where a modality links two that never occur together, else commutative; masked for a single modality; m3ae for patches, which
    no other method reads.
    """
    patches = [modality.name for modality in modalities if modality.continuous]
    if patches:
        return "m3ae", f"it alone reads patches, which {_listed(patches)} {'is' if len(patches) == 1 else 'are'} made of"
    names = [modality.name for modality in modalities]
    if len(names) == 1:
        return "masked", f"there is one modality, {names[0]}"
    bridged = [(path[0], path[1:-1], path[-1]) for a, b in combinations(names, 2) if (path := graph.path({a}, b)) and len(path) > 2]
    if bridged:
        start, links, end = bridged[0]
        return "loretta", f"{start} and {end} never occur together, but {_listed(links)} link{'s' if len(links) == 1 else ''} them"
    if graph.edges:
        return "commutative", "no modality links two that never occur together"
    return "commutative", f"{_listed(names)} never occur together, so none can be imputed from another"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
