"""Series in CSV whose units and names stand in comments, and columns that may be times: read right, or refused with a way on."""

from pathlib import Path

import numpy as np
import pytest

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.signals import Signal
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import SourceOptions, read_items

ROWS = "0.0,3\n0.5,5\n1.0,4\n"
EVEN = "".join(f"{number / 8},{number * 7 % 5 / 2}\n" for number in range(14))


def signal(folder: Path, text: str, **options: object) -> Signal:
    (folder / "a.csv").write_text(text, encoding="utf-8")
    (item,) = read_items("signal", [folder / "a.csv"], SourceOptions(**options))
    return item.value


@pytest.mark.parametrize("units", ["ms,degC", "ms,degrees", "ms,beats/min", "[ms],foo", "units: ms,degC"])
@pytest.mark.parametrize("text", ["# time,temp\n# {}\n", "# {}\n# time,temp\n", "# {}\ntime,temp\n", "# {}\n# in Berlin\ntime,temp\n"])
def test_units_in_a_comment_count_where_one_is_unknown(units: str, text: str, tmp_path: Path) -> None:
    read = signal(tmp_path, text.format(units) + ROWS)
    assert read.rate_hz == 2000 and read.channels == ("temp",)


@pytest.mark.parametrize("comment", ["unit: ms", "times in ms", "time: ms", "Timestamps [ms]", "ms"])
def test_a_comment_about_the_unit_of_times_counts(comment: str, tmp_path: Path) -> None:
    assert signal(tmp_path, f"# {comment}\ntime,v\n{ROWS}").rate_hz == 2000
    assert signal(tmp_path, f"# {comment}\n{ROWS}", columns=("time", "v")).rate_hz == 2000
    assert signal(tmp_path, f"# total time: 300 ms\ntime,v\n{ROWS}").rate_hz == 2


