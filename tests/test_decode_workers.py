"""Files are decoded in other processes: with the same result in any number of them, and a sample is all that a crash, a hang or a lack of
memory costs."""

import ctypes
import faulthandler
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Raw, Result
from PIL import Image

from mmtool.common.errors import DataError, UsageError
from mmtool.common.storage import sha256_file
from mmtool.data.shards import open_token_set
from mmtool.preprocessing import messages, worker_process
from mmtool.preprocessing import workers as workers_module
from mmtool.preprocessing.decoding import Decoding, Steps
from mmtool.preprocessing.readers import images
from mmtool.preprocessing.readers.entries import Entry, Tally
from mmtool.preprocessing.readers.raw_files import RawFile
from mmtool.preprocessing.sources import Item, Reject, SourceOptions, read_items
from mmtool.preprocessing.tokenize import tokenize

Mmtool = Callable[..., Result]
TIMEOUT_S = 1.0
BAD, NUM_PICTURES = "007", 60
WORKERS = (0, 1, 2, 3)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder, random = tmp_path / "pictures", np.random.default_rng(0)
    folder.mkdir()
    for number in range(NUM_PICTURES):
        Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert not multiprocessing.active_children()


def read(folder: Path, workers: int, **options: Any) -> tuple[dict[str, Item], list[Reject]]:
    rejects: list[Reject] = []
    decoding = Decoding(workers, TIMEOUT_S, memory_bytes=1 << 30)
    items = read_items("image", [folder], SourceOptions(**options), rejects, decoding=decoding)
    return {item.key: item for item in items}, rejects


def decoder_that(monkeypatch: pytest.MonkeyPatch, harm: Callable[[], Any]) -> None:
    """Do harm instead of decoding the picture BAD."""
    decode = images.decode

    def decode_or_not(file: RawFile, options: SourceOptions) -> np.ndarray:
        if Path(file.where).stem == BAD:
            harm()
        return decode(file, options)

    monkeypatch.setattr(images, "decode", decode_or_not)


def crash(number: signal.Signals) -> None:
    faulthandler.disable()  # of pytest, whose traces nobody needs
    os.kill(os.getpid(), number)


def hang_for_good() -> None:
    ctypes.PyDLL(None).sleep(1000)  # as C does that never gives Python a chance


def exhaust_memory() -> None:
    np.ones(2 << 30, np.uint8)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder_that(monkeypatch, hang_for_good)


