"""Pictures and sounds inside of the page, as data URIs, as many as it has room for."""

import io
from base64 import b64encode
from pathlib import Path

from markupsafe import Markup
from PIL import Image

FIGURE_BYTES, SHEET_BYTES = 3_000_000, 2_500_000  # of figures, and of sheets of samples, on a page
JPEG_QUALITY = 80
TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".wav": "audio/wav", ".gif": "image/gif"}


def data_uri(data: bytes, suffix: str) -> str:
    return f"data:{TYPES[suffix]};base64,{b64encode(data).decode()}"


class ByteBudget:
    """So many characters of data URIs."""

    def __init__(self, characters: int) -> None:
        self._characters, self.taken = characters, 0

    def take(self, uri: str) -> bool:
        """Whether it fits; then it takes up room."""
        fits = self.taken + len(uri) <= self._characters
        self.taken += len(uri) if fits else 0
        return fits


class Figures:
    """The figures of a report's folder: plots as SVG, where that is too large as PNG, sheets of samples as PNG or JPEG."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._plots, self._sheets = folder, ByteBudget(FIGURE_BYTES), ByteBudget(SHEET_BYTES)
        self.left_out: list[str] = []

    @property
    def characters(self) -> int:
        """Of all that was embedded."""
        return self._plots.taken + self._sheets.taken

    def __call__(self, file: str, title: str) -> Markup:
        """The figure with a text that stands for it; a sentence where the page has no room for it."""
        path = self.folder / file
        drawn = path.with_suffix(".svg").exists()
        budget, kind = (self._plots, "plot") if drawn else (self._sheets, "sheet")
        uri = next(filter(budget.take, _plot(path) if drawn else _sheet(path)), None)
        if uri is None:
            self.left_out.append(file)
            return Markup('<p class="note">The figure <code>{}</code> is too large for this page; it lies beside it.</p>').format(file)
        text = f"{title}: plot of the numbers in the table." if drawn else f"{title}: given, real and predicted samples side by side."
        picture = Markup('<img src="{}" alt="{}" loading="lazy">').format(uri, text)
        return Markup('<figure class="{}" role="group" tabindex="0" aria-label="{}">{}</figure>').format(kind, title, picture)


def _plot(path: Path) -> list[str]:
    return [data_uri(version.read_bytes(), version.suffix) for version in (path.with_suffix(".svg"), path) if version.exists()]


def _sheet(path: Path) -> list[str]:
    """As it is, and smaller."""
    if not path.exists():
        return []
    data, small = path.read_bytes(), io.BytesIO()
    if len(data) * 4 // 3 > SHEET_BYTES:
        with Image.open(path) as image:
            image.convert("RGB").save(small, "JPEG", quality=JPEG_QUALITY)
        return [data_uri(small.getvalue(), ".jpg")]
    return [data_uri(data, path.suffix)]
