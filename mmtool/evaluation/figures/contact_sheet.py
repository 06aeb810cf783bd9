"""One picture of everything: what was given, what is true, what every method imputed, framed by the class that the reference
classifier predicts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from mmtool.common.storage import atomic_file
from mmtool.evaluation.directions import Direction
from mmtool.evaluation.figures.thumbnails import Thumbnails, font, wrap
from mmtool.evaluation.outcomes import MARGINAL, Outcome
from mmtool.evaluation.reference.data import Reference

CELL, GAP, GUTTER, TITLE, HEADER, MARGIN, BANNER = (104, 76), 5, 132, 38, 24, 28, 84
NAME_SIZES, TAG_SIZES = (15, 12, 10), (12, 10, 9)  # of the type for the names of classes
SUMMARY_SIZES = (14, 13, 12, 11, 10)  # of the type for how good each method is
COLUMNS_OF_BLOCKS, MAX_BLOCKS = 2, 40
RIGHT, WRONG, PLAIN = "#16a34a", "#dc2626", "#cbd5e1"
PAPER, INK, SOFT, NEVER, SEEN = "#ffffff", "#0f172a", "#64748b", "#4338ca", "#94a3b8"


@dataclass(frozen=True)
class Strip:
    """One row of a block: the same thing for every sample. values: None leaves a cell empty; predicted: classes
    by the reference classifier, None where real."""

    title: str
    modality: str
    values: list[Any]
    predicted: list[str | None] | None = None


@dataclass(frozen=True)
class Block:
    """One direction: samples side by side, strips below each other. classes: the true ones, per sample."""

    direction: Direction
    seen: bool
    summary: str
    keys: list[str]
    classes: list[str | None]
    strips: list[Strip]


def blocks_of(outcomes: Sequence[Outcome], reference: Reference) -> list[Block]:
    """Directions in their order, the never seen ones of each size first, and no more than a picture can hold."""
    grouped: dict[Direction, list[Outcome]] = {}
    for outcome in outcomes:
        grouped.setdefault(outcome.direction, []).append(outcome)
    blocks = [_block(direction, group, reference) for direction, group in grouped.items()]
    return sorted((block for block in blocks if block.keys), key=lambda block: (len(block.direction.given), block.seen))[:MAX_BLOCKS]


def draw_contact_sheet(path: Path, blocks: Sequence[Block], reference: Reference) -> None:
    """Write the sheet as PNG."""
    drawers = {name: Thumbnails(tokenizer, _samples_of(blocks, name), CELL) for name, tokenizer in reference.tokenizers.items()}
    width = GUTTER + max(len(block.keys) for block in blocks) * (CELL[0] + GAP)
    columns = min(COLUMNS_OF_BLOCKS, len(blocks))
    rows = [blocks[start : start + columns] for start in range(0, len(blocks), columns)]
    heights = [max(_height(block) for block in row) + MARGIN for row in rows]
    sheet = Image.new("RGB", (columns * (width + MARGIN) + MARGIN, BANNER + sum(heights)), PAPER)
    _banner(sheet, reference.label)
    top = BANNER
    for row, height in zip(rows, heights, strict=True):
        for place, block in enumerate(row):
            _draw_block(sheet, MARGIN + place * (width + MARGIN), top, block, drawers)
        top += height
    with atomic_file(path, force=True) as file:
        sheet.save(file, "PNG", optimize=True)


def _block(direction: Direction, group: Sequence[Outcome], reference: Reference) -> Block:
    indices = list(group[0].shown)
    given = [Strip(f"given {name}", name, reference.test.values(name, indices)) for name in direction.given]
    have = set(reference.test.having(direction.target).tolist())
    real = [reference.test.values(direction.target, [i])[0] if i in have else None for i in indices]
    strips = [*given, Strip(f"real {direction.target}", direction.target, real)]
    for outcome in group:
        if outcome.name != MARGINAL and outcome.shown:
            values, predicted = zip(*(outcome.shown[i] for i in indices), strict=True) if indices else ((), ())
            strips.append(Strip(outcome.name, direction.target, list(values), list(predicted)))
    keys = [reference.test.samples[i].key for i in indices]
    seen = all(outcome.seen for outcome in group)
    return Block(direction, seen, _summary(group), keys, [reference.class_of(i) for i in indices], strips)


def _summary(group: Sequence[Outcome]) -> str:
    """How good each method is here: by classes where there are any, else by R2."""
    models = [outcome for outcome in group if outcome.name != MARGINAL]
    shares = [f"{outcome.name} {outcome.estimates['accuracy'].value:.0%}" for outcome in models if "accuracy" in outcome.estimates]
    fits = [f"{outcome.name} R² {outcome.estimates['r2'].value:.2f}" for outcome in models if "r2" in outcome.estimates]
    return "   ".join(shares or fits)


def _samples_of(blocks: Sequence[Block], name: str) -> list[Any]:
    """The real values on the sheet, by which scales are set."""
    real = [strip for block in blocks for strip in block.strips if strip.modality == name and strip.predicted is None]
    return [value for strip in real for value in strip.values if value is not None]


def _height(block: Block) -> int:
    return TITLE + (HEADER if any(block.classes) else 0) + len(block.strips) * (CELL[1] + GAP)


def _banner(sheet: Image.Image, label: str | None) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, 20), "Given, real and imputed", font=font(26, bold=True), fill=INK)
    left = MARGIN + 390
    if label:
        for colour, text in ((RIGHT, f"classified as the right {label}"), (WRONG, "classified as another one (named in the corner)")):
            draw.rectangle((left, 27, left + 26, 45), outline=colour, width=4)
            draw.text((left + 36, 36), text, font=font(15), fill=INK, anchor="lm")
            left += 70 + int(font(15).getlength(text))


def _draw_block(sheet: Image.Image, left: int, top: int, block: Block, drawers: dict[str, Thumbnails]) -> None:
    draw = ImageDraw.Draw(sheet)
    _title(draw, left, top, block)
    top += TITLE
    if any(block.classes):
        for place, name in enumerate(block.classes):
            centre = left + GUTTER + place * (CELL[0] + GAP) + CELL[0] // 2
            _name(draw, centre, top + HEADER // 2, name or "?", NAME_SIZES, CELL[0], INK)
        top += HEADER
    for strip in block.strips:
        _draw_strip(sheet, left, top, strip, block.classes, drawers[strip.modality])
        top += CELL[1] + GAP


def _title(draw: ImageDraw.ImageDraw, left: int, top: int, block: Block) -> None:
    """The direction, whether it was seen, and how often each method is right."""
    name, tag, colour = str(block.direction), "seen together" if block.seen else "NEVER SEEN TOGETHER", SEEN if block.seen else NEVER
    right = left + GUTTER + len(block.keys) * (CELL[0] + GAP) - GAP
    draw.line((left, top, right, top), fill=colour, width=3)
    draw.text((left, top + 20), name, font=font(18, bold=True), fill=INK, anchor="lm")
    start = left + int(font(18, bold=True).getlength(name)) + 16
    width = int(font(12, bold=True).getlength(tag)) + 16
    draw.rounded_rectangle((start, top + 10, start + width, top + 31), radius=10, fill=colour)
    draw.text((start + width / 2, top + 20), tag, font=font(12, bold=True), fill=PAPER, anchor="mm")
    start += width + 18
    points = next((size for size in SUMMARY_SIZES if font(size).getlength(block.summary) <= right - start), SUMMARY_SIZES[-1])
    draw.text((start, top + 20), block.summary, font=font(points), fill=SOFT, anchor="lm")


def _draw_strip(sheet: Image.Image, left: int, top: int, strip: Strip, classes: Sequence[str | None], drawer: Thumbnails) -> None:
    draw = ImageDraw.Draw(sheet)
    imputed = strip.predicted is not None
    lines = wrap(strip.title, font(14, bold=imputed), GUTTER - 14)
    for number, line in enumerate(lines):
        height = top + CELL[1] / 2 + (number - (len(lines) - 1) / 2) * 18
        draw.text((left + GUTTER - 12, height), line, font=font(14, bold=imputed), fill=INK if imputed else SOFT, anchor="rm")
    predicted = strip.predicted or [None] * len(classes)
    for place, (value, predicted_class, true_class) in enumerate(zip(strip.values, predicted, classes, strict=True)):
        x = left + GUTTER + place * (CELL[0] + GAP)
        if value is not None:
            sheet.paste(drawer(value), (x, top))
        _frame(draw, x, top, predicted_class, true_class)


def _frame(draw: ImageDraw.ImageDraw, x: int, y: int, predicted: str | None, true: str | None) -> None:
    """Green where the predicted class is the true one, else red with the predicted class in the corner; grey where there is none."""
    box = (x, y, x + CELL[0] - 1, y + CELL[1] - 1)
    if predicted is None or true is None:
        draw.rectangle(box, outline=PLAIN, width=1)
        return
    draw.rectangle(box, outline=RIGHT if predicted == true else WRONG, width=4)
    if predicted != true:
        points, lines = name_lines(predicted, TAG_SIZES, CELL[0] - 16)
        width = int(max(font(points, bold=True).getlength(line) for line in lines)) + 10
        height = len(lines) * (points + 2) + 4
        draw.rectangle((box[2] - width, box[3] - height, box[2], box[3]), fill=WRONG)
        _name(draw, box[2] - width // 2, box[3] - height // 2, predicted, TAG_SIZES, CELL[0] - 16, PAPER)


def _name(draw: ImageDraw.ImageDraw, x: int, y: int, text: str, sizes: Sequence[int], width: int, colour: str) -> None:
    """The name of a class, centred at (x, y)."""
    points, lines = name_lines(text, sizes, width)
    for number, line in enumerate(lines):
        height = y + (number - (len(lines) - 1) / 2) * (points + 2)
        draw.text((x, height), line, font=font(points, bold=True), fill=colour, anchor="mm")


def name_lines(text: str, sizes: Sequence[int], width: int) -> tuple[int, list[str]]:
    """The largest type in which the name fits into one line, or else two (broken after a space, a hyphen or an underscore), and its
    lines; in the smallest type, with an ellipsis, where it does not."""
    parts = re.findall(r"[^-_ ]*[-_ ]?", text)[:-1] if text else []
    broken = [[text], *(["".join(parts[:place]).rstrip(), "".join(parts[place:])] for place in range(1, len(parts)))]
    for most in (1, 2):
        for points in sizes:
            face = font(points, bold=True)
            fitting = [lines for lines in broken if len(lines) == most and all(face.getlength(line) <= width for line in lines)]
            if fitting:
                return points, min(fitting, key=lambda lines: max(map(face.getlength, lines)))
    return sizes[-1], [_cut(text, sizes[-1], width)]


def _cut(text: str, points: int, width: int) -> str:
    """The first line that fits, with an ellipsis where something is lost."""
    while text and font(points, bold=True).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