HARM: dict[str, tuple[Callable[[], Any], str]] = {
    "abort": (lambda: crash(signal.SIGABRT), "crashed (SIGABRT)"),
    "segmentation fault": (lambda: crash(signal.SIGSEGV), "crashed (SIGSEGV)"),
    "killed by the system": (lambda: crash(signal.SIGKILL), "where memory runs out"),
    "exit": (lambda: os._exit(3), "ended with the code 3"),
    "hang": (hang_for_good, "took longer than 1 s"),
    "memory": (exhaust_memory, "more memory than there is"),
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("harm", HARM)
def test_a_decoder_that_does_harm_costs_its_sample(pictures: Path, harm: str, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = read(pictures, 0)
    decoder_that(monkeypatch, HARM[harm][0])
    items, rejects = read(pictures, workers, on_error="skip")
    assert list(items) == [key for key in whole if key != BAD]
    assert all(np.array_equal(items[key].value, whole[key].value) for key in items)
    (reject,) = rejects
    assert (reject.file, reject.key) == (str(pictures / f"{BAD}.png"), BAD) and HARM[harm][1] in reject.reason
    with pytest.raises(DataError, match=rf"{BAD}\.png: ") as refused:
        read(pictures, workers)
    assert HARM[harm][1] in str(refused.value)


def test_several_harmful_samples_are_each_named(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decode, bad = images.decode, {"003", "004", "020", "059"}

    def decode_or_not(file: RawFile, options: SourceOptions) -> np.ndarray:
        if Path(file.where).stem in bad:
            crash(signal.SIGABRT)
        return decode(file, options)

    monkeypatch.setattr(images, "decode", decode_or_not)
    items, rejects = read(pictures, 3, on_error="skip")
    assert [reject.key for reject in rejects] == sorted(bad) and len(items) == NUM_PICTURES - len(bad)


@pytest.mark.parametrize("harm", ["abort", "hang"])
def test_a_reader_that_does_harm_costs_its_file_from_there_on(pictures: Path, harm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read_images = images.read_images

    def read_or_not(file: RawFile, options: SourceOptions) -> Iterator[Any]:
        (entry,) = read_images(file, options)
        yield entry
        if file.stem == BAD:
            yield replace(entry, key="second")
            HARM[harm][0]()
            yield replace(entry, key="third")

    monkeypatch.setattr(images, "read_images", read_or_not)
    items, rejects = read(pictures, 2, on_error="skip")
    expected = [f"{number:03d}" for number in range(NUM_PICTURES)]
    assert list(items) == [*expected[: int(BAD) + 1], "second", *expected[int(BAD) + 1 :]]
    (reject,) = rejects
    assert reject.file == str(pictures / f"{BAD}.png") and HARM[harm][1] in reject.reason


def test_an_encoder_that_does_harm_costs_its_sample(pictures: Path) -> None:
    from mmtool.preprocessing.encode import Encoder
    from mmtool.tokenizers.image import ImageFormat, ImagePatchTokenizer

    class Harmful(ImagePatchTokenizer):
        def encode(self, values: Any) -> list[np.ndarray]:
            if any(np.array_equal(value, bad) for value in values):
                crash(signal.SIGABRT)
            return super().encode(values)

    bad = np.asarray(Image.open(pictures / f"{BAD}.png"))[..., None]
    encoder, rejects = Encoder(Harmful(ImageFormat((8, 8), "L", 4)), "image"), list[Reject]()
    options, decoding = SourceOptions(on_error="skip"), Decoding(2, TIMEOUT_S)
    items = list(read_items("image", [pictures], options, rejects, decoding=decoding, steps=encoder.steps()))
    assert [reject.key for reject in rejects] == [BAD] and len(items) == NUM_PICTURES - 1
    assert all(tokens is not None and tokens.shape == (4, 16) for tokens in encoder(items))


@pytest.mark.parametrize("kind, settings", [("image", {"size": 8, "steps": 2}), ("audio", {"steps": 2}), ("text", {}), ("table", {})])
@pytest.mark.parametrize("augment", [0, 1])
def test_any_number_of_workers_gives_the_same_bytes(raw: Raw, kind: str, settings: dict[str, Any], augment: int, tmp_path: Path) -> None:
    if augment and kind in ("text", "table"):
        pytest.skip("these have no variants")
    paths = {"image": raw.images, "audio": raw.clips, "text": raw.notes, "table": raw.values}
    for workers in WORKERS:
        output, decoding = tmp_path / f"{workers}.tar", Decoding(workers)
        summary = tokenize(kind, [paths[kind]], output, name="m", settings=settings, augment=augment, decoding=decoding)
        assert summary.samples == 40 + summary.variants
    assert len({sha256_file(tmp_path / f"{workers}.tar") for workers in WORKERS}) == 1


def test_rejects_messages_and_absent_samples_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.txt").write_bytes({5: b"NA", 6: b" \n", 7: b"\xff\xfe\xff", 8: b"null"}.get(number, b"a note %d" % number))
    said = set()
    for workers in WORKERS:
        options, absent, rejects = SourceOptions(on_error="skip"), list[str](), list[Reject]()
        items = list(read_items("text", [folder], options, rejects, absent=absent, decoding=Decoding(workers)))
        assert [item.key for item in items][:3] == ["0", "1", "10"] and len(items) == 36
        assert sorted(absent) == ["5", "6", "8"] and [reject.key for reject in rejects] == ["7"]
        said.add(capsys.readouterr().err)
    assert len(said) == 1 and "texts taken as missing: 1 'NA', 1 'null'" in said.pop()


def test_errors_of_the_whole_come_from_workers_as_they_are(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n")
    for workers in WORKERS:
        with pytest.raises(DataError, match="no column is known to hold the keys"):
            list(read_items("table", [tmp_path / "t.csv"], SourceOptions(on_error="skip"), decoding=Decoding(workers)))
        with pytest.raises(UsageError, match="--lines has no effect"):
            list(read_items("text", [tmp_path / "t.csv"], SourceOptions(lines=True), check_options=True, decoding=Decoding(workers)))


def test_deep_pictures_are_looked_at_all_together(pictures: Path) -> None:
    for number, low in ((3, 5), (30, 1)):
        Image.fromarray(np.full((8, 8), low * 100, np.uint16)).save(pictures / f"{number:03d}.png")
    for workers in WORKERS:
        with pytest.raises(DataError, match="2 images have uint16 values, from 100 to 500"):
            read(pictures, workers)


def test_files_that_change_meanwhile_are_noticed(pictures: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    member_files = messages.member_files

    def differing(*arguments: Any) -> Iterator[Any]:
        files = list(member_files(*arguments))
        try:
            (tmp_path / "mark").touch(exist_ok=False)
            yield from files  # in the first process that comes by
        except FileExistsError:
            yield from files[:-2]

    monkeypatch.setattr(messages, "member_files", differing)
    with pytest.raises(DataError, match="changed while they were read"):
        read(pictures, 2)


def test_a_pipe_is_refused_at_once(pictures: Path, mmtool: Mmtool, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.png")
    os.mkfifo(tmp_path / "nameless")
    started = time.monotonic()
    for kind, name in (("image", "x.png"), ("table", "nameless")):
        done = mmtool("tokenize", kind, tmp_path / name, "--fit", "-o", tmp_path / "out.tar")
        assert done.code == 1 and "not a regular file" in done.err and name in done.err
    assert time.monotonic() - started < 30


@pytest.mark.usefixtures("hanging")
def test_the_command_line_names_the_sample_and_lists_it(pictures: Path, mmtool: Mmtool, tmp_path: Path) -> None:
    command = ["tokenize", "image", pictures, "--fit", "--as", "patches", "--workers", 2, "-o", tmp_path / "out.tar", "--timeout", 1]
    refused = mmtool(*command)
    assert refused.code == 1 and f"{BAD}.png" in refused.err and "took longer than 1 s" in refused.err
    assert not (tmp_path / "out.tar").exists()
    assert mmtool(*command, "--on-error", "skip").code == 0
    (line,) = (tmp_path / "out.tar.rejects.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == BAD and len(open_token_set(tmp_path / "out.tar")) == NUM_PICTURES - 1
    without = mmtool("tokenize", "image", pictures, "--fit", "--timeout", 3, "-o", tmp_path / "other.tar")
    assert without.code == 2 and "--timeout" in without.err and "--workers" in without.err


HANGING = """
import sys, ctypes
from pathlib import Path
from mmtool.preprocessing.readers import images
images.decode = lambda file, options: (print("hanging", flush=True), ctypes.PyDLL(None).sleep(1000))
from mmtool.cli.main import main
sys.argv = ["mmtool", "tokenize", "image", sys.argv[1], "--fit", "--workers", "2", "-o", sys.argv[2]]
main()
"""


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGKILL))]
)
def test_workers_end_with_their_parent(pictures: Path, number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HANGING, str(pictures), str(tmp_path / "out.tar")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as parent:
        assert parent.stdout is not None and [parent.stdout.readline() for _ in range(2)] == ["hanging\n"] * 2
        parent.send_signal(number)
        assert parent.stdout.read() == ""  # which ends when the last process that could write to it has
    assert not (tmp_path / "out.tar").exists()


def test_values_are_made_smaller_where_they_are_decoded(pictures: Path) -> None:
    for workers in (0, 2):
        steps = Steps(lambda picture: picture[:2])
        items = list(read_items("image", [pictures], SourceOptions(), decoding=Decoding(workers), steps=steps))
        assert {item.value.shape for item in items} == {(2, 8, 1)} and len(items) == NUM_PICTURES


def test_remarks_on_files_are_made_once(pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    read_images = images.read_images

    def with_tally(file: RawFile, options: SourceOptions) -> Iterator[Any]:
        yield from (entry for entry in read_images(file, options) if isinstance(entry, Entry))
        yield Tally("pictures: {}", {"grey": 1})

    monkeypatch.setattr(images, "read_images", with_tally)
    read(pictures, 3)
    assert f"pictures: {NUM_PICTURES} grey\n" in capsys.readouterr().err


def test_a_worker_that_does_not_begin_is_not_said_to_be_slow_at_a_file(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_process, "run_worker", lambda *_: time.sleep(60))
    monkeypatch.setattr(worker_process, "START_S", 0.3)
    monkeypatch.setattr(workers_module, "MAX_STARTS", 1)
    with pytest.raises(DataError, match="a process that reads files did not begin within") as raised:
        read(pictures, 1)
    assert "--timeout" not in str(raised.value) and "--workers" in str(raised.value)
