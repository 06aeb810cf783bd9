"""The weights of a transformer in another one, whose layout holds the same modalities and perhaps more.

Rows of a table belong to ids, modalities, slots or positions of a layout: those of a modality are looked up by its name. What the new
layout adds keeps the weights that it has.
"""

import re
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from mmtool.common.errors import UsageError
from mmtool.data.layout import NUM_SENTINELS, VocabularyLayout
from mmtool.data.sequence import slot_start
from mmtool.model.bridge import position_starts
from mmtool.model.transformer import Transformer

Block = tuple[int, int, int]  # first row in the old table, first row in the new one, number of rows
Axis = Callable[[VocabularyLayout, VocabularyLayout], Iterator[Block]]
HEAD = "task_head."  # of a finetuned run, which the new one does not have
OF_MODALITIES = ("ordinal.", "patches.", "patch_heads.", "length_heads.")  # parts that come with a modality of their kind
NUMBERED = re.compile(r"(patches\.linears\.m|patches\.mean|patches\.scale|patch_heads\.m|length_heads\.m)(\d+)(.*)")


def shared(old: VocabularyLayout, new: VocabularyLayout) -> Iterator[tuple[int, int]]:
    """Indices of every modality of the old layout, in both."""
    return ((index, new.index(name)) for index, name in enumerate(old.names))


def _ids(old: VocabularyLayout, new: VocabularyLayout) -> Iterator[Block]:
    yield 0, 0, 1 + NUM_SENTINELS
    for a, b in shared(old, new):
        yield old.open_id(a), new.open_id(b), 2 + old.modalities[a].vocabulary_size


def _kinds(old: VocabularyLayout, new: VocabularyLayout) -> Iterator[Block]:
    yield from ((a, b, 1) for a, b in shared(old, new))
    yield len(old.names), len(new.names), 1  # CLS, in tables that have a row of it


def _slots(old: VocabularyLayout, new: VocabularyLayout) -> Iterator[Block]:
    yield 0, 0, 1
    for a, b in shared(old, new):
        if old.modalities[a].fixed_length:
            yield slot_start(old, a), slot_start(new, b), old.modalities[a].max_length + 1


def _positions(old: VocabularyLayout, new: VocabularyLayout) -> Iterator[Block]:
    yield 0, 0, 1
    before, after = position_starts(old), position_starts(new)
    yield from ((before[a], after[b], old.modalities[a].max_length + 1) for a, b in shared(old, new) if a in before)


TABLES: dict[str, tuple[Axis, ...]] = {
    "token_embedding.weight": (_ids,),
    "head": (_ids,),
    "modality_embedding.weight": (_kinds,),
    "slot_embedding.weight": (_slots,),
    "ordinal.values_in_embedding": (_slots,),
    "ordinal.values_out_embedding": (_slots,),
    "ordinal.bridge.weights_embedding": (_positions, _positions),
    "mask_embedding.weight": (_kinds,),
    "decoder_type_embedding.weight": (_kinds,),
    "decoder_slot_embedding.weight": (_slots,),
}


def transfer(weights: Mapping[str, Tensor], old: VocabularyLayout, model: Transformer, method: str) -> None:
    """Put weights of a transformer with the layout `old` into the model, which holds its modalities. method: that trained them.

    Raises UsageError where the model has no place for some of them, or parts that are no modality's and that the weights lack.
    """
    state = {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}
    names = {_renamed(name, old, model.layout): name for name in weights if not name.startswith(HEAD)}
    lacking = [name for name in state if name not in names and not name.startswith((HEAD, *OF_MODALITIES))]
    if spare := sorted({*names} - {*state}) or lacking:
        fix = f"Train with the method of that run (--method {method}), or one that is built alike."
        raise UsageError(f"the two models are built differently: only one has {spare[0]!r}.", where="--init-from", fix=fix)
    for name, source in names.items():
        _copy(weights[source], state[name], name, old, model.layout)
    model.load_state_dict(state)


def _copy(tensor: Tensor, place: Tensor, name: str, old: VocabularyLayout, new: VocabularyLayout) -> None:
    if name.startswith("length_heads."):  # a score for every length up to the longest
        longest = min(len(tensor), len(place))
        place[:longest] = tensor[:longest]
        return
    if name not in TABLES:
        if tensor.shape != place.shape:
            what = f"{name!r} is {tuple(tensor.shape)} in that run and {tuple(place.shape)} in this one."
            raise UsageError(what, where="--init-from", fix="Give the method the settings that it had there.")
        place.copy_(tensor)
        return
    rows = [_rows(axis(old, new), length) for axis, length in zip(TABLES[name], tensor.shape, strict=False)]
    before, after = (torch.meshgrid(*(pair[i] for pair in rows), indexing="ij") for i in (0, 1))
    place[after] = tensor[before]


def _rows(blocks: Iterator[Block], length: int) -> tuple[Tensor, Tensor]:
    """Rows of the old table, which has `length` of them, and where they go in the new one."""
    kept = [block for block in blocks if block[0] < length]
    return tuple(torch.cat([torch.arange(block[i], block[i] + block[2]) for block in kept]) for i in (0, 1))  # type: ignore[return-value]


def _renamed(name: str, old: VocabularyLayout, new: VocabularyLayout) -> str:
    """Of a part that belongs to one modality, whose index is in its name."""
    match = NUMBERED.fullmatch(name)
    return name if match is None else f"{match[1]}{dict(shared(old, new))[int(match[2])]}{match[3]}"
