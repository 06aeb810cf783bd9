"""Series in CSV: times and row numbers are no channels, units are read from names, and no message leads nowhere."""

from pathlib import Path

import numpy as np
import pytest

from mmtool.common.errors import DataError, UsageError
from mmtool.preprocessing.readers.signals import Signal
from mmtool.preprocessing.readers.table_options import TableOptions
from mmtool.preprocessing.sources import SourceOptions, read_items


def signal(folder: Path, text: str, **options: object) -> Signal:
    (folder / "a.csv").write_text(text, encoding="utf-8")
    (item,) = read_items("signal", [folder / "a.csv"], SourceOptions(**options))
    return item.value


def series(name: str, times: list[object]) -> str:
    return f"{name},a,b\n" + "".join(f"{time},{number % 11 / 8},{number % 3}\n" for number, time in enumerate(times))


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
        with pytest.raises(DataError, match=r"'sample' is called like.*'sample=number'.*'sample=skip'"):
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


@pytest.mark.parametrize("name", ["uS", "mass", "min", "s", "temperature", "timeout", "heart rate"])
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


def test_decimal_commas_below_units_are_named(tmp_path: Path) -> None:
    text = "Zeit;Temperatur\ns;degC\n0,0;20,5\n0,5;21,25\n"
    with pytest.raises(DataError, match=r"'0,0'.*--decimal ,"):
        signal(tmp_path, text, table=TableOptions(delimiter=";"))
    assert signal(tmp_path, text, table=TableOptions(delimiter=";", decimal=",")).rate_hz == 2


def test_a_line_of_settings_as_wide_as_the_table_is_not_where_it_begins(tmp_path: Path) -> None:
    head, table = "Model,TBS1052B\nFirmware,1.2\nSample Interval,1e-3,s\n\n", "TIME,CH1,CH2\n0,1,2\n0.5,3,4\n1,5,6\n"
    with pytest.raises(DataError, match=r"line 5, 'TIME,CH1,CH2'.*tail -n \+5"):
        signal(tmp_path, head + table)


def test_the_command_line_takes_decimal_commas_of_series(tmp_path: Path, mmtool) -> None:
    (tmp_path / "a.csv").write_text("time_s;a\n" + "".join(f"{number}/4;{number % 7},5\n".replace("/4", ",0") for number in range(64)))
    command = ["tokenize", "signal", tmp_path / "a.csv", "--delimiter", ";", "--fit", "--scheme", "patches", "-o", tmp_path / "a.tar"]
    assert mmtool(*command).code != 0
    assert mmtool(*command, "--decimal", ",").code == 0


@pytest.mark.parametrize(
    ("header", "units", "channels"),
    [
        ("'Elapsed time','MLII','V5'", "'hh:mm:ss.mmm','mV','mV'", ("'MLII'", "'V5'")),  # of PhysioNet
        ("'sample #','MLII','V5'", "'sample interval','mV','mV'", ("'MLII'", "'V5'")),
        ("frame,x,y", "", ("x", "y")),
        ("seconds_elapsed,x,y", "", ("x", "y")),  # of Sensor Logger
    ],
)
def test_counters_and_times_of_well_known_exports_are_no_channels(
    header: str, units: str, channels: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    times = ["'0:00.000'", "'0:00.003'", "'0:00.006'", "'0:00.008'"] if "Elapsed" in header else range(4)
    rows = "".join(f"{time},{number / 8},{-number % 3}\n" for number, time in enumerate(times))
    read = signal(tmp_path, f"{header}\n{units}\n{rows}", source_rate_hz=360)
    assert read.channels == channels and read.samples.shape == (4, 2)
    assert (f"{tmp_path / 'a.csv'}: line 2, which holds units" in capfd.readouterr().err) == bool(units)


@pytest.mark.parametrize("name", ["time", "t", "elapsed"])
@pytest.mark.parametrize("times", [range(0, 40, 10), range(4), [0, 3.90625, 7.8125], ["0.0", "20.0", "40.0"]])
def test_times_without_a_unit_are_seconds_only_where_they_are_fractions(name: str, times: list[object], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"in which unit its times are; its step is .*time_ms.*--source-rate-hz"):
        signal(tmp_path, series(name, list(times)))
    assert signal(tmp_path, series(name, list(times)), source_rate_hz=100).channels == ("a", "b")
    assert signal(tmp_path, series(name, ["0.00", "0.01", "0.02"])).rate_hz == 100
    assert signal(tmp_path, series(name, ["ms", *map(str, range(0, 40, 10))]).replace("ms,0.0,0\n", "ms,g,g\n")).rate_hz == 100


def test_days_of_a_spreadsheet_are_not_taken_for_seconds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="in which unit"):
        signal(tmp_path, series("time", [f"{45322.5 + number / 86400:.8f}" for number in range(4)]))
    assert signal(tmp_path, series("time", [f"{45322.5 + number / 50:.2f}" for number in range(4)])).rate_hz == 50


