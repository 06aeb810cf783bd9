"""Imputed samples to look at, to listen to and to read, beside what was given and what is real."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from mmtool.common.storage import write_bytes
from mmtool.evaluation.figures.contact_sheet import Block, Strip, blocks_of, draw_contact_sheet
from mmtool.evaluation.outcomes import Outcome
from mmtool.evaluation.reference.data import Reference
from mmtool.kinds import Kind, kind_named, players

CONTACT_SHEET, TEXTS = "contact_sheet.png", "texts.tsv"
PLAYERS = sorted(players())  # folders of values to be played


def write_samples(folder: Path, outcomes: Sequence[Outcome], reference: Reference) -> None:
    """The contact sheet, and of the samples on it the recordings and texts; nothing where there are none."""
    blocks = blocks_of(outcomes, reference)
    if blocks:
        draw_contact_sheet(folder / CONTACT_SHEET, blocks, reference)
        _write_players(folder, blocks, reference)
        _write_texts(folder / TEXTS, blocks, reference)


def _write_players(folder: Path, blocks: Sequence[Block], reference: Reference) -> None:
    """PLAYER/DIRECTION/NN-SOURCE.wav (or another format) for the values of every block that are to be played, NN being the column of the
    sheet; PLAYER is `audio` for recordings."""
    for block in blocks:
        for strip in block.strips:
            player = _kind_of(strip, reference).player
            for number, value in enumerate(strip.values if player else ()):
                if player and value is not None:
                    stem = folder / player / block.direction.slug / f"{number:02d}-{_slug(strip.title)}"
                    stem.parent.mkdir(parents=True, exist_ok=True)
                    reference.tokenizers[strip.modality].write(value, stem)


def _write_texts(path: Path, blocks: Sequence[Block], reference: Reference) -> None:
    """One line per text: direction, key of the sample, its class, source, its class by the reference classifier, the text."""
    file = io.StringIO()
    writer = csv.writer(file, delimiter="\t", lineterminator="\n")
    writer.writerow(("direction", "key", "class", "source", "predicted", "text"))
    lines = [
        (block.direction, key, true or "", strip.title, predicted or "", value)
        for block in blocks
        for strip in block.strips
        if _kind_of(strip, reference).is_text
        for key, true, predicted, value in zip(
            block.keys, block.classes, strip.predicted or [None] * len(block.keys), strip.values, strict=True
        )
        if value is not None
    ]
    if lines:
        writer.writerows(lines)
        write_bytes(path, file.getvalue().encode("utf-8", "replace"))


def _kind_of(strip: Strip, reference: Reference) -> Kind:
    return kind_named(reference.tokenizers[strip.modality].kind)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")
