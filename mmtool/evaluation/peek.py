"""Samples of a token set to look at, to listen to and to read, before anything is trained on them.

OUT/sheet.png            a row for each sample, a column for each modality, decoded from its tokens; absence is declared there, too
OUT/00/image.png ...     the values of each sample as files
OUT/peek.json            format, keys, splits, labels, files
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mmtool.common.bounds import Count, check_range
from mmtool.common.lock import locked
from mmtool.common.output import OutputPath
from mmtool.common.seal import write_sealed
from mmtool.common.storage import atomic_file
from mmtool.data.sample import Sample
from mmtool.data.shards import TokenSet, open_token_set
from mmtool.evaluation.figures.thumbnails import FAINT, INK, PAPER, Thumbnails, font, wrap
from mmtool.tokenizers.base import RowWriter, Tokenizer, from_bytes

PEEK, PEEK_FORMAT, SHEET = "peek.json", "mmtool-peek/1", "sheet.png"
CELL, GAP, MARGIN, NAMES, HEADER = (190, 132), 8, 24, 230, 40
SOFT, LINE = "#64748b", 17
NOTHING = "nothing"  # the combination of samples without any modality


@dataclass(frozen=True)
class PeekSummary:
    """output: the folder; samples: how many it shows; combinations: present modalities ("image + text") -> samples of the whole set."""

    output: str
    samples: int
    combinations: dict[str, int] = field(default_factory=dict)


def peek(
    data: Path | None, output: Path, *, split: str | None = None, samples: int = 12, seed: int = 0, force: bool = False
) -> PeekSummary:
    """Write some samples of a token set as files and as one picture; data: None is standard input.

    Every combination of modalities is shown in turn, its samples drawn by the seed. Raises DataError for a set that cannot be read,
    UsageError for an output that may not be written.
    """
    check_range("samples", samples, Count, "--samples")
    place = OutputPath(output, force, [data])
    with locked(output):
        place.check_directory()
        tokens = open_token_set(data, split)
        chosen = [tokens[number] for number in choose(tokens, samples, seed)]
        tokenizers = {modality.name: from_bytes(tokens.tokenizers[modality.name]) for modality in tokens.modalities}
        with place.directory() as folder:
            values = [_decoded(sample, tokenizers) for sample in chosen]
            _draw_sheet(folder / SHEET, chosen, values, tokenizers)
            records = [_write(folder, number, *pair, tokenizers) for number, pair in enumerate(zip(chosen, values, strict=True))]
            files = [SHEET, *(name for record in records for name in record["files"])]
            write_sealed(folder / PEEK, {"format": PEEK_FORMAT, "samples": records, "files": files})
    combinations = Counter(_combination(tokens.present(number)) for number in range(len(tokens)))
    return PeekSummary(str(output), len(chosen), dict(combinations.most_common()))


def choose(tokens: TokenSet, count: int, seed: int) -> list[int]:
    """Numbers of at most so many samples: combinations of modalities in turn, the commonest first, a random sample of each."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number in np.random.default_rng(seed).permutation(len(tokens)).tolist():
        groups.setdefault(tokens.present(number), []).append(number)
    order = sorted(groups, key=lambda names: (-len(groups[names]), names))
    rounds = range(max(map(len, groups.values())))
    return [groups[names][place] for place in rounds for names in order if place < len(groups[names])][:count]


def _combination(names: Sequence[str]) -> str:
    return " + ".join(names) or NOTHING


def _decoded(sample: Sample, tokenizers: dict[str, Tokenizer]) -> dict[str, Any]:
    return {name: tokenizer.decode([sample.tokens[name]])[0] for name, tokenizer in tokenizers.items() if name in sample.tokens}


def _write(folder: Path, number: int, sample: Sample, values: dict[str, Any], tokenizers: dict[str, Tokenizer]) -> dict[str, Any]:
    """The values of a sample as files, and the record of it."""
    home = folder / f"{number:02d}"
    home.mkdir()
    written = [_write_value(tokenizers[name], value, sample.key, home / name) for name, value in values.items()]
    files = [path.relative_to(folder).as_posix() for path in written]
    return {"number": number, "key": sample.key, "split": sample.split, "labels": sample.labels, "files": files}


def _write_value(tokenizer: Tokenizer, value: Any, key: str, stem: Path) -> Path:
    """A value as a file beside `stem`; in a row of a table, the key of the sample."""
    if isinstance(tokenizer, RowWriter):
        return tokenizer.write_rows([key], [value], stem.with_name(f"{stem.name}.csv"))
    return tokenizer.write(value, stem)


def _draw_sheet(path: Path, samples: Sequence[Sample], values: Sequence[dict[str, Any]], tokenizers: dict[str, Tokenizer]) -> None:
    drawers = {name: Thumbnails(form, [value[name] for value in values if name in value], CELL) for name, form in tokenizers.items()}
    width, height = NAMES + len(tokenizers) * (CELL[0] + GAP), HEADER + len(samples) * (CELL[1] + GAP)
    sheet = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, (name, form) in enumerate(tokenizers.items()):
        centre = MARGIN + NAMES + column * (CELL[0] + GAP) + CELL[0] // 2
        title = name if name == form.kind else f"{name} ({form.kind})"
        draw.text(
            (centre, MARGIN + HEADER // 2), wrap(title, font(15, bold=True), CELL[0])[0], font=font(15, bold=True), fill=INK, anchor="mm"
        )
    for row, (sample, of_sample) in enumerate(zip(samples, values, strict=True)):
        top = MARGIN + HEADER + row * (CELL[1] + GAP)
        _draw_name(draw, top, row, sample)
        for column, name in enumerate(tokenizers):
            left = MARGIN + NAMES + column * (CELL[0] + GAP)
            if name in of_sample:
                sheet.paste(drawers[name](of_sample[name]), (left, top))
            else:
                draw.text((left + CELL[0] // 2, top + CELL[1] // 2), "absent", font=font(14), fill=SOFT, anchor="mm")
            draw.rectangle((left, top, left + CELL[0] - 1, top + CELL[1] - 1), outline=FAINT)
    with atomic_file(path, force=True) as file:
        sheet.save(file, "PNG", optimize=True)


def _draw_name(draw: ImageDraw.ImageDraw, top: int, number: int, sample: Sample) -> None:
    """Number, key, split and labels of a sample, as far as they fit."""
    width, max_lines = NAMES - 16, CELL[1] // LINE
    lines = [(line, font(13, bold=True), INK) for line in wrap(f"{number:02d}  {sample.key}", font(13, bold=True), width)[:3]]
    notes = [sample.split or "", *(f"{name}: {label}" for name, label in sample.labels.items())]
    lines += [(line, font(12), SOFT) for note in notes if note for line in wrap(note, font(12), width)[:2]]
    for place, (line, face, colour) in enumerate(lines[:max_lines]):
        draw.text((MARGIN, top + place * LINE), line, font=face, fill=colour)