def test_a_guess_of_the_unit_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    signal(tmp_path, series("time", [0, 0.01, 0.02]))
    signal(tmp_path, series("timestamp", [1_600_000_000_000, 1_600_000_000_010]))
    signal(tmp_path, series("time_s", [0, 0.01, 0.02]))
    taken = [line for line in capfd.readouterr().err.splitlines() if "taken as" in line]
    assert [line.split("are taken as ")[1] for line in taken] == ["seconds", "milliseconds since 1970"]


def test_nanoseconds_since_a_phone_was_started_are_not_taken_for_microseconds_since_1970(tmp_path: Path) -> None:
    times = [1_052_207_666_810_782 + 50_000_000 * number for number in range(4)]
    with pytest.raises(DataError, match="in which unit"):
        signal(tmp_path, series("timestamp", times))
    assert signal(tmp_path, series("timestamp_ns", times)).rate_hz == pytest.approx(20)


@pytest.mark.parametrize(("rate_hz", "count"), [(30, 4), (128, 200), (360, 400), (7.5, 41), (29.97, 2000)])
@pytest.mark.parametrize("name", ["time", "Time (ms)", "datetime"])
def test_times_that_were_rounded_give_the_rate(rate_hz: float, count: int, name: str, tmp_path: Path) -> None:
    thousandths = [round(number / rate_hz * 1000) for number in range(count)]
    write = {
        "time": lambda time: f"{time / 1000:.3f}",
        "Time (ms)": str,
        "datetime": lambda time: f"2024-01-31 12:{time // 60000:02}:{time % 60000 / 1000:06.3f}",
    }
    assert signal(tmp_path, series(name, list(map(write[name], thousandths)))).rate_hz == pytest.approx(rate_hz, rel=1e-4)


def test_what_rounding_leaves_open_is_a_whole_rate(tmp_path: Path) -> None:
    assert signal(tmp_path, series("time", ["0.033", "0.067", "0.100"])).rate_hz == 30
    assert signal(tmp_path, series("time", [f"{number / 30:.2f}" for number in range(40)])).rate_hz == 30


