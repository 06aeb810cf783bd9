"""Every promise of the guide's page on reliability names the tests that keep it, and they exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "examples/guide/pages/reliability.md"
NAMED = re.compile(r"`((?:faults/)?test_\w+\.py)::(test_\w+)`")


def rows() -> list[str]:
    return [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith(("| # ", "| what happens"))]


def test_every_row_names_tests_that_exist() -> None:
    for row in rows():
        named = NAMED.findall(row)
        assert named, row
        for file, name in named:
            assert re.search(rf"^def {name}\(", (TESTS / file).read_text(), re.MULTILINE), f"{file} has no {name}"


def test_the_twenty_promises_are_all_there() -> None:
    assert [int(match[1]) for row in rows() if (match := re.match(r"\| (\d+) \|", row))] == list(range(1, 21))
