"""The paragraphs of report.md as HTML: headings, tables, pictures, lists and text, which is all that reports are written with.

Everything is escaped before any markup is made of it, so that no name or text of the data can become a part of the page.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

PICTURE = re.compile(r"!\[(?P<alt>[^\]]*)\]\((?P<file>[^)]+)\)")
INTERVAL = re.compile(r"(?P<value>\S+) \[(?P<low>[^,\]]+), (?P<high>[^\]]+)\]")
NUMBER = re.compile(r"-?\d[\d.]*(?:e[+-]?\d+)?")
SPANS = ((re.compile(r"`([^`]+)`"), "code"), (re.compile(r"\*\*([^*]+)\*\*"), "strong"), (re.compile(r"\*([^*]+)\*"), "em"))
BARS = re.compile(r"(?<!\\)\|")
Figure = Callable[[str, str], Markup]  # (file, title) -> the figure, or what stands for it


@dataclass
class Section:
    """What a heading of the second level stands over; `title` is plain text."""

    title: str
    blocks: list[Markup] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        return anchor(self.title)


def anchor(text: str) -> str:
    """A name by which a link leads there."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")


def sections(parts: Iterable[str], figure: Figure, max_lines: int) -> list[Section]:
    """The parts of a report under their headings; the first section holds what stands before any, under the title of the whole.

    max_lines: of a table; a longer one says how many it lacks.
    """
    texts = [Section("")]
    for part in parts:
        if part.startswith("# "):
            texts[0].title = part[2:]
        elif part.startswith("## "):
            texts.append(Section(part[3:]))
        else:
            texts[-1].blocks += (_block(text, figure, texts[-1].title, max_lines) for text in part.split("\n\n"))
    return texts


def _block(text: str, figure: Figure, title: str, max_lines: int) -> Markup:
    if text.startswith("|"):
        return table(text.splitlines(), title, max_lines)
    if text.startswith("### "):
        return Markup("<h3>{}</h3>").format(inline(text[4:]))
    if text.startswith("- "):
        items = Markup("").join(Markup("<li>{}</li>").format(inline(line[2:])) for line in text.splitlines())
        return Markup("<ul>{}</ul>").format(items)
    if (match := PICTURE.fullmatch(text)) is not None:
        return figure(match["file"], title)
    return Markup("<p>{}</p>").format(inline(text))


def inline(text: str) -> Markup:
    """Text with `code`, **strong** and *emphasized* spans."""
    html = str(escape(text.replace("\\|", "|")))
    for pattern, tag in SPANS:
        html = pattern.sub(rf"<{tag}>\1</{tag}>", html)
    return Markup(html)  # escaped in the first line


def table(lines: Sequence[str], title: str, max_lines: int) -> Markup:
    """A table of Markdown (heads, rule, lines) in a box of its own that scrolls."""
    heads, _, *body = (_cells(line) for line in lines)
    shown = body[:max_lines]
    rows = Markup("").join(Markup("<tr>{}</tr>").format(Markup("").join(_line(cells))) for cells in shown)
    columns = Markup("").join(Markup('<th scope="col">{}</th>').format(inline(head)) for head in heads)
    left_out = f"The first {len(shown)} of {len(body):,} lines; report.md beside this page has all." if len(body) > len(shown) else ""
    return Markup(
        '<div class="scroll" role="region" tabindex="0" aria-label="Table: {}"><table class="sortable"><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>{}"
    ).format(title, columns, rows, Markup("<p class='note'>{}</p>").format(left_out) if left_out else "")


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in BARS.split(line)[1:-1]]


def _line(cells: Sequence[str]) -> Iterator[Markup]:
    yield Markup('<th scope="row">{}</th>').format(inline(cells[0]))
    yield from map(cell, cells[1:])


def cell(text: str) -> Markup:
    """A value with its interval, a number, or text; numbers carry what they are sorted by."""
    number = NUMBER.match(text)
    if (match := INTERVAL.fullmatch(text)) is not None:
        value, low, high = match["value"], match["low"], match["high"]
        inside = Markup('{} <span class="interval">[{}, {}]</span>').format(value, low, high)
    else:
        inside = inline(text)
    value = Markup(' data-value="{}"').format(number[0].rstrip(".")) if number else ""
    return Markup("<td{}>{}</td>").format(value, inside)
