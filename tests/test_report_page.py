"""report.html: one file that needs nothing else, shows what report.md says and the samples themselves, and stays under 10 MB."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from toy_study import toy_study

from mmtool.artefacts import lint
from mmtool.common.errors import DataError
from mmtool.common.seal import write_sealed
from mmtool.evaluation.figures.ranked_samples import FORMAT, SAMPLES
from mmtool.evaluation.made_by import command_line
from mmtool.evaluation.page.page import PAGE
from mmtool.evaluation.ranked import rank
from mmtool.evaluation.report import write_document
from mmtool.evaluation.tasks import open_task

PIXEL = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
NASTY = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a page consists of: (tag, attributes) in order, and the text outside of style and script."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text, self.script, self._inside = "", "", ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.script += data
        elif self._inside != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def row(run: str = "mine", given: str = "text", target: str = "lab", seen: bool = False, **more: Any) -> dict[str, Any]:
    where = {"run": run, "given": [given], "target": target, "seen": seen}
    return {**where, "method": run, "seed": 0, "metric": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6, "n": 9, **more}


def meta(**more: Any) -> dict[str, Any]:
    return {"runs": [{"name": "mine", "method": "loretta", "seed": 0}], **more}


def card(key: str, rank: str = "worst", **value: str) -> dict[str, Any]:
    shown = [{"title": f"{what} lab", **(value or {"picture": PIXEL})} for what in ("real", "imputed")]
    where = {"run": "mine", "given": ["text"], "target": "lab"}
    return {**where, "rank": rank, "key": key, "class": "red", "predicted": "blue", "distance": 1.25, "values": shown}


def write(folder: Path, *parts: str, rows: list[dict[str, Any]] | None = None, **more: Any) -> Page:
    write_document(folder, rows if rows is not None else [row()], meta(**more), ["# Report", *parts])
    return Page(folder / PAGE)


def write_samples(folder: Path, *samples: dict[str, Any]) -> None:
    write_sealed(folder / SAMPLES, {"format": FORMAT, "left_out": 0, "samples": list(samples)})


def test_a_browser_has_nothing_to_load_and_one_script_to_run(tmp_path: Path) -> None:
    for suffix, data in (("svg", b"<svg/>"), ("png", b"png")):
        (tmp_path / f"accuracy.{suffix}").write_bytes(data)
    write_samples(tmp_path, card("a", sound="data:audio/wav;base64,AAAA"))
    page = write(tmp_path, "## Accuracy", "![accuracy](accuracy.png)")
    sources = [value for _, attributes in page.tags for name, value in attributes.items() if name in ("src", "href", "srcset", "poster")]
    assert sources and all(value.startswith(("data:", "#")) for value in sources)
    assert f"data:image/svg+xml;base64,{b64encode(b'<svg/>').decode()}" in sources
    targets = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {value[1:] for value in sources if value.startswith("#")} <= targets
    policy = next(tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    digest = b64encode(sha256(page.script.encode()).digest()).decode()
    assert "default-src 'none'" in policy and f"script-src 'sha256-{digest}'" in policy
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_pictures_sounds_and_tables_have_names_for_those_who_do_not_see_them(tmp_path: Path) -> None:
    (tmp_path / "contact_sheet.png").write_bytes(b"png")
    write_samples(tmp_path, card("a"), card("b", sound="data:audio/wav;base64,AAAA"))
    page = write(tmp_path, "## Sheet", "![samples](contact_sheet.png)", "| direction | mine | n |\n|---|---|---|\n| a → b | 1.5 | 3 |")
    assert len(page.all("img")) == 3 and all(tag["alt"] for tag in page.all("img"))
    assert len(page.all("audio")) == 2 and all(tag["aria-label"] for tag in page.all("audio"))
    boxes = [tag for tag in page.all("div") if tag.get("class") == "scroll"]
    assert len(boxes) == len(page.all("table")) and all(tag["aria-label"] and tag["tabindex"] == "0" for tag in boxes)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    assert page.all("html")[0]["lang"] == "en"


@pytest.mark.parametrize("place", ["run", "modality", "key", "class", "caption", "label", "command", "setting"])
def test_names_and_texts_of_the_data_are_shown_as_they_are(tmp_path: Path, place: str) -> None:
    names = dict.fromkeys(("run", "modality", "key", "class", "caption", "label", "command", "setting"), "plain") | {place: NASTY}
    sample = {**card(names["key"], text=names["caption"]), "class": names["class"], "run": names["run"], "target": names["modality"]}
    write_samples(tmp_path, sample)
    rows = [row(names["run"], target=names["modality"])]
    table = f"| direction | {names['run']} |\n|---|---|\n| **x → {names['modality']}** | 1 |"
    presence = {side: [{"modalities": ["text", names["modality"]], "samples": 3}] for side in ("train", "test")}
    more = {"presence": presence, "made": {"command": names["command"], "versions": {}}, "config": {"label": names["setting"]}}
    page = write(tmp_path, "## Results", f"Classes of `{names['label']}`.", table, rows=rows, **more)
    assert len(page.all("script")) == 1 and "alert" not in page.script
    assert NASTY in page.text


def test_attributes_are_not_left_by_quotes(tmp_path: Path) -> None:
    nasty = '" onerror="alert(1)'
    write_samples(tmp_path, card(nasty))
    page = write(tmp_path, f"## {nasty}", "![a](missing.png)", "| a | b |\n|---|---|\n| c | 1 |")
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_samples(tmp_path / name, card("x"), card("y", "best"))
        write(tmp_path / name, "## Results", "| a | b |\n|---|---|\n| c | 1 |", data={"test": "f" * 64})
    assert (tmp_path / "a" / PAGE).read_bytes() == (tmp_path / "b" / PAGE).read_bytes()


@pytest.mark.thorough
def test_it_stays_under_ten_megabytes_and_says_what_it_lacks(tmp_path: Path) -> None:
    names = [f"modality{number}" for number in range(60)]
    rows = [row(given=given, target=target) for given, target in permutations(names, 2)]
    noise = np.random.default_rng(0).integers(0, 256, (3000, 3000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "contact_sheet.png")
    for figure in ("accuracy", "perplexity"):
        (tmp_path / f"{figure}.svg").write_bytes(b"x" * 5_000_000)
        (tmp_path / f"{figure}.png").write_bytes(b"x" * 2_000_000)
    lines = "".join(f"\n| {row['given'][0]} → {row['target']} | 50.0% [40.0%, 60.0%] | 9 |" for row in rows)
    table = f"| direction | mine | n |\n|---|---|---|{lines}"
    figures = ["![accuracy](accuracy.png)", "![perplexity](perplexity.png)", "![sheet](contact_sheet.png)"]
    page = write(tmp_path, "## Many", *([table] * 30), *figures, rows=rows)
    assert (tmp_path / PAGE).stat().st_size < 10_000_000
    assert "of 3,540 lines; report.md beside this page has all" in page.text
    assert "of 3,540 directions; report.json beside this page has all" in page.text
    assert "Too large for this page, and beside it: perplexity.png, contact_sheet.png" in page.text
    assert [tag["src"][:22] for tag in page.all("img")] == ["data:image/png;base64,"]  # accuracy, as its SVG is too large


def test_tables_show_values_with_intervals_that_can_be_sorted(tmp_path: Path) -> None:
    table = "| direction | a \\| b | n |\n|---|---|---|\n| **x → y** | 4.5% [1.5%, 8%] | 20/60 |\n| y → x | - | 3 |"
    page = write(tmp_path, "## Results", table, rows=[])
    cells = [tag.get("data-value") for tag in page.all("td")]
    assert cells[:4] == ["4.5", "20", None, "3"]
    assert "a | b" in page.text and "4.5% [1.5%, 8%]" in page.text and len(page.all("strong")) == 1


def test_each_direction_has_its_numbers_and_its_worst_and_best_samples(tmp_path: Path) -> None:
    write_samples(tmp_path, card("bad"), card("good", "best"))
    rows = [row(), row(metric="perplexity", value=3.5, low=3.0, high=4.0), row("other"), row(given="lab", target="text", seen=True)]
    page = write(tmp_path, rows=[*rows, row(metric="recall@1")])
    assert [tag["id"] for tag in page.all("details") if "id" in tag] == ["direction-text-to-lab", "direction-lab-to-text"]
    for shown in ("mine: farthest from the truth", "mine: nearest to the truth", "bad", "good", "distance 1.25", "3.5 [3, 4]"):
        assert shown in page.text
    assert page.text.count("never seen together in training") == 1 and "recall" not in page.text


def test_what_the_data_holds_is_a_matrix(tmp_path: Path) -> None:
    train = [{"modalities": ["image", "text"], "samples": 1200}, {"modalities": ["image", "speech"], "samples": 3}]
    test = [{"modalities": ["image", "speech", "text"], "samples": 7}]
    page = write(tmp_path, presence={"train": train, "test": test})
    assert "1,200" in page.text and page.text.count("never") >= 2  # speech with text, either way
    assert page.text.count("●") == 2 + 2 + 3


def test_of_several_seeds_the_page_says_whose_samples_it_shows(tmp_path: Path) -> None:
    write_samples(tmp_path, card("a"))
    write_document(tmp_path, [row()], {"runs": [{"name": "mine", "method": "loretta", "seeds": [3, 4]}]}, ["# Report"])
    assert "The samples are those of the runs with seed 3." in " ".join(Page(tmp_path / PAGE).text.split())


def test_lint_finds_a_changed_page(tmp_path: Path) -> None:
    write_samples(tmp_path, card("a"))
    write(tmp_path, label=None, samples={"test": 9})
    assert lint(tmp_path) == []
    for name in (PAGE, "report.md", SAMPLES):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole.replace(b"e", b"E", 1))
        assert [problem.split(":")[0] for problem in lint(tmp_path)] == [str(tmp_path / name)]
        (tmp_path / name).unlink()
        assert "the file is missing" in lint(tmp_path)[0]
        (tmp_path / name).write_bytes(whole)


def test_damaged_samples_are_refused(tmp_path: Path) -> None:
    write_samples(tmp_path, card("a"))
    (tmp_path / SAMPLES).write_bytes((tmp_path / SAMPLES).read_bytes().replace(b"1.25", b"0.25"))
    with pytest.raises(DataError, match=r"samples\.json: it was changed"):
        write(tmp_path)


def test_samples_are_ranked_by_their_distance_from_the_truth() -> None:
    study = toy_study()
    embedding, true = study.reference.embeddings["a"], study.reference.test.values("a", range(8))
    imputed = [true[0], true[1], true[2], *(value + shift for value, shift in zip(true[3:], (0.1, 5, 0.2, 9, 0.3), strict=True))]
    ranked = rank(embedding, range(10, 18), true, imputed, list("abcdefgh"), 2)
    assert [(sample.index, sample.rank, sample.predicted) for sample in ranked] == [
        (16, "worst", "g"), (14, "worst", "e"), (10, "best", "a"), (11, "best", "b"),
    ]  # fmt: skip
    assert ranked[0].distance > ranked[1].distance > ranked[2].distance == 0
    assert rank(embedding, [1], true[:1], true[:1], [None], 3) == []
    assert len({sample.index for sample in rank(embedding, range(5), true[:5], imputed[:5], [None] * 5, 9)}) == 4  # none is in both


def test_intervals_of_all_levels_are_one_figure(tmp_path: Path) -> None:
    rows = [row(metric=f"coverage_{level}", given=given) for level in (50, 80, 95) for given in ("text", "image")]
    parts = open_task("impute").section(tmp_path, rows, {**meta(), "baselines": [], "classes": [], "upper_bounds": {"accuracy": {}}})
    assert "## Calibration of intervals" in parts and parts[-1] == "![intervals](intervals.png)"
    assert (tmp_path / "intervals.svg").exists()
    others = open_task("impute").section(tmp_path, [row(metric="r2")], {**meta(), "baselines": [], "classes": []})
    assert "## Calibration of intervals" not in others


def test_the_command_is_told_where_there_was_one() -> None:
    assert command_line(["/usr/bin/mmtool", "evaluate", "my run", "-o", "x"]) == "mmtool evaluate 'my run' -o x"
    assert command_line(["/lib/mmtool/__main__.py", "evaluate"]) == "mmtool evaluate"
    assert command_line(["/usr/bin/pytest", "-x"]) is None and command_line([]) is None