@pytest.mark.parametrize("times", ["0.000 0.008 0.016 0.031 0.039", "0.000 0.033 0.067 0.133 0.167", "0 1 3 4", "0.001 0.002 0.003 0.005"])
def test_a_missing_sample_is_not_taken_for_rounding(times: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not evenly spaced"):
        signal(tmp_path, series("time_s", list(times.split())))


@pytest.mark.parametrize(
    "name",
    ["label", "Labels", "activity", "class", "target", "subject", "subject_id", "id", "session", "trial", "fold", "split", "activityID"],
)
@pytest.mark.parametrize("value", ["3", "3.0", "walking"])
def test_labels_and_names_of_the_series_are_no_channels(name: str, value: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = series(name, [value] * 4)
    assert signal(tmp_path, text, source_rate_hz=9).channels == ("a", "b")
    assert f"as labels, or names of the whole series: {name!r}" in capfd.readouterr().err
    assert signal(tmp_path, text, source_rate_hz=9, table=TableOptions(column_types={name: "skip"})).channels == ("a", "b")
    number = TableOptions(column_types={name: "number"})
    if value == "walking":
        with pytest.raises(DataError, match=rf"'{name}' holds no number, but 'walking'"):
            signal(tmp_path, text, source_rate_hz=9, table=number)
    else:
        assert signal(tmp_path, text, source_rate_hz=9, table=number).channels == (name, "a", "b")


def test_labels_may_change_and_fractions_are_none(tmp_path: Path) -> None:
    assert signal(tmp_path, series("activity", [1, 1, 2, 2]), source_rate_hz=9).channels == ("a", "b")
    assert signal(tmp_path, series("target", [0.5, 0.25, 1, 2]), source_rate_hz=9).channels == ("target", "a", "b")
    with pytest.raises(DataError, match=r"'activity' is called like one of labels.*'activity=number'"):
        signal(tmp_path, series("activity", [number**2 for number in range(60)]), source_rate_hz=9)


@pytest.mark.parametrize("name", ["subject", "user_id", "session"])
def test_several_series_in_one_file_are_refused(name: str, tmp_path: Path) -> None:
    text = series(name, [1] * 1500 + [2] * 9)
    with pytest.raises(DataError, match=rf"a.csv:1502: the column '{name}' holds '2' here and '1' before.*a file of its own"):
        signal(tmp_path, text, source_rate_hz=100)
    read = signal(tmp_path, text, source_rate_hz=100, table=TableOptions(column_types={name: "skip"}))
    assert read.samples.shape == (1509, 2)


def test_a_counter_of_any_name_is_no_channel(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = series("n", list(range(100, 300, 20)))
    assert signal(tmp_path, text, source_rate_hz=9).channels == ("a", "b")
    assert "as times or numbers of samples: 'n'" in capfd.readouterr().err
    assert signal(tmp_path, text, source_rate_hz=9, table=TableOptions(column_types={"n": "number"})).channels == ("n", "a", "b")
    assert signal(tmp_path, text, source_rate_hz=9, table=TableOptions(features=("n",))).channels == ("n", "a", "b")
    with pytest.raises(DataError, match="'n' counts in the first rows, but not in all"):
        signal(tmp_path, series("n", [*range(1500), 3]), source_rate_hz=9)
    with pytest.raises(DataError, match="'n' counts in the first rows, but not in all"):
        signal(tmp_path, series("n", [*range(20), *range(20)]), source_rate_hz=9)


@pytest.mark.parametrize(("name", "is_constant"), [("date", True), ("Date", False)])
def test_dates_beside_times_of_day_give_the_rate(name: str, is_constant: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    days = ["2024-01-31"] * 4 if is_constant else ["2024-01-31"] * 2 + ["2024-02-01"] * 2
    clock = (
        ["9:00:00.0", "9:00:00.5", "9:00:01.0", "9:00:01.5"] if is_constant else ["23:59:59.0", "23:59:59.5", "00:00:00.0", "00:00:00.5"]
    )
    times = [f"{day},{time}" for day, time in zip(days, clock, strict=True)]
    read = signal(tmp_path, series(f"{name},time", times))
    assert read.rate_hz == 2 and read.channels == ("a", "b")
    read = signal(tmp_path, series(f"{name},time_s", [f"{day},{number / 2}" for number, day in enumerate(days[:1] * 4)]))
    assert read.rate_hz == 2 and f"as times or numbers of samples: {name!r}" in capfd.readouterr().err


def test_a_constant_date_alone_gives_no_rate(tmp_path: Path) -> None:
    text = series("date", ["2024-01-31"] * 3)
    with pytest.raises(DataError, match="does not state its sample rate"):
        signal(tmp_path, text)
    assert signal(tmp_path, text, source_rate_hz=9).channels == ("a", "b")


@pytest.mark.parametrize("name", ["ns", "us", "ms", "t", "T", "accelerometerTimestamp_sinceReboot(s)", "reaction time"])
def test_names_that_may_be_of_times_are_judged_by_their_values(name: str, tmp_path: Path) -> None:
    assert signal(tmp_path, series(name, [0.5, 0.25, 0.75, 0.25]), source_rate_hz=9).channels == (name, "a", "b")
    assert signal(tmp_path, series(name, [5.5, 6, 6.5, 7]), source_rate_hz=9).channels == ("a", "b")
    with pytest.raises(DataError, match=r"may hold times or be a channel.*=number'.*=skip'"):
        signal(tmp_path, series(name, [0, 1, 5, 7]), source_rate_hz=9)


def test_a_column_of_words_is_named_with_a_way_on(tmp_path: Path) -> None:
    text = series("posture", ["walking", "sitting", "walking"])
    with pytest.raises(DataError, match=r"a.csv:2: .*'posture' holds no number, but 'walking'.*--column-type 'posture=skip'.*--labels"):
        signal(tmp_path, text, source_rate_hz=9)
    assert signal(tmp_path, text, source_rate_hz=9, table=TableOptions(column_types={"posture": "skip"})).channels == ("a", "b")


def test_units_below_the_header_are_no_sample(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    read = signal(tmp_path, "time,x,y\ns,m/s^2,\n0,1.5,2\n10,2.5,2\n")
    assert read.samples.tolist() == [[1.5, 2], [2.5, 2]] and read.rate_hz == 0.1
    assert "line 2, which holds units: 's', 'm/s^2', ''" in capfd.readouterr().err
    for first in ("1,bad", "NaN,NaN", "12:00:00,bad"):
        with pytest.raises(DataError, match=r"no number|lacks a time|no time"):
            signal(tmp_path, f"time_s,x\n{first}\n2,2\n3,1\n")


@pytest.mark.parametrize("columns", [1, 3])
def test_a_start_and_a_rate_above_the_samples_are_not_read_as_samples(columns: int, tmp_path: Path) -> None:
    rows = [["1544022936.000000"], ["32.000000"], ["-5"], ["7"]]
    text = "".join(", ".join(row * columns) + "\n" for row in rows)
    names = tuple("xyz"[:columns])
    with pytest.raises(DataError, match=r"time of start and a rate.*tail -n \+3.*--source-rate-hz 32"):
        signal(tmp_path, text, columns=names, source_rate_hz=32)
    with pytest.raises(DataError, match=r"time of start and a rate"):
        signal(tmp_path, text)
    read = signal(tmp_path, text.split("\n", 2)[2], columns=names, source_rate_hz=32)
    assert read.samples[:, 0].tolist() == [-5, 7]


def test_types_that_no_column_of_a_series_has_are_refused(tmp_path: Path) -> None:
    for types, reason in (({"a": "category"}, "number and skip, not category"), ({"c": "skip"}, "no column 'c'.*'a'")):
        with pytest.raises((DataError, UsageError), match=reason):
            signal(tmp_path, series("time_s", [0, 1]), table=TableOptions(column_types=types))


@pytest.mark.parametrize(
    ("text", "fix"),
    [("8.38 0 104\n8.39 0 104\n8.40 0 104\n", "--delimiter blanks"), ("%OpenBCI Raw EEG Data\n%Rate = 250 Hz, 8\n0,1\n1,3\n", "--columns")],
)
def test_other_layouts_are_refused_with_a_way_on(text: str, fix: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=fix):
        signal(tmp_path, text, source_rate_hz=9)


def test_the_first_times_whose_unit_is_known_give_the_rate(tmp_path: Path) -> None:
    assert signal(tmp_path, series("timestamp,time_s", [f"{number * 20},{number / 50}" for number in range(5)])).rate_hz == 50


def test_a_channel_that_never_changes_is_said(tmp_path: Path, mmtool) -> None:
    (tmp_path / "a.csv").write_text("time_s,x,battery\n" + "".join(f"{number / 50},{number % 7},80\n" for number in range(64)))
    done = mmtool("tokenize", "signal", tmp_path / "a.csv", "--fit", "--scheme", "patches", "-o", tmp_path / "a.tar")
    assert done.code == 0 and "the channel 'battery' holds 80 everywhere" in done.err and "'x' holds" not in done.err


def test_a_tokenizer_knows_its_channels_whatever_a_file_holds(tmp_path: Path, mmtool) -> None:
    (tmp_path / "a.csv").write_text("time_s,n\n" + "".join(f"{number / 50},{number % 7}\n" for number in range(64)))
    (tmp_path / "b.csv").write_text("time_s,n\n" + "".join(f"{number / 50},{number}\n" for number in range(64)))
    assert mmtool("tokenize", "signal", tmp_path / "a.csv", "--fit", "--scheme", "patches", "-o", tmp_path / "a.tar").code == 0
    done = mmtool("tokenize", "signal", tmp_path / "b.csv", "--tokenizer", tmp_path / "a.tar", "-o", tmp_path / "b.tar")
    assert done.code == 0 and "left out" not in done.err, done.err
    done = mmtool("tokenize", "signal", tmp_path / "b.csv", "--fit", "--scheme", "patches", "-o", tmp_path / "c.tar")
    assert done.code == 1 and "no channel" in done.err and "--column-type NAME=number" in done.err


@pytest.mark.parametrize("comments", ["# device: A, B\n", "% fs = 4\n%\n", "#sep\r\n"])
@pytest.mark.parametrize("mark", ["", "#"])
def test_comments_above_the_header_are_passed_over(comments: str, mark: str, tmp_path: Path) -> None:
    read = signal(tmp_path, f"{comments}{mark}time_s,a\n0,1\n0.25,3\n0.5,4\n")
    assert read.channels == ("a",) and read.rate_hz == 4 and read.samples[:, 0].tolist() == [1, 3, 4]


def rows_of(table: np.ndarray, names: list[str]) -> str:
    return "\n".join([",".join(names), *(",".join(f"{value:.4f}" for value in row) for row in table)]) + "\n"


def test_a_table_with_a_recording_in_each_row_is_refused_and_one_of_many_channels_is_not(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    beats = np.sin(np.arange(40) / 5 + random.uniform(0, 6, (30, 1))) + 0.05 * random.normal(size=(30, 40))
    for names in (
        [f"X{number}" for number in range(40)],
        list(map(str, range(40))),
        [f"t{number}" for number in range(40)],
    ):
        with pytest.raises(DataError, match=r"a whole recording.*numpy.savez.*=number"):
            signal(tmp_path, rows_of(beats, names), source_rate_hz=50)
    with_label = np.column_stack([beats, np.arange(30) % 7])
    with pytest.raises(DataError, match=r"'t_0.0' to 't_3.9'"):
        signal(tmp_path, rows_of(with_label, [*(f"t_{number / 10}" for number in range(40)), "age"]), source_rate_hz=50)
    declared = TableOptions(column_types={"X0": "number"})
    assert signal(tmp_path, rows_of(beats, [f"X{n}" for n in range(40)]), source_rate_hz=50, table=declared).samples.shape == (30, 40)
    assert signal(tmp_path, rows_of(beats.T, [f"ch{n}" for n in range(30)]), source_rate_hz=50).samples.shape == (40, 30)


def test_channels_that_share_their_noise_are_no_recordings(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    common, gains = random.normal(size=(200, 1)), np.linspace(1, 1.5, 16)
    mains = np.sin(2 * np.pi * 60 * np.arange(200) / 250)[:, None] * gains + 0.05 * random.normal(size=(200, 16))
    for table in (mains, common + 0.2 * random.normal(size=(200, 16)), np.zeros((200, 16)), random.normal(size=(200, 16))):
        text = rows_of(table, [f"EXG Channel {number}" for number in range(16)])
        assert signal(tmp_path, text, source_rate_hz=250).samples.shape == (200, 16)


@pytest.mark.parametrize("name", ["time_s", "time", "date"])
def test_times_that_go_back_begin_another_series_whatever_gives_the_rate(name: str, tmp_path: Path) -> None:
    times = [f"2024-01-0{day}" for day in (1, 2, 3, 1, 2, 3)] if name == "date" else [0, 1, 2, 0, 1, 2]
    text = series(name, times)
    with pytest.raises(DataError, match=rf"'{name}' go back: several series.*{name}=skip"):
        signal(tmp_path, text, source_rate_hz=1)
    assert len(signal(tmp_path, text, source_rate_hz=1, table=TableOptions(column_types={name: "skip"})).samples) == 6
    assert len(signal(tmp_path, series(name, times[:3]), source_rate_hz=1).samples) == 3


def test_the_label_of_a_channel_does_not_change_either(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time_s,x,k\n0,1,3\n1,2,1\n")
    options = SourceOptions(label_columns=("k",), table=TableOptions(column_types={"k": "number"}))
    with pytest.raises(DataError, match=r"'1' here and '3' before"):
        list(read_items("signal", [tmp_path / "a.csv"], options))


def test_missing_cells_of_a_label_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time_s,x,activity\n0,1,\n1,2,walk\n2,3,NA\n")
    (item,) = read_items("signal", [tmp_path / "a.csv"], SourceOptions(label_columns=("activity",)))
    assert item.labels == {"activity": "walk"}


@pytest.mark.parametrize("name", ["elapsed (mm:ss)", "time_s"])
def test_minutes_and_seconds_are_read_where_the_name_says_so(name: str, tmp_path: Path) -> None:
    assert signal(tmp_path, series(name, ["0:59", "1:00", "1:01"])).rate_hz == 1


def test_an_hour_of_59_is_asked_about(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no time of day.*\(mm:ss\)"):
        signal(tmp_path, series("time", ["59:58", "59:59", "60:00"]))


def test_dates_without_hyphens_are_not_taken_for_numbers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"seems to be a date.*2024-01-31"):
        signal(tmp_path, series("date", [20240130, 20240131, 20240201]))


def test_a_comment_is_no_sample_of_a_file_without_header(tmp_path: Path) -> None:
    assert len(signal(tmp_path, "# 250,2\n1,2\n3,4\n", columns=("a", "b"), source_rate_hz=4).samples) == 2


def test_a_column_that_holds_one_value_is_a_label_or_a_group(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time_s,x,activity,subject\n0,1,walk,7\n0.5,2,walk,7\n1,4,walk,7\n")
    options = SourceOptions(label_columns=("activity",), group_column="subject")
    (item,) = read_items("signal", [tmp_path / "a.csv"], options)
    assert item.value.channels == ("x",) and item.labels == {"activity": "walk"} and item.group == "7"
    (tmp_path / "a.csv").write_text("time_s,x,activity\n0,1,walk\n0.5,2,walk\n1,4,run\n")
    with pytest.raises(DataError, match=r"a.csv:4: .*'run' here and 'walk' before.*--labels"):
        list(read_items("signal", [tmp_path / "a.csv"], SourceOptions(label_columns=("activity",))))


def test_times_without_seconds_are_hours_and_minutes_and_that_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert signal(tmp_path, series("time", ["00:00", "00:01", "00:02"])).rate_hz == pytest.approx(1 / 60, rel=1e-5)
    assert "'time' of" in (said := capfd.readouterr().err) and "as hours and minutes" in said
    assert signal(tmp_path, series("time", ["00:00:00", "00:00:01", "00:00:02"])).rate_hz == 1
    assert "hours" not in capfd.readouterr().err


def test_a_value_each_day_for_years_is_no_long_recording(tmp_path: Path) -> None:
    days = [str(day) for day in np.arange("2020-01-01", "2022-01-01", dtype="datetime64[D]")]
    assert len(signal(tmp_path, series("date", days)).samples) == 731
    with pytest.raises(DataError, match=r"longer than 600 s.*--max-duration-s"):
        signal(tmp_path, series("time_s", [number / 16 for number in range(10_001)]))


@pytest.mark.parametrize(
    "text",
    [
        "# time,ecg,b\n# s,mV,mV\n",
        "# s,mV,mV\n# time,ecg,b\n",
        "# time,ecg,b\ns,mV,mV\n",
        "# s,mV,mV\ntime,ecg,b\n",
        "time,ecg,b\n# s,mV,mV\n",
        "% my recording, 3 leads, Berlin\n\n%time,ecg,b\n% s,mV,uV\n",
        "// at home\n\n// time,ecg,b\n",
        "\n# at home\n\ntime,ecg,b\n",
    ],
)
def test_names_are_taken_from_the_header_wherever_units_stand(text: str, tmp_path: Path) -> None:
    read = signal(tmp_path, text + "0,1,2\n0.5,2,2\n1,3,4\n")
    assert read.channels == ("ecg", "b") and read.rate_hz == 2 and read.samples.tolist() == [[1, 2], [2, 2], [3, 4]]


def test_blank_lines_stand_between_comments_and_columns_between_blanks(tmp_path: Path) -> None:
    read = signal(tmp_path, "# x\n   \n# y\n\ntime_s a\n   \n0 1\n0.5 2\n1 4\n", table=TableOptions(delimiter="blanks"))
    assert read.channels == ("a",) and read.rate_hz == 2


def test_the_units_of_a_comment_give_the_rate_and_are_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert signal(tmp_path, "# time,ecg\n# ms,mV\n0,1\n4,2\n8,2\n").rate_hz == 250
    assert "line 2, which holds units: 'ms', 'mV'" in capfd.readouterr().err


@pytest.mark.parametrize("text", ["# ecg,emg\n# raw,filtered\n", "# mV,mV\n"])
def test_comments_that_leave_the_names_open_are_asked_about(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(unclear which comment|no line holds names).*--columns"):
        signal(tmp_path, text + "0,1\n1,3\n", source_rate_hz=4)
    assert signal(tmp_path, text + "0,1\n1,3\n", source_rate_hz=4, columns=("a", "b")).channels == ("a", "b")


def test_lines_of_labchart_are_named_and_columns_between_semicolons_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("Interval=\t0.004 s\nChannelTitle=\tECG\tPulse\nRange=\t1 V\t5 V\n0.000\t1\t2\n0.004\t2\t2\n")
    with pytest.raises(DataError, match=r"a.tsv:1: .*'Interval=.*tail -n \+4"):
        list(read_items("signal", [tmp_path / "a.tsv"], SourceOptions()))
    with pytest.raises(DataError, match=r"separated by semicolons.*--delimiter"):
        signal(tmp_path, "time_s;a\n0,0;1,5\n0,5;2,5\n1,0;3,5\n")


@pytest.mark.parametrize("text", ["Device: X\nRate: 250\n", "# a\nat home\n# b\n", "Device,X\n"])
def test_a_line_above_the_header_that_is_no_comment_is_shown(text: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"(Device|at home).* no header.*tail -n \+\d"):
        signal(tmp_path, text + "time_s,a\n0,1\n0.5,2\n", source_rate_hz=2)


@pytest.mark.parametrize("rate_hz", [1, 2, None])
def test_rows_of_two_series_that_alternate_are_refused(rate_hz: float | None, tmp_path: Path) -> None:
    for header, stamp in (("date", "2024-01-0{}"), ("time_s", "{}"), ("timestamp", "{}"), ("date", "0{}.01.2024")):
        rows = "".join(f"{stamp.format(number // 2 + 1)},{'AB'[number % 2]},{number * 7 % 5}\n" for number in range(12))
        types = TableOptions(column_types={"store": "skip"})
        if (header, rate_hz) == ("time_s", 2):  # as of one series whose times were rounded
            assert len(signal(tmp_path, f"{header},store,x\n{rows}", source_rate_hz=rate_hz, table=types).samples) == 12
        else:
            with pytest.raises(DataError, match=r"in 2 rows.*'store' \(A, B\).*a file of its own|is no time|in which unit"):
                signal(tmp_path, f"{header},store,x\n{rows}", source_rate_hz=rate_hz, table=types)


@pytest.mark.parametrize("name", ["sensor", "store_id", "Station Nr"])
def test_a_column_that_alternates_between_series_is_no_channel(name: str, tmp_path: Path) -> None:
    text = f"{name},x\n" + "".join(f"{number % 3 + 1},{number * 7 % 5}\n" for number in range(12))
    with pytest.raises(DataError, match=rf"a.csv:3: the column '{name}' holds '2' here and '1' before: several series"):
        signal(tmp_path, text, source_rate_hz=1)


def test_times_that_were_rounded_go_with_the_rate(tmp_path: Path) -> None:
    text = "time_s,a\n" + "".join(f"{number // 10},{number * 7 % 5}\n" for number in range(60))
    assert len(signal(tmp_path, text, source_rate_hz=10).samples) == 60
    text = "timestamp,a\n" + "".join(f"{time},{number}\n" for number, time in enumerate([0, 3, 3, 9, 11, 14]))
    assert len(signal(tmp_path, text, source_rate_hz=10).samples) == 6
    text = "sensor,a\n" + "".join(f"{500 + number * number % 7},{number}\n" for number in range(60))
    assert signal(tmp_path, text, source_rate_hz=10).channels == ("sensor",)


@pytest.mark.parametrize("rate_hz", [1, None])
@pytest.mark.parametrize("times", [["0", "1", "bad", "3"], ["2024-01-01", "2024-01-02", "2024-13-03", "2024-01-04"]])
def test_a_time_that_cannot_be_read_is_named_with_its_line(times: list[object], rate_hz: float | None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"a.csv:4: .*'{times[2]}', which is no time.*=skip"):
        signal(tmp_path, series("date" if "-" in str(times[0]) else "time_s", times), source_rate_hz=rate_hz)
    missing = series("time_s", [*times[:2], "NA", *times[3:]])
    if rate_hz:
        assert len(signal(tmp_path, missing, source_rate_hz=rate_hz).samples) == 4
    else:
        with pytest.raises(DataError, match=r"a.csv:4: .*lacks a time"):
            signal(tmp_path, missing)


def test_dates_in_another_format_are_not_needed_beside_a_rate(tmp_path: Path) -> None:
    assert len(signal(tmp_path, series("date", ["30.12.2024", "31.12.2024", "01.01.2025"]), source_rate_hz=1).samples) == 3
