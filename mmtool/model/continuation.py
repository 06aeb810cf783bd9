"""The steps of generation: each feeds a token of every row and draws the next one.

N rows, P longest prompt, T steps, S cached length, W width of the target modality's range.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from mmtool.data.sequence import slots_and_positions
from mmtool.model.cache import KVCache
from mmtool.model.repeated import Repeated
from mmtool.model.sampling import Sampling, draw, expectation, flattened
from mmtool.model.transformer import Transformer

CHECK_EVERY = 8  # steps between looks at whether every row has ended (a look waits for the device)


class Continuation:
    """Rows that are continued by a segment of modality `index`, behind prompts (N, P) that are filled where `filled` is.

    With guidance the cache holds every row twice: with its prompt, and, behind all of these, unconditionally. Both are fed what is drawn.
    Rows that have ended leave the batch once they are a quarter of it. All that a step reads and writes, its number included, stays where
    it is in memory until the batch or the cache changes size, so that a GPU can repeat it (see `Repeated`).
    """

    def __init__(
        self, model: Transformer, cache: KVCache, filled_NP: Tensor, index: int, sampling: Sampling, generator: torch.Generator
    ) -> None:
        self.model, self.cache, self.sampling, self.generator = model, cache, sampling, generator
        self.index, self.modality = index, model.layout.modalities[index]
        device, longest, self.copies = filled_NP.device, self.modality.max_length, 2 if sampling.guidance else 1
        self.start, self.steps = filled_NP.shape[1], longest + (0 if self.modality.fixed_length else 1)
        arrays = slots_and_positions(model.layout, index, longest + 1)
        self.slot, self.position = (torch.from_numpy(array).to(device) for array in arrays)
        self.mask_NS, self.seen = F.pad(filled_NP, (0, longest + cache.growth)), 1.0
        if device.type == "cuda" and model.ordinal is None:  # as what is added to scores: every layer would make that of it
            self.mask_NS, self.seen = torch.zeros_like(self.mask_NS, dtype=model.compute_dtype).masked_fill(~self.mask_NS, -torch.inf), 0.0
        self.rows = torch.arange(len(filled_NP) // self.copies, device=device)
        self.token_N1 = torch.full((len(self.rows), 1), model.layout.open_id(index), device=device)
        self.number = torch.zeros(1, dtype=torch.long, device=device)
        self.values = self.missing = None
        if sampling.code_values is not None:
            values = torch.from_numpy(sampling.code_values.by_place()[: self.steps]).to(device)
            self.values = F.pad(values, (0, 0, 0, 0, 0, self.steps - len(values)), value=torch.nan)  # none at positions behind
            if sampling.code_values.exist is not None:
                self.missing = torch.from_numpy(~sampling.code_values.exist).to(device)
        self.drawn = self._nothing_drawn(device)
        self.results = tuple(part.clone() for part in self.drawn)

    def _nothing_drawn(self, device: torch.device) -> tuple[Tensor, ...]:
        """(N, T) local targets, their log-probabilities and, where asked for, (N, T, K) expectations."""
        codes = torch.zeros(len(self.rows), self.steps, dtype=torch.long, device=device)
        log_p = torch.zeros(codes.shape, device=device)
        return (codes, log_p) if self.values is None else (codes, log_p, self.values.new_zeros((*codes.shape, self.values.shape[1])))

    def run(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Draw until every row has ended: local targets (N, T), their log-probabilities and, where asked for, (N, W) expectations."""
        self.cache.most = self.start + self.steps
        self.cache.at(self.start, self.start + 1)
        step = Repeated(self._step, self.generator)
        for number in range(self.steps):
            if self.cache.reserve(self.start + number + 1):
                step = Repeated(self._step, self.generator)
            step()
            if self.modality.fixed_length or number % CHECK_EVERY < CHECK_EVERY - 1:
                continue
            going = torch.nonzero((self.drawn[0][:, : number + 1] > 0).all(1))[:, 0]
            if not len(going):
                break
            if len(going) <= 0.75 * len(self.rows):
                self._keep(going)
                step = Repeated(self._step, self.generator)
        self._store()
        codes, log_p, *expected = self.results
        return codes, log_p, flattened(expected[0], self.sampling.code_values) if self.sampling.code_values else None

    def _step(self) -> None:
        """Feed position t, draw position t + 1."""
        fed = self.token_N1.repeat(self.copies, 1)
        self.mask_NS.index_fill_(1, self.cache.cache_position, self.seen)
        slot_N1, position_N1A = self.slot[self.number].expand(len(fed), 1), self.position[self.number].expand(len(fed), 1, -1)
        mask = self.mask_NS[:, None, None, : self.cache.capacity]
        hidden = self.model(fed, torch.full_like(fed, self.index), slot_N1, position_N1A, mask, self.cache)
        conditional, *unconditional = self._allowed(self.model.logits(hidden[:, 0], self.index)).chunk(self.copies)
        local_N1 = draw(conditional, self.sampling, self.generator, *unconditional)[:, None]
        self._note(0, local_N1)
        self._note(1, torch.log_softmax(conditional, -1).gather(1, local_N1))
        if self.values is not None:
            self._note(2, expectation(conditional[:, 1:], self.values[self.number])[:, None])
        self.token_N1.copy_((local_N1 - 1).clamp(min=0) + self.model.layout.first_code(self.index))
        self.number += 1
        self.cache.cache_position += 1

    def _allowed(self, scores_NW: Tensor) -> Tensor:
        """No END where the length is fixed or nothing has been drawn yet, nothing but END behind the longest, and no code that does not
        exist at a position."""
        if self.modality.fixed_length:
            scores_NW[:, 0] = -torch.inf
        else:
            scores_NW[:, :1].masked_fill_(self.number == 0, -torch.inf)
            scores_NW[:, 1:].masked_fill_(self.number == self.modality.max_length, -torch.inf)
        if self.missing is not None:
            scores_NW[:, 1:].masked_fill_(self.missing[self.number], -torch.inf)
        return scores_NW

    def _note(self, what: int, drawn_N1: Tensor) -> None:
        self.drawn[what].index_copy_(1, self.number, drawn_N1)

    def _keep(self, going: Tensor) -> None:
        """Drop all other rows."""
        self._store()
        kept = torch.cat([going + copy * len(self.rows) for copy in range(self.copies)])
        self.drawn = tuple(part[going] for part in self.drawn)
        self.rows, self.token_N1, self.mask_NS = self.rows[going], self.token_N1[going], self.mask_NS[kept]
        self.cache.keep(kept)

    def _store(self) -> None:
        for result, drawn in zip(self.results, self.drawn, strict=True):
            result[self.rows] = drawn
