"""report.html: a report in one file, with its figures and samples inside, that a browser shows without a network.

What it says is what report.md says (see markdown.py), and beside it every direction by itself with the samples that came out worst and
best, what the data holds, and what was run. It stays under 10 MB: where there are too many, tables are cut and figures and samples left
out, and the page says so. The same report gives the same bytes. Its policy lets a browser load nothing and run no script but the one in it.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmtool import __version__
from mmtool.common.seal import check_seal, read_json
from mmtool.common.storage import write_bytes
from mmtool.evaluation.figures.ranked_samples import SAMPLES
from mmtool.evaluation.page.directions import directions_of
from mmtool.evaluation.page.embedding import Figures
from mmtool.evaluation.page.facts import configs_of, facts_of, presence_of
from mmtool.evaluation.page.markdown import sections
from mmtool.evaluation.report_file import AGAIN

PAGE = "report.html"
MAX_TEXT_BYTES = 2_000_000  # of all but figures and samples
MAX_LINES = (400, 100, 25, 5)  # of a table, and directions: as many as fit
PACKAGE = "mmtool.evaluation.page"


def write_page(folder: Path, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any], parts: Sequence[str]) -> None:
    """The page of a report whose figures and samples lie in the folder already."""
    write_bytes(folder / PAGE, _page(folder, rows, meta, parts).encode())


def _page(folder: Path, rows: Sequence[Mapping[str, Any]], meta: Mapping[str, Any], parts: Sequence[str]) -> str:
    samples = _samples(folder)
    for max_lines in MAX_LINES:
        figures = Figures(folder)
        texts = sections(parts, figures, max_lines)
        directions, num_directions = directions_of(rows, samples["samples"], max_lines)
        page = _template().render(
            sections=texts,
            directions=directions,
            num_directions=num_directions,
            samples=samples,
            first_seed=_first_seed(meta),
            presence=presence_of(meta, max_lines),
            made=meta.get("made", {"command": None}),
            facts=facts_of(meta),
            configs=configs_of(meta),
            left_out=figures.left_out,
            **_fixed(),
        )
        if len(page.encode()) - figures.characters - samples["characters"] <= MAX_TEXT_BYTES:
            break
    return page


def _samples(folder: Path) -> dict[str, Any]:
    """What samples.json holds; no samples where there is none."""
    if not (folder / SAMPLES).exists():
        return {"samples": [], "left_out": 0, "characters": 0}
    record = read_json(folder / SAMPLES, AGAIN)
    check_seal(record, folder / SAMPLES, AGAIN)
    characters = sum(len(text) for sample in record["samples"] for value in sample["values"] for text in value.values())
    return {**record, "characters": characters}


def _first_seed(meta: Mapping[str, Any]) -> int | None:
    """Of a comparison over several seeds the one whose runs imputed the samples."""
    seeds = [run["seeds"] for run in meta["runs"] if "seeds" in run]
    return seeds[0][0] if seeds and len(seeds[0]) > 1 else None


@cache
def _template() -> Any:
    environment = Environment(
        loader=PackageLoader(PACKAGE, "template"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html")


@cache
def _fixed() -> dict[str, Any]:
    """What is the same on every page: style and script, which are ours, and the digest by which a browser knows the script."""
    folder = Path(__file__).parent / "template"
    style, script = ((folder / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    digest = b64encode(sha256(f"\n{script}".encode()).digest()).decode()
    return {"style": Markup(style), "script": Markup(script), "script_hash": f"sha256-{digest}", "version": __version__}