def test_of_two_comments_that_name_times_none_is_chosen(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unclear which comment"):
        signal(tmp_path, "# time,temp\n# time (ms),degC\n" + ROWS)
    assert signal(tmp_path, "# time (ms),degC\ntime,temp\n" + ROWS).rate_hz == 2000


@pytest.mark.parametrize(("unit", "seconds"), [("days", 86400), ("d", 86400), ("hrs", 3600), ("h", 3600), ("min", 60)])
def test_days_hours_and_minutes_are_units(unit: str, seconds: int, tmp_path: Path) -> None:
    for text in (f"# time,v\n# {unit},K\n", f"time ({unit}),v\n", f"time [{unit}],v\n", f"time_{unit},v\n"):
        assert signal(tmp_path, text + ROWS).rate_hz == pytest.approx(2 / seconds, rel=1e-5)
    with pytest.raises(DataError, match=r"in which unit.*time_h or time_days"):
        signal(tmp_path, "time (weeks),v\n" + ROWS)


def test_an_unknown_unit_of_the_times_is_asked_about(tmp_path: Path) -> None:
    for text in ("# ticks,mV\ntime,v\n", "# ms,V\n# s,V\ntime,v\n", "# ms,V\n", "time_s,v\n[ms],V\n", "# ms,V\ntime_s,v\n"):
        with pytest.raises(DataError, match=r"in which unit|unclear which comment|no line holds names|several units: s, ms"):
            signal(tmp_path, text + ROWS)


@pytest.mark.parametrize("comments", ["# ms,V\n", "# time (ms),V\n", "# in Berlin\n# ms,beats/min\n"])
def test_units_in_a_comment_count_beside_names_of_columns(comments: str, tmp_path: Path) -> None:
    assert signal(tmp_path, comments + ROWS, columns=("time", "v")).rate_hz == 2000


def test_names_from_a_comment_are_said_and_values_are_no_names(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert signal(tmp_path, "# by Smith, John\n" + ROWS, source_rate_hz=2).channels == ("by Smith", "John")
    assert "names of columns from line 1" in capfd.readouterr().err
    for comment in ("2024-01-31, 12:00", "0,1", "Berlin, 2024-01-31"):
        with pytest.raises(DataError, match="--columns"):
            signal(tmp_path, f"# {comment}\n{ROWS}", source_rate_hz=2)


@pytest.mark.parametrize("header", ["x-axis,1\nsecond,Volt\n", "in s,C1 in V\n", "# s,V\nZeit,U\n"])
def test_a_unit_of_time_makes_a_column_the_times(header: str, tmp_path: Path) -> None:
    assert signal(tmp_path, header + EVEN).rate_hz == 8
    assert len(signal(tmp_path, header + EVEN, source_rate_hz=3).channels) == 1


@pytest.mark.parametrize("decimals", [3, 1])
@pytest.mark.parametrize("name", ["Zeit", "JD", "temps"])
def test_a_column_that_rises_evenly_is_no_channel_unless_it_is_declared(name: str, decimals: int, tmp_path: Path) -> None:
    text = f"{name},v\n" + "".join(f"{2.4e6 + number / 3:.{decimals}f},{number * 7 % 5 / 2}\n" for number in range(14))
    with pytest.raises(DataError, match=rf"'{name}' rises evenly.*time_s.*{name}=number.*{name}=skip"):
        signal(tmp_path, text, source_rate_hz=3)
    assert signal(tmp_path, text, source_rate_hz=3, table=TableOptions(column_types={name: "number"})).channels == (name, "v")
    assert signal(tmp_path, text, source_rate_hz=3, table=TableOptions(features=(name, "v"))).channels == (name, "v")


@pytest.mark.parametrize(
    ("first", "step"), [(2458849.5, 1 / 24), (737791, 1 / 86400), (45322.5, 1 / 24), (58849, 1 / 1440), (18262, 1 / 96)]
)
def test_days_are_not_taken_for_seconds(first: float, step: float, tmp_path: Path) -> None:
    text = "".join(f"{first + number * step:.8f},{number % 3}\n" for number in range(5))
    with pytest.raises(DataError, match=r"in which unit.*time_days"):
        signal(tmp_path, "time,v\n" + text)
    assert signal(tmp_path, "time_days,v\n" + text).rate_hz == pytest.approx(1 / step / 86400, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("date,v\n2024-01-03,1\n2024-01-02,2\n2024-01-01,5\n", "newest stands first.*Sort the rows"),
        ("a\n1,5\n2,5\n3,7\n", "--decimal , --delimiter ';'"),
    ],
)
def test_messages_say_what_to_do(text: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        signal(tmp_path, text, source_rate_hz=2)


def test_rows_of_delimiters_above_the_header_are_blank(tmp_path: Path) -> None:
    for above in (",\n", "# Berlin\n,\n,\n"):
        assert signal(tmp_path, above + "time,v\n" + ROWS).rate_hz == 2
    with pytest.raises(DataError, match=r"a.csv:1: the channel 'v' holds no number"):
        signal(tmp_path, ",\n" + ROWS, columns=("time", "v"))


@pytest.mark.parametrize("rate_hz", [None, 25])
@pytest.mark.parametrize("places", [2, 3])
def test_a_hole_in_the_times_is_never_closed_in_silence(rate_hz: float | None, places: int, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = "".join(f"{i / 25 + (6 if i >= 60 else 0):.{places}f},{random.normal():.3f}\n" for i in range(120))
    (tmp_path / "s.csv").write_text("time_s,x\n" + rows)
    with pytest.raises(DataError, match=r"s\.csv:62: the times in the column 'time_s' jump by 6.04 s here, as if 150 samples"):
        [item.value for item in read_items("signal", [tmp_path / "s.csv"], SourceOptions(source_rate_hz=rate_hz))]
    skipped = SourceOptions(source_rate_hz=25, table=TableOptions(column_types={"time_s": "skip"}))
    (item,) = read_items("signal", [tmp_path / "s.csv"], skipped)
    assert len(item.value.samples) == 120


@pytest.mark.parametrize(
    "times", [[i // 25 for i in range(120)], [i / 25 + 0.01 * (i % 3) for i in range(120)], [i / 25 for i in range(120) if i % 40]]
)
def test_rounded_times_jitter_and_single_samples_that_are_missing_are_no_holes(times: list[float], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "s.csv").write_text("time_s,x\n" + "".join(f"{time:.3f},{random.normal():.3f}\n" for time in times))
    assert len(list(read_items("signal", [tmp_path / "s.csv"], SourceOptions(source_rate_hz=25)))) == 1
