"""samples.json: of every direction and run the samples that came out worst and best, with what was given, what is real and what was
imputed as pictures, sounds and texts.

{"format", "left_out": how many samples there was no room for, "samples": [{"run", "given", "target", "rank", "key", "class", "predicted",
"distance", "values": [{"title", and "text", "picture", "sound", "film" or a "note" on what is too long}]}]}; pictures, sounds and films are
data URIs, and the last value is the imputed one.
"""

import io
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmtool.common.seal import write_sealed
from mmtool.evaluation.figures.thumbnails import Thumbnails
from mmtool.evaluation.outcomes import Outcome
from mmtool.evaluation.page.embedding import data_uri
from mmtool.evaluation.ranked import Ranked
from mmtool.evaluation.reference.data import Reference
from mmtool.kinds import kind_named

SAMPLES, FORMAT = "samples.json", "mmtool-samples/1"
MAX_CHARACTERS = 2_000_000  # of pictures, sounds and texts
MAX_TEXT, MAX_PLAYED = 400, 150_000  # characters of a text, and of a sound or film as a data URI
CELL = (144, 108)
MAX_PNG_BYTES, JPEG_QUALITY = 4000, 85
PLAYED = {".wav": "sound", ".gif": "film"}


def write_ranked_samples(folder: Path, outcomes: Sequence[Outcome], reference: Reference) -> None:
    """The directions never seen together first, until there is no more room; nothing where no sample is ranked."""
    ordered = sorted(outcomes, key=lambda outcome: (outcome.seen, len(outcome.direction.given)))
    pairs = [(outcome, ranked) for outcome in ordered for ranked in outcome.ranked]
    views = Views(reference, {ranked.index for _, ranked in pairs})
    samples, free, left_out = list[dict[str, Any]](), MAX_CHARACTERS, 0
    for outcome, ranked in pairs:
        sample = views.sample(outcome, ranked) if free > 0 else None
        size = sum(len(text) for value in sample["values"] for text in value.values()) if sample else 0
        if sample and size <= free:
            samples.append(sample)
            free -= size
        else:
            left_out, free = left_out + 1, 0
    if samples or left_out:
        write_sealed(folder / SAMPLES, {"format": FORMAT, "left_out": left_out, "samples": samples})


class Views:
    """Values as a page shows them; those of one modality are drawn to the scale of the real ones of the samples `shown`."""

    def __init__(self, reference: Reference, shown: Collection[int]) -> None:
        self.reference = reference
        held = {name: sorted({*reference.test.having(name).tolist()} & {*shown}) for name in reference.tokenizers}
        real = {name: reference.test.values(name, indices) for name, indices in held.items()}
        self._drawers = {name: Thumbnails(tokenizer, real[name], CELL) for name, tokenizer in reference.tokenizers.items()}

    def sample(self, outcome: Outcome, ranked: Ranked) -> dict[str, Any]:
        """The record of one sample."""
        test, direction, index = self.reference.test, outcome.direction, ranked.index
        real = {name: test.values(name, [index])[0] for name in (*direction.given, direction.target)}
        titled = [*((f"given {name}", name, real[name]) for name in direction.given)]
        titled += [(f"real {direction.target}", direction.target, real[direction.target])]
        titled += [(f"imputed {direction.target}", direction.target, ranked.value)]
        return {
            "run": outcome.name,
            "given": list(direction.given),
            "target": direction.target,
            "rank": ranked.rank,
            "key": test.samples[index].key,
            "class": self.reference.class_of(index),
            "predicted": ranked.predicted,
            "distance": ranked.distance,
            "values": [{"title": title, **dict(self._views(name, value))} for title, name, value in titled],
        }

    def _views(self, name: str, value: Any) -> Iterator[tuple[str, str]]:
        """("picture", data URI) and the like."""
        tokenizer = self.reference.tokenizers[name]
        kind = kind_named(tokenizer.kind)
        if kind.is_text:
            text = str(value).encode("utf-8", "replace").decode()
            yield "text", text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
            return
        yield "picture", _picture(self._drawers[name](value))
        if kind.player:
            yield from _played(tokenizer, value)


def _picture(drawn: Image.Image) -> str:
    """Exact where that is small (drawings), else with losses that nobody sees (photographs, spectrograms)."""
    exact, lossy = io.BytesIO(), io.BytesIO()
    drawn.save(exact, "PNG", optimize=True)
    drawn.save(lossy, "JPEG", quality=JPEG_QUALITY)
    small = exact.tell() <= MAX_PNG_BYTES
    return data_uri(exact.getvalue(), ".png") if small else data_uri(lossy.getvalue(), ".jpg")


def _played(tokenizer: Any, value: Any) -> Iterator[tuple[str, str]]:
    """What the tokenizer writes of a value that is to be played, where browsers play it."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.write(value, Path(folder) / "value")
        for path in Path(folder).iterdir():
            if path.suffix in PLAYED:
                uri = data_uri(path.read_bytes(), path.suffix)
                yield (PLAYED[path.suffix], uri) if len(uri) <= MAX_PLAYED else ("note", "too long to be played here")
