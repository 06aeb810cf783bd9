"""Pictures of reconstructions: each held-out sample masked, as the run reconstructs it, and as it is; of texts the words.

Masked parts are grey. In a reconstructed text, pieces predicted right are green and wrong ones red.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mmtool.data.sample import Modality, Sample
from mmtool.evaluation.figures.thumbnails import Thumbnails, font
from mmtool.imputation.imputer import Imputer
from mmtool.kinds import kind_named
from mmtool.tokenizers.base import Tokenizer

CELL, GAP, TEXT_WIDTH, LABEL, MARGIN, BANNER, HEADER = 132, 6, 470, 92, 26, 78, 30
PAPER, INK, SOFT, MASK, RIGHT, WRONG, LINE = "#ffffff", "#0f172a", "#64748b", "#cbd5e1", "#15803d", "#dc2626", "#e2e8f0"
POINTS, STEP, MASK_WIDTH = 15, 20, 26
STAGES = ("masked", "reconstructed", "original")
Words = list[tuple[str, str | None]]  # text and its colour; None: masked


def draw_sheet(
    title: str,
    imputer: Imputer,
    samples: Sequence[Sample],
    masks: Sequence[Mapping[str, np.ndarray]],
    predicted: Sequence[Mapping[str, np.ndarray]],
) -> Image.Image:
    """One line per sample; modalities side by side in the order of the run."""
    modalities = [modality for modality in imputer.modalities if any(modality.name in sample.tokens for sample in samples)]
    widths = [TEXT_WIDTH + LABEL if kind_named(modality.kind).is_text else 3 * (CELL + GAP) for modality in modalities]
    size = (2 * MARGIN + sum(widths) + MARGIN * (len(widths) - 1), BANNER + HEADER + len(samples) * (CELL + 2 * GAP) + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    _banner(sheet, title, masks)
    left = MARGIN
    for modality, width in zip(modalities, widths, strict=True):
        _column_title(sheet, left, modality)
        columns = [sample.tokens.get(modality.name) for sample in samples]
        draw = _texts if kind_named(modality.kind).is_text else _pictures
        cells = draw(imputer.tokenizers[modality.name], modality, columns, [mask.get(modality.name) for mask in masks], predicted)
        for line, cell in enumerate(cells):
            if cell is not None:
                sheet.paste(cell, (left, BANNER + HEADER + line * (CELL + 2 * GAP)))
        left += width + MARGIN
    return sheet


def _banner(sheet: Image.Image, title: str, masks: Sequence[Mapping[str, np.ndarray]]) -> None:
    draw = ImageDraw.Draw(sheet)
    names = dict.fromkeys(name for mask in masks for name in mask)
    ratios = {name: np.concatenate([mask[name] for mask in masks if name in mask]).mean() for name in names}
    listed = ", ".join(f"{ratio:.0%} of {name}" for name, ratio in ratios.items())
    draw.text((MARGIN, 18), f"Reconstructions by {title}", font=font(24, bold=True), fill=INK)
    draw.text((MARGIN, 52), f"masked: {listed}", font=font(14), fill=SOFT)


def _column_title(sheet: Image.Image, left: int, modality: Modality) -> None:
    draw = ImageDraw.Draw(sheet)
    if kind_named(modality.kind).is_text:
        draw.text((left, BANNER + 4), modality.name, font=font(14, bold=True), fill=INK)
        return
    for place, stage in enumerate(STAGES):
        centre = left + place * (CELL + GAP) + CELL // 2
        draw.text(
            (centre, BANNER + 12), f"{modality.name}, {stage}" if not place else stage, font=font(13, bold=not place), fill=INK, anchor="mm"
        )


def _pictures(
    tokenizer: Tokenizer,
    modality: Modality,
    columns: Sequence[np.ndarray | None],
    masks: Sequence[np.ndarray | None],
    predicted: Sequence[Mapping[str, np.ndarray]],
) -> Iterator[Image.Image | None]:
    """Three thumbnails side by side of each sample that has the modality."""
    tokens = {i: column for i, column in enumerate(columns) if column is not None}
    held = list(tokens)
    real = dict(zip(held, tokenizer.decode(list(tokens.values())), strict=True))
    reconstructed = dict(zip(held, tokenizer.decode([predicted[i][modality.name] for i in held]), strict=True))
    draw = Thumbnails(tokenizer, list(real.values()), (CELL, CELL))
    for i, mask in enumerate(masks):
        if i not in real or mask is None:
            yield None
            continue
        strip = Image.new("RGB", (3 * (CELL + GAP), CELL), PAPER)
        stages: list[Any] = [_with_mask(draw(real[i]), modality, mask, real[i]), draw(reconstructed[i]), draw(real[i])]
        for place, picture in enumerate(stages):
            strip.paste(picture, (place * (CELL + GAP), 0))
        yield strip


def _with_mask(picture: Image.Image, modality: Modality, mask: np.ndarray, value: Any) -> Image.Image:
    """Grey where tokens are masked: cells of a grid, else stretches from left to right."""
    picture = picture.copy()
    draw = ImageDraw.Draw(picture)
    grid = modality.grid if len(modality.grid) == 2 else (1, len(mask))
    left, top, right, bottom = _extent(picture, value) if modality.kind == "image" else (0, 0, picture.width, picture.height)
    for place in np.flatnonzero(mask):
        line, column = divmod(int(place), grid[1])
        box = (
            round(left + (right - left) * column / grid[1]),
            round(top + (bottom - top) * line / grid[0]),
            round(left + (right - left) * (column + 1) / grid[1]) - 1,
            round(top + (bottom - top) * (line + 1) / grid[0]) - 1,
        )
        draw.rectangle(box, fill=MASK)
    return picture


def _extent(picture: Image.Image, value: np.ndarray) -> tuple[int, int, int, int]:
    """Where in its thumbnail an image lies (see `Thumbnails`)."""
    height, width = value.shape[:2]
    room = min(picture.width / width, picture.height / height)
    scale = np.floor(room) if room >= 1 else room
    wide, high = max(1, int(width * scale)), max(1, int(height * scale))
    left, top = (picture.width - wide) // 2, (picture.height - high) // 2
    return left, top, left + wide, top + high


def _texts(
    tokenizer: Tokenizer,
    modality: Modality,
    columns: Sequence[np.ndarray | None],
    masks: Sequence[np.ndarray | None],
    predicted: Sequence[Mapping[str, np.ndarray]],
) -> Iterator[Image.Image | None]:
    """Masked, reconstructed and true words below each other, of each sample that has the modality."""
    for i, (tokens, mask) in enumerate(zip(columns, masks, strict=True)):
        if tokens is None or mask is None:
            yield None
            continue
        codes = predicted[i][modality.name]
        colours = [INK if not masked else RIGHT if right else WRONG for masked, right in zip(mask, codes == tokens, strict=True)]
        stages: list[Words] = [
            [(text, None if masked else INK) for text, masked in zip(pieces(tokenizer, tokens), mask, strict=True)],
            list(zip(pieces(tokenizer, codes), colours, strict=True)),
            [(text, SOFT) for text in pieces(tokenizer, tokens)],
        ]
        yield _text_cell(stages)


def pieces(tokenizer: Tokenizer, codes: np.ndarray) -> list[str]:
    """The text of each code; bytes that are part of a character show as a replacement character, line breaks as ↵."""
    return [text.replace("\n", "↵") for text in tokenizer.decode([codes[i : i + 1] for i in range(len(codes))])]


def _text_cell(stages: Sequence[Words]) -> Image.Image:
    cell = Image.new("RGB", (TEXT_WIDTH + LABEL, CELL), PAPER)
    draw = ImageDraw.Draw(cell)
    top, room = 2, CELL // len(stages)
    for stage, words in zip(STAGES, stages, strict=True):
        draw.text((0, top + 2), stage, font=font(11), fill=SOFT)
        _write(draw, LABEL, top, words, room // STEP)
        top += room
    draw.line((0, CELL - 1, TEXT_WIDTH + LABEL, CELL - 1), fill=LINE)
    return cell


def _write(draw: ImageDraw.ImageDraw, left: int, top: int, words: Words, max_lines: int) -> None:
    """Pieces one after the other, each in its colour, over at most `max_lines` lines."""
    face, x, line = font(POINTS), left, 0
    for text, colour in words:
        width = MASK_WIDTH if colour is None else math.ceil(face.getlength(text))
        if x + width > left + TEXT_WIDTH:
            x, line = left, line + 1
            if line >= max(1, max_lines):
                draw.text((x + TEXT_WIDTH - 14, top + (line - 1) * STEP), "…", font=face, fill=SOFT)
                return
        if colour is None:
            draw.rounded_rectangle((x + 1, top + line * STEP + 2, x + width - 2, top + line * STEP + 17), radius=4, fill=MASK)
        else:
            draw.text((x, top + line * STEP), text, font=face, fill=colour)
        x += width
