"""Time series: read from arrays, columns and recordings, brought to one rate, tokenized both ways, and back as real files."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmtool.common.errors import DataError, UsageError
from mmtool.data.shards import open_token_set
from mmtool.evaluation.evaluate import evaluate
from mmtool.evaluation.figures.thumbnails import Thumbnails
from mmtool.imputation.files import ImputeOptions, impute_files
from mmtool.preprocessing.prepare import preparer_of
from mmtool.preprocessing.protocol import MissingnessProtocol
from mmtool.preprocessing.readers.signals import Signal, SignalPreparer, prepared
from mmtool.preprocessing.shard import shard
from mmtool.preprocessing.sources import SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize
from mmtool.tokenizers.base import fingerprint, from_bytes, to_bytes
from mmtool.tokenizers.signal import SignalCodecTokenizer, SignalPatchTokenizer
from mmtool.training.config import resolve
from mmtool.training.pretrain import pretrain

RATE_HZ, STEPS = 50, 120
RHYTHMS = ("slow", "brisk", "fast", "racing")
CODEC = {"steps": 60, "width": 16, "codebook": 64, "patch": 8}


def series(number: int, steps: int = STEPS, rate_hz: float = RATE_HZ) -> np.ndarray:
    """(steps, 2): a beat whose rate is the class, and a slope, not quite even, with an offset of its own."""
    time, random = np.arange(steps) / rate_hz, np.random.default_rng(number)
    beat = np.sin(2 * np.pi * (1 + 2 * (number % 4)) * time + random.uniform(0, 0.3)) + 0.05 * random.normal(size=steps)
    return np.stack([beat, 9.8 + 0.3 * (number % 4) + 0.1 * time + 0.001 * np.sin(31 * time)], 1).astype(np.float32)


def items(path: Path, **options: object) -> list:
    return list(read_items("signal", [path], SourceOptions(**options)))


def test_files_of_every_format_hold_the_same_series(tmp_path: Path) -> None:
    value = series(1)
    names = np.array(["ecg", "slope"])
    np.savez(tmp_path / "rows.npz", signal=value, sample_rate_hz=RATE_HZ, channels=names)
    np.savez(tmp_path / "columns.npz", data=value.T, fs=np.float32(RATE_HZ), ch_names=names)
    lines = [f"{step / RATE_HZ},{a},{b}" for step, (a, b) in enumerate(value)]
    (tmp_path / "table.csv").write_text("time_s,ecg,slope\n" + "\n".join(lines) + "\n")
    found = items(tmp_path)
    assert [item.key for item in found] == ["columns", "rows", "table"]
    for item in found:
        assert item.value.rate_hz == RATE_HZ and item.value.channels == ("ecg", "slope")
        np.testing.assert_allclose(item.value.samples, value, rtol=1e-6)


def test_what_a_file_does_not_state_is_declared(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", series(0))
    with pytest.raises(DataError, match="--source-rate-hz"):
        items(tmp_path)
    (item,) = items(tmp_path, source_rate_hz=62.5)
    assert item.value.rate_hz == 62.5 and item.value.channels == ("ch0", "ch1")
    with pytest.raises(UsageError, match="no sample rate"):
        SourceOptions(source_rate_hz=0)
    sounds = tmp_path / "wav"
    sounds.mkdir()
    soundfile.write(sounds / "many.wav", np.tile(np.linspace(-0.5, 0.5, 400)[:, None], (1, 20)), 2000, subtype="FLOAT")
    (recording,) = items(sounds)
    assert recording.value.samples.shape == (400, 20) and recording.value.rate_hz == 2000
    (tmp_path / "wav" / "b.csv").write_text("x,y\n" + "1,2\n" * 9)
    assert items(sounds / "b.csv", source_rate_hz=10)[0].value.samples.shape == (9, 2)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"signal": np.zeros((4, 4))}, "unclear which axis"),
        ({"signal": np.zeros((9, 4)), "channels": np.array(["a", "b"])}, "unclear which axis"),
        ({"signal": np.array(["a"])}, "no series"),
        ({"signal": np.array([[0.0, 1, np.nan, 3]])}, "'ch0' is NaN or infinite in single precision at sample 2"),
        ({"other": np.zeros((9, 2))}, "the arrays are: .*other"),
        ({"signal": np.zeros((9, 2)), "sample_rate_hz": -1}, "no sample rate"),
    ],
)
def test_what_is_no_series_is_refused_by_name(arrays: dict[str, np.ndarray], reason: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", **{"sample_rate_hz": 10, **arrays})
    with pytest.raises(DataError, match=reason) as caught:
        items(tmp_path)
    assert "bad.npz" in str(caught.value)


@pytest.mark.parametrize(("rows", "reason"), [("0,1\n1,\n", "no number"), ("0,1\n1,2\n5,3\n", "not evenly spaced"), ("", "no samples")])
def test_bad_columns_are_refused(rows: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("time_s,ecg\n" + rows)
    with pytest.raises(DataError, match=reason):
        items(tmp_path)


def edf(channels: dict[str, tuple[np.ndarray, int]], records: int, reserved: str = "") -> bytes:
    """The bytes of an EDF file with records of a second: name -> samples between -5 and 5, how many of them in a record."""
    count = len(channels)
    head = (
        f"{'0':8}{'patient':80}{'recording':80}{'01.01.24':8}{'00.00.00':8}{256 * (count + 1):<8}{reserved:44}{records:<8}{1:<8}{count:<4}"
    )
    each = [("", 80), ("mV", 8), ("-5", 8), ("5", 8), ("-32768", 8), ("32767", 8), ("", 80)]
    head += "".join(f"{name:16}" for name in channels) + "".join(f"{text:{width}}" * count for text, width in each)
    head += "".join(f"{size:<8}" for _, size in channels.values()) + " " * 32 * count
    levels = {name: np.rint((values + 5) / 10 * 65535 - 32768).astype("<i2").reshape(records, -1) for name, (values, _) in channels.items()}
    return head.encode() + np.concatenate(list(levels.values()), axis=1).tobytes()


def test_edf_is_read_in_physical_units_and_at_one_rate(tmp_path: Path) -> None:
    value = series(1, 100)[:, 0]
    still = np.full(50, 2.0)
    marks = (np.full(10, -5.0), 5)
    path = tmp_path / "night.edf"
    path.write_bytes(edf({"ECG": (value, 50), "Resp": (still, 25), "EDF Annotations": marks}, 2, "EDF+C"))
    (item,) = items(path)
    assert item.value.rate_hz == 50 and item.value.channels == ("ECG", "Resp")
    np.testing.assert_allclose(item.value.samples[:, 0], value, atol=1e-3)
    np.testing.assert_allclose(item.value.samples[:, 1], 2, atol=5e-3)
    whole = path.read_bytes()
    for data, reason in (
        (whole[:-9], "cut or empty: 2 records"),
        (whole + whole[-90:], "promises 2 records of 160 bytes, and 90 bytes follow"),
        (whole[:236] + b"1       " + whole[244:], "promises 1 records of 160 bytes, and 160 bytes follow"),
        (whole[:236] + b"-1      " + whole[244:-9], "its last record has 151 of 160 bytes"),
        (edf({"ECG": (value, 50)}, 2, "EDF+D"), "interrupted"),
        (b"\xffBIOSEMI" + whole[8:], "not an EDF file"),
        (whole[:236] + b"two     " + whole[244:], "damaged"),
        (edf({"EDF Annotations": marks}, 2), "annotations alone"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=reason):
            items(path)


def test_a_stack_of_series_has_keys_and_labels(tmp_path: Path) -> None:
    values = np.stack([series(number) for number in range(6)])
    np.savez(
        tmp_path / "all.npz", signals=values, sample_rate_hz=RATE_HZ, id=np.array([f"p{i}" for i in range(6)]), rhythm=np.arange(6) % 4
    )
    found = items(tmp_path)
    assert [item.key for item in found] == [f"p{i}" for i in range(6)]
    assert [item.labels["rhythm"] for item in found] == [0, 1, 2, 3, 0, 1]
    np.testing.assert_array_equal(found[3].value.samples, values[3])


def test_the_splits_of_keras_and_arrays_in_capitals_are_read(tmp_path: Path) -> None:
    stack = np.stack([series(number) for number in range(5)])
    np.savez(tmp_path / "k.npz", X_train=stack[:3], y_train=np.arange(3), X_test=stack[3:], y_test=np.arange(2), fs=50)
    found = items(tmp_path / "k.npz")
    assert [(item.key, item.labels) for item in found][2:4] == [
        ("k-train-000002", {"label": 2, "split": "train"}),
        ("k-test-000000", {"label": 0, "split": "test"}),
    ]
    np.testing.assert_array_equal(found[3].value.samples, stack[3])
    np.savez(tmp_path / "x.npz", X=stack, y=np.arange(5), fs=50)
    assert [item.labels["y"] for item in items(tmp_path / "x.npz")] == [0, 1, 2, 3, 4]


def test_rows_beside_labels_may_be_series_or_times_and_are_asked_about(tmp_path: Path) -> None:
    for name in ("y", "subject"):
        np.savez(tmp_path / "x.npz", X=np.zeros((30, 9)), fs=50, **{name: np.arange(30)})
        with pytest.raises(DataError, match=r"30 series, or one.*\(30, 9, 1\)"):
            items(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", X=np.zeros((30, 9)), time=np.arange(30) / 50, fs=50)
    assert items(tmp_path / "x.npz")[0].value.samples.shape == (30, 9)


def test_an_array_with_a_recording_in_each_row_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", np.sin(np.arange(60) / 5 + random.uniform(0, 6, (90, 1))) + 0.05 * random.normal(size=(90, 60)))
    with pytest.raises(DataError, match=r"whole recording.*\(90, 60, 1\)"):
        items(tmp_path / "x.npy", source_rate_hz=50)


def test_an_array_that_may_hold_recordings_is_read_as_channels_and_that_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    values = np.random.default_rng(0).normal(size=(30, 100))
    for array in (values, values.T):
        np.save(tmp_path / "x.npy", array)
        assert items(tmp_path / "x.npy", source_rate_hz=50)[0].value.samples.shape == (100, 30)
        assert "one series of 30 channels and 100 samples; if each row or column is a recording" in capfd.readouterr().err
    np.savez(tmp_path / "x.npz", signal=values, channels=np.array([f"c{number}" for number in range(30)]), fs=50)
    assert items(tmp_path / "x.npz")[0].value.samples.shape == (100, 30) and "recording" not in capfd.readouterr().err
    labels = np.arange(30)[:, None] % 3
    for array in (np.hstack([labels, values]), np.hstack([values, labels])):
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(DataError, match=r"label.*\(30, 100, 1\)"):
            items(tmp_path / "x.npy", source_rate_hz=50)
    np.save(tmp_path / "x.npy", values.round())
    assert items(tmp_path / "x.npy", source_rate_hz=50)[0].value.samples.shape == (100, 30)


def test_times_beside_an_array_say_which_axis_is_time_and_within_it_are_no_channel(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(30, 20))
    np.savez(tmp_path / "x.npz", X=values, time=np.arange(20) / 50, fs=50)
    assert items(tmp_path / "x.npz")[0].value.samples.shape == (20, 30)
    for times in (np.arange(20) / 50, np.arange(20) * 20, np.arange(20), 2458849.5 + np.arange(20) / 24):
        np.savez(tmp_path / "x.npz", X=np.column_stack([times, values.T[:, :2]]), fs=50)
        with pytest.raises(DataError, match=r"channel '0' rises evenly.*`channels`"):
            items(tmp_path / "x.npz")


def test_names_of_channels_are_texts_in_any_shape_and_none_is_there_twice(tmp_path: Path) -> None:
    value, path = np.random.default_rng(0).normal(size=(64, 3)), tmp_path / "x.npz"
    for names in (np.array([b"x", b"y", b"z"]), np.array([["x "], ["y "], ["z "]]), np.array([["x", "y", "z"]])):
        np.savez(path, signal=value, channels=names, fs=10)
        assert items(path)[0].value.channels == ("x", "y", "z")
    for array in (value, np.stack([value, value])):
        np.savez(path, signal=array, channels=["a", "a", "b"], fs=10)
        with pytest.raises(DataError, match=r"same name: a, a, b.*Rename"):
            items(path)
    for wrong in (np.array(3), np.arange(3.0), np.array([["a", "b"], ["c", "d"]]), np.array([b"\xff", b"y", b"z"])):
        np.savez(path, signal=value, channels=wrong, fs=10)
        with pytest.raises(DataError, match=r"`channels`.*does not hold the names.*one text for each"):
            items(path)


def test_times_say_the_direction_of_stacks_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stack, path = np.random.default_rng(0).normal(size=(5, 16, 64)), tmp_path / "x.npz"
    for name in ("X", "x_train"):
        for times in (np.arange(16) / 10, np.arange(16)[:, None] / 10, np.tile(np.arange(16) / 10, (5, 1))):
            np.savez(path, fs=10, timestamps=times, **{name: stack})
            np.testing.assert_array_equal(items(path)[1].value.samples, stack[1].astype(np.float32))
        assert "series of" not in capfd.readouterr().err
        np.savez(path, fs=10, **{name: stack})
        assert items(path)[1].value.samples.shape == (64, 16)
        assert "read as 5 series of 16 channels and 64 samples; if these are swapped, name" in capfd.readouterr().err
    np.savez(path, X=stack, time=np.arange(64) / 10, fs=10)
    assert items(path)[1].value.samples.shape == (64, 16)
    np.savez(path, X=np.tile(stack, (4, 1, 1))[:16], time=np.arange(16) / 10, fs=10)
    with pytest.raises(DataError, match=r"unclear whether `time` holds the times within series.*`channels`"):
        items(path)


@pytest.mark.parametrize("shape", [(100,), (100, 1), (1, 100)])
@pytest.mark.parametrize("others", [("y", "z"), ("y",), ("gyro",)])
def test_a_channel_beside_arrays_as_long_is_asked_about(shape: tuple[int, ...], others: tuple[str, ...], tmp_path: Path) -> None:
    value = np.random.default_rng(0).normal(size=shape)
    np.savez(tmp_path / "x.npz", x=value, sample_rate_hz=10, **dict.fromkeys(others, value))
    with pytest.raises(DataError, match=f"as long as `{others[0]}`.*columns of one array.*`channels`"):
        items(tmp_path / "x.npz")


def test_times_and_labels_beside_a_channel_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros(100), time=np.arange(100) / 10, activity=np.arange(100) // 50, sample_rate_hz=10)
    assert items(tmp_path / "x.npz")[0].value.samples.shape == (100, 1)
    assert "left out of" in (said := capfd.readouterr().err) and "time, activity" in said


@pytest.mark.parametrize("name", ["Fs", "FS", "SampleRate", "srate", "sampling_rate"])
def test_a_rate_is_found_by_any_of_its_names(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for rate in (50, np.array([50]), np.array([[50]])):
        np.savez(tmp_path / "x.npz", signal=np.zeros((9, 2)), **{name: rate})
        assert items(tmp_path / "x.npz", source_rate_hz=100)[0].value.rate_hz == 50
        assert f"states 50 Hz in `{name}`, which holds" in capfd.readouterr().err
    np.savez(tmp_path / "x.npz", signal=np.zeros((9, 2)), sample_rate_hz=10, **{name: 50})
    with pytest.raises(DataError, match=f"several sample rates: `sample_rate_hz` 10 Hz, `{name}` 50 Hz"):
        items(tmp_path / "x.npz")


def test_single_values_beside_a_series_are_its_labels_or_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for label in (np.array("walk"), np.array(["walk"]), np.array([[b"walk"]])):
        np.savez(tmp_path / "x.npz", signal=np.zeros((9, 2)), fs=50, label=label, gain=3)
        assert items(tmp_path / "x.npz")[0].labels == {"label": "walk"}
        assert ": gain (known" in capfd.readouterr().err
    assert items(tmp_path / "x.npz", label_columns=("gain",))[0].labels == {"gain": 3}
    assert ": label (known" in capfd.readouterr().err


def test_clips_are_cut_and_stay_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "long.npz", signal=series(2, 100), sample_rate_hz=RATE_HZ)
    found = items(tmp_path, clip=32)
    assert [item.key for item in found] == ["long-000000", "long-000032", "long-000064"]
    assert {item.group for item in found} == {"long"}
    np.testing.assert_array_equal(found[1].value.samples, series(2, 100)[32:64])
    with pytest.raises(DataError, match="longer than 1 s"):
        items(tmp_path, max_duration_s=1.0)


def test_rates_and_channels_meet() -> None:
    quick, slow = Signal(series(1, 4 * STEPS, 200.0), 200.0, ("ecg", "slope")), Signal(series(1), 50.0, ("slope", "ecg"))
    rows, settings = SignalPreparer.for_fitting([slow, slow, quick], {})
    assert settings == {"sample_rate_hz": 50.0, "channels": ["slope", "ecg"]} and rows[2].shape == (STEPS, 2)
    time = np.arange(4 * STEPS) / 200.0
    tone = Signal(np.stack([np.sin(2 * np.pi * 3 * time), 9.8 + 0 * time], 1).astype(np.float32), 200.0, ("ecg", "slope"))
    halved = prepared(tone, ("ecg",), 62.5, None)[:, 0]
    np.testing.assert_allclose(halved[10:-10], np.sin(2 * np.pi * 3 * np.arange(len(halved)) / 62.5)[10:-10], atol=0.01)
    assert np.abs(prepared(tone, ("slope",), 62.5, None) - 9.8).max() < 0.01, "no ripples at the ends"
    with pytest.raises(DataError, match="no channel 'emg'"):
        prepared(tone, ("emg",), 50.0, None)


def test_a_channel_that_the_first_series_lacks_is_asked_about_in_any_order() -> None:
    one, both = Signal(series(1)[:, :1], 50.0, ("ecg",)), Signal(series(2), 50.0, ("ecg", "slope"))
    with pytest.raises(DataError, match="some have a channel 'slope', the first one has ecg"):
        SignalPreparer.for_fitting([one, both], {})
    with pytest.raises(DataError, match="no channel 'slope'"):
        SignalPreparer.for_fitting([both, one], {})
    assert SignalPreparer.for_fitting([one, both], {"channels": "ecg"})[0][1].shape == (STEPS, 1)


def test_a_number_beyond_single_precision_is_refused_by_its_channel(tmp_path: Path) -> None:
    (tmp_path / "huge.csv").write_text("time_s,x\n" + "".join(f"{i / 10},{'1e300' if i == 7 else i * 0.3}\n" for i in range(20)))
    with pytest.raises(DataError, match="'x' is NaN or infinite in single precision at sample 7"):
        items(tmp_path / "huge.csv")


def test_a_narrow_codec_is_fitted() -> None:
    settings = {**CODEC, "sample_rate_hz": RATE_HZ, "channels": ["ecg", "slope"], "width": 8, "steps": 2}
    narrow = SignalCodecTokenizer.fit([series(number) for number in range(8)], settings, 0)
    assert len(narrow.encode([series(1)])[0])


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, SignalCodecTokenizer | SignalPatchTokenizer]:
    values = [series(number, STEPS - 8 * (number % 3)) for number in range(60)]
    settings = {"sample_rate_hz": RATE_HZ, "channels": ["ecg", "slope"], "patch": 8}
    codec = SignalCodecTokenizer.fit(values, {**settings, **CODEC, "steps": 200}, 0)
    return {"codec": codec, "patches": SignalPatchTokenizer.fit(values, {**settings, "write_as": "csv"}, 0)}


@pytest.mark.parametrize("scheme", ["codec", "patches"])
def test_tokens_hold_the_series(tokenizers: dict, scheme: str, tmp_path: Path) -> None:
    tokenizer = tokenizers[scheme]
    values = [series(number, steps) for number, steps in ((100, STEPS), (101, 61), (102, 3))]
    tokens = tokenizer.encode(values)
    assert [len(rows) for rows in tokens] == [15, 8, 1]
    decoded = tokenizer.decode(tokens)
    assert [rows.shape for rows in decoded] == [(120, 2), (64, 2), (8, 2)]
    limit = {"codec": 0.4, "patches": 0.001}[scheme]
    assert np.square((decoded[0] - values[0]) / tokenizer.scale).mean() < limit and tokenizer.report["mse"] < limit
    copy = from_bytes(to_bytes(tokenizer))
    assert fingerprint(copy) == fingerprint(tokenizer) and all(map(np.array_equal, copy.encode(values), tokens))
    assert all(map(np.array_equal, copy.decode(tokens), decoded))
    assert len(tokenizer.decode([tokens[0][:0]])[0]) == 0
    path = tokenizer.write(decoded[1], tmp_path / "x")
    assert path.suffix == {"codec": ".npz", "patches": ".csv"}[scheme]
    (again,) = items(path)
    np.testing.assert_allclose(again.value.samples, decoded[1], rtol=1e-6)
    assert again.value.rate_hz == RATE_HZ and np.array_equal(preparer_of(tokenizer)(again.value), again.value.samples)
    with pytest.raises(DataError, match="must be"):
        tokenizer.encode([values[0][:, :1]])


def test_patches_count_what_lies_beyond_training_data(tokenizers: dict) -> None:
    assert tokenizers["patches"].beyond(series(3)) == {} or max(tokenizers["patches"].beyond(series(3)).values()) < 5
    far = series(3)
    far[:7, 1] = 99
    assert tokenizers["patches"].beyond(far)["slope"] == 7


def test_a_thumbnail_shows_each_channel_as_a_line(tokenizers: dict) -> None:
    values = [series(number) for number in range(4)]
    draw = Thumbnails(tokenizers["codec"], values, (104, 76))
    pixels = np.asarray(draw(values[0]))
    blue, amber = ((pixels == colour).all(2) for colour in ((0x25, 0x63, 0xEB), (0xD9, 0x77, 0x06)))
    assert blue[:38].any() and not blue[38:].any() and amber[38:].any() and not amber[:38].any()
    assert draw(values[0][:1]).size == (104, 76) and draw(values[0][:0]).size == (104, 76)


@pytest.mark.parametrize("settings", [{"write_as": "edf"}, {"patch": 0}, {"sample_rate_hz": -1}, {"hop_ms": 3}])
def test_impossible_settings_are_refused(settings: dict) -> None:
    with pytest.raises(UsageError):
        SignalPatchTokenizer.fit([series(0)], {"sample_rate_hz": RATE_HZ, **settings}, 0)


@pytest.mark.thorough
@pytest.mark.parametrize(("scheme", "method"), [("codec", "commutative"), ("patches", "m3ae")])
def test_series_go_through_every_stage(scheme: str, method: str, tmp_path: Path, mmtool) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    for number in range(60):
        np.savez(folder / f"p{number:02d}.npz", signal=series(number), sample_rate_hz=RATE_HZ, channels=np.array(["ecg", "slope"]))
    notes = [f"p{i:02d},a {RHYTHMS[i % 4]} heart,{RHYTHMS[i % 4]}" for i in range(60)]
    (tmp_path / "notes.csv").write_text("key,text,rhythm\n" + "\n".join(notes) + "\n")
    settings = CODEC if scheme == "codec" else {"patch": 8}
    summary = tokenize("signal", [folder], tmp_path / "ecg.tar", name="ecg", scheme=scheme, settings=settings)
    assert (summary.kind, summary.scheme, summary.samples, summary.mean_length) == ("signal", scheme, 60, 15)
    tokenize("text", [tmp_path / "notes.csv"], tmp_path / "text.tar", name="text", options=SourceOptions(label_columns=("rhythm",)))
    shard([tmp_path / "ecg.tar", tmp_path / "text.tar"], tmp_path / "shards", protocol=MissingnessProtocol(missing_rate=0.2))
    small = {"preset": "tiny", "batch_tokens": 512, "compile": "off", "shape": {"depth": 1, "width": 32}, "warmup_steps": 2}
    pretrain(resolve(None, {**small, "method": method, "steps": 20, "learning_rate": 0.01}), tmp_path / "shards", tmp_path / "run")
    test = open_token_set(tmp_path / "shards", "test")
    impute_files(tmp_path / "run", test, tmp_path / "imputed", ImputeOptions(have=("text",), want=("ecg",)))
    lines = [json.loads(line) for line in (tmp_path / "imputed/imputed.jsonl").read_text().splitlines()]
    found = items(tmp_path / "imputed/ecg")
    assert len(found) == len(lines) == len(test) and all(item.value.channels == ("ecg", "slope") for item in found)
    evaluate([tmp_path / "run"], tmp_path / "shards/test", tmp_path / "report")
    report = json.loads((tmp_path / "report/report.json").read_text())
    assert report["meta"]["upper_bounds"]["accuracy"]["ecg"]["value"] > 0.8, "four rhythms are told apart"
    assert any(row["target"] == "ecg" and row["metric"] == "accuracy" for row in report["rows"])
    assert (tmp_path / "report/contact_sheet.png").exists() and not (tmp_path / "report/audio").exists()
    done = mmtool("tokenize", "signal", folder, "--tokenizer", tmp_path / "run", "--name", "ecg", "-o", tmp_path / "again.tar", "--json")
    assert done.code == 0 and json.loads(done.out)["tokenizer"] == summary.tokenizer
