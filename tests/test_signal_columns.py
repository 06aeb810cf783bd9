"""Series in CSV: times and row numbers are no channels, units are read from names, and no message leads nowhere."""

from pathlib import Path

import numpy as np
import pytest

from mmtool.common.errors import DataError
from mmtool.preprocessing.readers.signal_columns import Columns
from mmtool.preprocessing.readers.signals import Signal
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import SourceOptions, read_items


def signal(folder: Path, text: str, **options: object) -> Signal:
    (folder / "a.csv").write_text(text, encoding="utf-8")
    (item,) = read_items("signal", [folder / "a.csv"], SourceOptions(**options))
    return item.value


def series(name: str, times: list[object]) -> str:
    return f"{name},a,b\n" + "".join(f"{time},{number / 8},{number % 3}\n" for number, time in enumerate(times))


@pytest.mark.parametrize("text", ["1,2\n2,3\n3,4\n4,4\n", "0.5,-2e3\n2,3\n3,4\n", "0,1\n1,2\n2,3\n"])
def test_a_first_line_of_numbers_is_no_header(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"seems to be a sample.*--columns"):
        signal(tmp_path, text, source_rate_hz=50)
    assert len(signal(tmp_path, text, source_rate_hz=50, columns=("a", "b")).samples) == text.count("\n")


def test_columns_that_pandas_counts_are_channels(tmp_path: Path) -> None:
    read = signal(tmp_path, ",0,1\n0,0.5,1.25\n1,0.75,2\n", source_rate_hz=50)
    assert read.channels == ("0", "1") and read.samples.shape == (2, 2)


@pytest.mark.parametrize("name", ["", "index", "sample", "Sample_Number", "Unnamed: 0", "row"])
def test_row_numbers_are_no_channel(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    read = signal(tmp_path, series(name, [0, 1, 2, 3]), source_rate_hz=50)
    assert read.channels == ("a", "b") and read.rate_hz == 50
    assert f"as times or numbers of samples: {name!r}" in capfd.readouterr().err


def test_a_column_that_is_called_like_row_numbers_and_does_not_count_is_asked_about(tmp_path: Path) -> None:
    for times in ([0, 1, 3, 4], [5, 5, 5]):
        with pytest.raises(DataError, match=r"'sample' is called like.*Name it otherwise"):
            signal(tmp_path, series("sample", times), source_rate_hz=50)


@pytest.mark.parametrize(
    ("name", "times"),
    [
        *((name, [0, 0.004, 0.008, 0.012]) for name in ("time_s", "time", "t", "seconds", "Time (s)", "Time [sec]", "elapsed")),
        *((name, [0, 4, 8, 12]) for name in ("ms", "time_ms", "Time (ms)", "t.ms", "milliseconds", "timestamp_ms")),
        *((name, [0, 4000, 8000, 12000]) for name in ("us", "time_us", "Time (\N{MICRO SIGN}s)")),
        ("time_ns", [0, 4_000_000, 8_000_000, 12_000_000]),
        ("timestamp", [1_600_000_000_000 + 4 * number for number in range(4)]),
        ("time", [1_600_000_000_000_000 + 4000 * number for number in range(4)]),
        ("timestamp", [1_600_000_000 + number / 250 for number in range(4)]),
        ("timestamp", [f"2024-03-31 01:59:59.99{number}" if number < 10 else "" for number in (0, 4, 8)]),
        ("time", [f"12:00:00.0{number:02}" for number in (0, 4, 8, 12)]),
        ("datetime", [f"2024-01-01T00:00:00.00{number}+01:00" for number in (0, 4, 8)]),
    ],
)
def test_times_are_no_channel_and_give_the_rate(name: str, times: list[object], tmp_path: Path) -> None:
    read = signal(tmp_path, series(name, times))
    assert read.channels == ("a", "b") and read.rate_hz == pytest.approx(250, rel=1e-4)
    np.testing.assert_array_equal(read.samples[:, 0], np.arange(len(times)) / 8)
    declared = signal(tmp_path, series(name, times), source_rate_hz=100)
    assert declared.channels == ("a", "b") and declared.rate_hz == 100


@pytest.mark.parametrize("name", ["ts", "mass", "min", "s", "temperature", "timeout", "heart rate"])
def test_channels_of_other_names_are_kept(name: str, tmp_path: Path) -> None:
    assert signal(tmp_path, series(name, [0, 1, 2]), source_rate_hz=10).channels == (name, "a", "b")


@pytest.mark.parametrize(
    ("name", "times", "reason"),
    [
        ("timestamp", [0, 4, 8], "in which unit.*time_ms.*--source-rate-hz"),
        ("time_s", [0, 1, 5], "not evenly spaced.*--source-rate-hz"),
        ("date", ["monday", "tuesday"], "no time.*--source-rate-hz"),
        ("time_s", [0], "one sample.*--source-rate-hz"),
        ("index", [0, 1], "sample rate.*--source-rate-hz"),
    ],
)
def test_what_is_refused_can_be_read_as_the_message_says(name: str, times: list[object], reason: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=reason):
        signal(tmp_path, series(name, times))
    read = signal(tmp_path, series(name, times), source_rate_hz=10)
    assert read.channels == ("a", "b") and len(read.samples) == len(times)


def test_decimal_commas_are_read(tmp_path: Path) -> None:
    text = "time;a;b\n0,0;1,5;-2\n0,5;2,25;1e-1\n1,0;3;4\n"
    with pytest.raises(DataError, match="--delimiter"):
        signal(tmp_path, text)
    with pytest.raises(DataError, match="--decimal"):
        signal(tmp_path, text, table=TableOptions(delimiter=";"))
    read = signal(tmp_path, text, table=TableOptions(delimiter=";", decimal=","))
    assert read.rate_hz == 2
    np.testing.assert_allclose(read.samples, [[1.5, -2], [2.25, 0.1], [3, 4]])


def test_the_command_line_takes_decimal_commas_of_series(tmp_path: Path, mmtool) -> None:
    (tmp_path / "a.csv").write_text("time;a\n" + "".join(f"{number}/4;{number},5\n".replace("/4", ",0") for number in range(64)))
    command = ["tokenize", "signal", tmp_path / "a.csv", "--delimiter", ";", "--fit", "--scheme", "patches", "-o", tmp_path / "a.tar"]
    assert mmtool(*command).code != 0
    assert mmtool(*command, "--decimal", ",").code == 0


@pytest.mark.parametrize(
    ("header", "channels"),
    [
        ("'sample #','MLII','V5'", ("MLII", "V5")),  # of PhysioNet
        ("frame,x,y", ("x", "y")),
        ("seconds_elapsed,x,y", ("x", "y")),  # of Sensor Logger
    ],
)
def test_counters_and_times_of_well_known_exports_are_no_channels(header: str, channels: tuple[str, ...]) -> None:
    names = header.split(",")
    columns = Columns.of(names)
    assert tuple(names[place].strip("'") for place in columns.channels) == channels
    assert not columns.times or columns.times == {0: 1.0}
