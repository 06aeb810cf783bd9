"""One random generator per sample at a fraction of what numpy asks for one: seeds are expanded together, and one generator is set anew.

`np.random.default_rng(seed)` takes as long as making the document of a short sample. `generators` gives the same numbers: the seeds go
through numpy's `SeedSequence` (O'Neill, https://www.pcg-random.org/posts/developing-a-seed_seq-alternative.html) as arrays, and what
comes out of it is set as the state of PCG64.
"""

from collections.abc import Iterator, Sequence

import numpy as np

POOL_WORDS = 4
INIT_A, MULT_A, INIT_B, MULT_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
MIX_L, MIX_R = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
SHIFT = np.uint32(16)
PCG_MULTIPLIER, MASK_128 = 0x2360ED051FC65DA44385DF649FCCF645, (1 << 128) - 1


def generators(seeds: Sequence[int]) -> Iterator[np.random.Generator]:
    """For each 64-bit seed a generator that gives the numbers of `np.random.default_rng(seed)`: always the same object, good until the
    next one is asked for."""
    bits = np.random.PCG64(0)
    generator = np.random.Generator(bits)
    for state, increment in zip(*_initial_states(np.array(seeds, np.uint64)), strict=True):
        bits.state = {"bit_generator": "PCG64", "state": {"state": state, "inc": increment}, "has_uint32": 0, "uinteger": 0}
        yield generator


def _initial_states(seeds: np.ndarray) -> tuple[list[int], list[int]]:
    """State and increment of PCG64 for each seed."""
    words = _expanded(seeds)
    high, low, stream_high, stream_low = ((words[2 * i] | words[2 * i + 1] << np.uint64(32)).tolist() for i in range(4))
    increments = [((a << 64 | b) << 1 | 1) & MASK_128 for a, b in zip(stream_high, stream_low, strict=True)]
    starts = zip(increments, high, low, strict=True)
    return [((inc + (a << 64 | b)) * PCG_MULTIPLIER + inc) & MASK_128 for inc, a, b in starts], increments


def _expanded(seeds: np.ndarray) -> np.ndarray:
    """(8, N) 32-bit words that `SeedSequence(seed)` generates for each of the (N,) seeds, as 64-bit numbers."""
    hashing = _Hash(INIT_A, MULT_A)
    zero = np.zeros(len(seeds), np.uint32)
    entropy = (seeds.astype(np.uint32), (seeds >> np.uint64(32)).astype(np.uint32), zero, zero)
    pool = [hashing(word) for word in entropy]
    for source in range(POOL_WORDS):
        for target in range(POOL_WORDS):
            if source != target:
                mixed: np.ndarray = MIX_L * pool[target] - MIX_R * hashing(pool[source])
                pool[target] = mixed ^ mixed >> SHIFT
    hashing = _Hash(INIT_B, MULT_B)
    return np.stack([hashing(pool[i % POOL_WORDS]) for i in range(8)]).astype(np.uint64)


class _Hash:
    """Hashes arrays of 32-bit words, each time with another constant."""

    def __init__(self, constant: int, factor: int) -> None:
        self._constant, self._factor = constant, factor

    def __call__(self, words: np.ndarray) -> np.ndarray:
        words = words ^ np.uint32(self._constant)
        self._constant = self._constant * self._factor & 0xFFFFFFFF
        words = words * np.uint32(self._constant)
        return words ^ words >> SHIFT
