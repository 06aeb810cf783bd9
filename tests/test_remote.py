"""Data in remote places: what is read there gives the same bytes as local files, and what is written there is whole or not there."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR
from threading import Thread
from typing import Any

import pytest
from conftest import SMALL, Raw, Result

import mmtool as package
from mmtool.common.copies import local_copies
from mmtool.common.errors import DataError, UsageError
from mmtool.common.urls import as_given, cache_folder, masked, packed, shown, unpacked

fsspec = pytest.importorskip("fsspec")
Mmtool = Callable[..., Result]
PATCHES = ("--fit", "--as", "patches", "--patch", "4", "--size", "8")


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """An empty store `memory://`, and an empty cache."""
    monkeypatch.setenv("MMTOOL_CACHE", str(tmp_path / "cache"))
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


def put(store: Any, source: Path, target: str) -> None:
    """Upload a file or folder."""
    for file in sorted(source.rglob("*")) if source.is_dir() else [source]:
        if file.is_file():
            below = file.relative_to(source).as_posix()
            store.pipe_file(f"{target}/{below}" if source.is_dir() else target, file.read_bytes())


@pytest.fixture
def fetched(store: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of all files that are fetched."""
    paths: list[str] = []
    get = type(store).get

    def counted(self: Any, rpath: list[str], lpath: list[str]) -> Any:
        paths.extend(rpath)
        return get(self, rpath, lpath)

    monkeypatch.setattr(type(store), "get", counted)
    return paths


def test_sources_give_the_same_bytes(mmtool: Mmtool, raw: Raw, store: Any, tmp_path: Path) -> None:
    put(store, raw.images, "/bucket/images")
    put(store, raw.values, "/bucket/values.csv")
    sources = ("image", raw.images, "memory://bucket/images/", PATCHES), ("table", raw.values, "memory://bucket/values.csv", ("--fit",))
    for kind, local, url, options in sources:
        here, there = tmp_path / f"{kind}.tar", tmp_path / f"{kind}-remote.tar"
        assert mmtool("tokenize", kind, local, *options, "-o", here).code == 0
        done = mmtool("tokenize", kind, url, *options, "-o", there)
        assert done.code == 0, done.err
        assert here.read_bytes() == there.read_bytes()


def test_a_pattern_is_what_the_shell_makes_of_it(mmtool: Mmtool, raw: Raw, store: Any, tmp_path: Path) -> None:
    put(store, raw.images, "/bucket/images")
    store.pipe_file("/bucket/images/.hidden0.png", b"not for a star")
    here, there = tmp_path / "here.tar", tmp_path / "there.tar"
    assert mmtool("tokenize", "image", *sorted(raw.images.glob("case[01]?.png")), *PATCHES, "-o", here).code == 0
    done = mmtool("tokenize", "image", "memory://bucket/images/case[01]?.png", *PATCHES, "-o", there)
    assert done.code == 0, done.err
    assert here.read_bytes() == there.read_bytes()
    done = mmtool("tokenize", "image", "memory://bucket/images/*.jpg", *PATCHES, "-o", tmp_path / "none.tar")
    assert done.code == 1 and "memory://bucket/images/*.jpg" in done.err
    done = mmtool("info", "memory://bucket/images/*.png")
    assert done.code == 2 and "40 files match" in done.err


def test_shards_and_runs(mmtool: Mmtool, project: Path, store: Any, tmp_path: Path) -> None:
    put(store, project / "shards", "/bucket/shards")
    put(store, project / "run", "/bucket/run")
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(SMALL | {"data": "memory://bucket/shards"}))
    done = mmtool("pretrain", "--config", settings, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert (tmp_path / "run/config.json").read_bytes() == (project / "run/config.json").read_bytes()
    for arguments in (["impute", "--want", "lab"], ["peek"]):
        verb, *options = arguments
        inputs = [["memory://bucket/run"], [project / "run"]] if verb == "impute" else [[], []]
        for run, data, output in zip(inputs, ("memory://bucket/shards", project / "shards"), ("there", "here"), strict=True):
            done = mmtool(verb, *run, data, "--split", "test", *options, "-o", tmp_path / verb / output)
            assert done.code == 0, done.err
        there, here = (files(tmp_path / verb / name) for name in ("there", "here"))
        assert there == here and here
    done = mmtool("lint", "memory://bucket/shards", "memory://bucket/run", "--json")
    assert done.code == 0 and json.loads(done.out) == {"memory://bucket/shards": [], "memory://bucket/run": []}
    assert json.loads(mmtool("info", "memory://bucket/run", "--json").out)["path"] == "memory://bucket/run"
    done = mmtool("lint", "memory://bucket/shards", "--repair")
    assert done.code == 2 and "memory://bucket/shards" in done.err


def files(folder: Path) -> dict[str, bytes]:
    """The content of all files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_python(raw: Raw, project: Path, store: Any, tmp_path: Path) -> None:
    put(store, raw.notes, "/bucket/notes.csv")
    put(store, project / "shards", "/bucket/shards")
    put(store, project / "run", "/bucket/run")
    package.tokenize("text", "memory://bucket/notes.csv", tmp_path / "text.tar", source={"label_columns": ("colour",)})
    assert (tmp_path / "text.tar").read_bytes() == (project / "text.tar").read_bytes()
    samples = package.open_shards("memory://bucket/shards", split="test")
    assert [sample.key for sample in samples] == [sample.key for sample in package.open_shards(project / "shards", split="test")]
    assert package.load("memory://bucket/run").modalities == ("lab", "text")
    assert package.lint("memory://bucket/shards") == []
    summary = package.shard([project / "text.tar", project / "lab.tar"], "memory://bucket/made")
    assert summary.output == "memory://bucket/made" and package.lint("memory://bucket/made") == []
    with pytest.raises(UsageError, match="as a text"):
        package.open_shards(Path("memory://bucket/shards"))


def test_fetched_once_for_each_version(raw: Raw, store: Any, fetched: list[str], tmp_path: Path) -> None:
    put(store, raw.values, "/bucket/values.csv")
    put(store, raw.notes, "/bucket/notes.csv")
    [[first]] = local_copies(["memory://bucket/values.csv"])
    assert local_copies(["memory://bucket/values.csv"]) == [[first]] and fetched == ["/bucket/values.csv"]
    local_copies(["memory://bucket"])
    assert fetched.count("/bucket/notes.csv") == 1
    before = first.read_bytes()
    store.pipe_file("/bucket/values.csv", before.replace(b"case00", b"case99"))
    [[second]] = local_copies(["memory://bucket/values.csv"])
    assert b"case99" in second.read_bytes() and first.read_bytes() == before  # which a command may still be reading
    second.unlink()
    assert b"case99" in local_copies(["memory://bucket/values.csv"])[0][0].read_bytes()


def test_without_a_version_it_is_fetched_each_time(store: Any, fetched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    info = type(store).info
    monkeypatch.setattr(type(store), "info", lambda self, path: {**info(self, path), "created": None})
    for content in (b"one", b"two", b"two"):
        store.pipe_file("/bucket/notes.txt", content)
        assert local_copies(["memory://bucket/notes.txt"])[0][0].read_bytes() == content
    assert len(fetched) == 3


def test_an_interrupted_download_does_not_count(mmtool: Mmtool, raw: Raw, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, raw.images, "/bucket/images")
    get = type(store).get

    def cut(self: Any, rpath: list[str], lpath: list[str]) -> None:
        get(self, rpath, lpath)
        os.truncate(lpath[-1], 10)

    def broken(self: Any, rpath: list[str], lpath: list[str]) -> None:
        cut(self, rpath, lpath)
        raise ConnectionResetError("reset by https://me:secret@host/x?signature=secret")

    for fault, words in ((cut, "10 of"), (broken, "ConnectionResetError")):
        with monkeypatch.context() as patch:
            patch.setattr(type(store), "get", fault)
            with pytest.raises(DataError, match=words) as caught:
                local_copies(["memory://bucket/images"])
        assert "memory://bucket/images" in str(caught.value) and "secret" not in str(caught.value)
        assert not any(path.is_file() and path.suffix != ".lock" for path in cache_folder().rglob("*"))
    [[copy]] = local_copies(["memory://bucket/images"])
    assert files(copy) == files(raw.images)


@pytest.mark.parametrize("name", ["../../stolen.png", "a/../../../../stolen.png", "a//b.png", "x\0y.png", "n" * 300])
def test_hostile_names_never_leave_the_cache(name: str, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe_file("/bucket/images/a.png", b"fine")
    listed = {f"/bucket/images/{name}": {"name": name, "size": 4, "type": "file", "created": 1.0}}
    monkeypatch.setattr(type(store), "find", lambda self, path, detail=False: listed if detail else [*listed])
    with pytest.raises(DataError, match="cannot be the path of a file"):
        local_copies(["memory://bucket/images"])
    assert not list(tmp_path.rglob("*stolen*")) and not list(tmp_path.parent.glob("*stolen*"))


def test_what_the_listing_says_of_elsewhere_is_refused(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store.pipe_file("/bucket/images/a.png", b"fine")
    listed = {"/other/b.png": {"name": "/other/b.png", "size": 4, "type": "file", "created": 1.0}}
    monkeypatch.setattr(type(store), "find", lambda self, path, detail=False: listed)
    with pytest.raises(DataError, match="lies elsewhere"):
        local_copies(["memory://bucket/images"])


def test_errors_name_the_url(mmtool: Mmtool, raw: Raw, store: Any, tmp_path: Path) -> None:
    put(store, raw.images, "/bucket/images")
    store.pipe_file("/bucket/images/case07.png", b"no picture")
    done = mmtool("tokenize", "image", "memory://bucket/images", *PATCHES, "-o", tmp_path / "x.tar")
    assert done.code == 1 and "memory://bucket/images/case07.png" in done.err and "cache" not in done.err
    done = mmtool("tokenize", "image", "memory://bucket/images", *PATCHES, "--on-error", "skip", "-o", tmp_path / "x.tar")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "x.tar.rejects.jsonl").read_text())["file"] == "memory://bucket/images/case07.png"
    done = mmtool("pretrain", "memory://bucket/none", "-o", tmp_path / "run")
    assert done.code == 1 and "memory://bucket/none: there is no such file or folder." in done.err


def test_credentials_are_shown_nowhere() -> None:
    secrets = (
        "https://me:secret@host/a.csv",
        "https://host/a.csv?X-Amz-Signature=secret",
        "https://host/a.csv?secret",
        "s3://b/a?key=secret",
    )
    for url in secrets:
        assert "secret" not in shown(url) and "secret" not in masked(f"cannot open '{url}', try again")
        assert shown(url).startswith(url.partition("://")[0]) and masked(f"cannot open {url}, twice").startswith("cannot open ")
    assert shown("s3://bucket/case?.png") == "s3://bucket/case?.png"


def test_urls_survive_being_paths() -> None:
    url = "https://host//a b/ü.csv?next=http://x/&y=%20"
    for argument in (url, f"image={url}", f"--output={url}", f"--raw=image={url}", f"-o{url}"):
        assert packed(argument) != argument and unpacked(str(Path(packed(argument)))) == argument
    for argument in ("shards/", "image=shards/", "C:/data", "-o", "hf:encodec/", "--label-pattern=(?P<group>a)"):
        assert packed(argument) == argument


def test_texts_that_look_like_urls_stay_texts(mmtool: Mmtool, tmp_path: Path) -> None:
    column = "http://127.0.0.1:9/terms/note"
    (tmp_path / "notes.csv").write_text(f"key,{column}\n" + "".join(f"{i},a note\n" for i in range(9)))
    (tmp_path / "settings.json").write_text(json.dumps({"text_column": column}))
    one, two, three = (tmp_path / f"{name}.tar" for name in ("one", "two", "three"))
    arguments = ("tokenize", "text", tmp_path / "notes.csv", "--fit")
    assert mmtool(*arguments, "--text-column", column, "-o", one).code == 0
    assert mmtool(*arguments, "--config", f"file://{tmp_path}/settings.json", "-o", two).code == 0
    package.tokenize("text", tmp_path / "notes.csv", three, source={"text_column": column})
    assert one.read_bytes() == two.read_bytes() == three.read_bytes()
    done = mmtool(*arguments, "--config", "http://me:secret@host/settings.json", "-o", tmp_path / "four.tar")
    assert done.code == 2 and "this machine" in done.err and "host/settings.json" in done.err and "secret" not in done.err
    done = mmtool("settings", "http://me:secret@host/x")
    assert done.code == 2 and "'http://***@host/x'" in done.err


def test_settings_are_printed_with_urls_as_given(mmtool: Mmtool, tmp_path: Path) -> None:
    done = mmtool("pretrain", "https://host//shards/", "-o", tmp_path / "run", "--print-config")
    assert done.code == 0 and "https://host//shards/" in done.out
    done = mmtool("info", "s3://one", "s3://two")
    assert done.code == 2 and "s3://two" in done.err


def test_missing_packages_are_named(mmtool: Mmtool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for protocol, package_name in (("s3", "s3fs"), ("gs", "gcsfs"), ("hf", "huggingface_hub"), ("https", "'mmtool[remote]'")):
        for module in ("s3fs", "gcsfs", "huggingface_hub", "aiohttp", "fsspec.implementations.http"):
            monkeypatch.setitem(sys.modules, module, None)
        done = mmtool("info", f"{protocol}://bucket/shards")
        assert done.code == 2 and f"pip install {package_name}`" in done.err, done.err
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert "pip install 'mmtool[remote]'" in mmtool("info", "memory://bucket/shards").err
    assert mmtool("info", "nonsense://bucket/shards").code == 2


def test_outputs_are_sent_whole(mmtool: Mmtool, raw: Raw, project: Path, store: Any, tmp_path: Path) -> None:
    url = "memory://bucket/text.tar"
    made = ("tokenize", "text", raw.notes, "--label", "colour", "--fit", "-o")
    done = mmtool(*made, url, "--json")
    assert done.code == 0, done.err
    assert store.cat_file("/bucket/text.tar") == (project / "text.tar").read_bytes() and json.loads(done.out)["modality"] == "text"
    done = mmtool(*made, url)
    assert done.code == 2 and f"{url}: the output exists already" in done.err
    assert mmtool(*made, url, "--force").code == 0
    done = mmtool("shard", url, project / "lab.tar", "-o", "memory://bucket/shards", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["output"] == "memory://bucket/shards"
    sent = {path.removeprefix("/bucket/shards/"): store.cat_file(path) for path in store.find("/bucket/shards")}
    assert sent == files(project / "shards")
    done = mmtool("shard", url, "-o", "memory://bucket", "--force")
    assert done.code == 2 and "input" in done.err
    assert sorted(store.ls("/bucket", detail=False)) == ["/bucket/shards", "/bucket/text.tar"]
    assert not list((cache_folder() / "outgoing").iterdir())


def test_a_cache_that_cannot_be_written_is_named(
    mmtool: Mmtool, project: Path, store: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store.pipe_file("/bucket/text.tar", (project / "text.tar").read_bytes())
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMTOOL_CACHE", str(tmp_path / "file"))
    for arguments in (["info", "memory://bucket/text.tar"], ["shard", project / "lab.tar", "-o", "memory://bucket/text.tar", "--force"]):
        done = mmtool(*arguments)
        assert done.code == 1 and str(tmp_path / "file") in done.err and "the system refused" in done.err


def test_without_a_home(monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
    store.pipe_file("/bucket/notes.txt", b"a note")
    monkeypatch.setenv("MMTOOL_CACHE", "~nobody-of-this-name/cache")
    assert str(DataError("it is empty.", where="/data/copies/notes.txt")) == "/data/copies/notes.txt: it is empty."
    with pytest.raises(UsageError, match="MMTOOL_CACHE"):
        local_copies(["memory://bucket/notes.txt"])


def test_a_protocol_alone_is_no_output(mmtool: Mmtool, project: Path, store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("memory://", "memory:///"):
        done = mmtool("shard", project / "text.tar", "-o", url)
        assert done.code == 2 and "no name of an output" in done.err
    assert not list(tmp_path.glob("memory*")) and not store.find("/")


def test_force_replaces_nothing_but_ours(mmtool: Mmtool, project: Path, store: Any) -> None:
    arguments = ("shard", project / "text.tar", project / "lab.tar", "--force", "-o", "memory://bucket/shards")
    assert mmtool(*arguments).code == 0
    store.pipe_file("/bucket/shards/train/00007.tar", b"of somebody")
    done = mmtool(*arguments)
    assert done.code == 2 and "00007.tar" in done.err
    store.rm_file("/bucket/shards/train/00007.tar")
    assert mmtool(*arguments, "--samples-per-shard", "10").code == 0
    assert "/bucket/shards/train/00002.tar" in store.find("/bucket/shards")
    assert mmtool(*arguments).code == 0
    assert "/bucket/shards/train/00002.tar" not in store.find("/bucket/shards")
    assert package.lint("memory://bucket/shards") == []


def test_what_makes_an_artefact_comes_last(project: Path, store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    copy = type(store).copy

    def recorded(self: Any, here: list[str], there: list[str]) -> None:
        copied.extend(there)
        if copied[-1].endswith("validation/index.json"):
            raise ConnectionResetError("gone")
        copy(self, here, there)

    monkeypatch.setattr(type(store), "copy", recorded)
    with pytest.raises(DataError, match=r"was not sent.*whole in") as caught:
        package.shard([project / "text.tar", project / "lab.tar"], "memory://bucket/shards")
    assert [path.rpartition("/")[2] for path in copied[-3:]] == ["index.json"] * 3
    assert {path.rpartition("/")[2] for path in store.find("/bucket")} == {"00000.tar"}
    [kept] = (cache_folder() / "kept").glob("*/shards")
    assert str(kept) in str(caught.value) and files(kept) == files(project / "shards")


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "adapt", "compare"])
def test_outputs_that_are_continued_stay_here(mmtool: Mmtool, project: Path, store: Any, verb: str) -> None:
    runs = [project / "run"] if verb == "finetune" else []
    done = mmtool(verb, *runs, project / "shards", "-o", "memory://bucket/out")
    assert done.code == 2 and "memory://bucket/out" in done.err and "local folder" in done.err
    assert not store.find("/bucket")


def test_file_urls_are_paths(mmtool: Mmtool, project: Path, tmp_path: Path) -> None:
    done = mmtool("info", f"file://{project}/text.tar", "--json")
    assert done.code == 0 and json.loads(done.out)["path"] == str(project / "text.tar")
    assert not cache_folder().exists()
    assert mmtool("info", "file://elsewhere/text.tar").code == 2


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The address of a web server, and the folder that it serves."""
    pytest.importorskip("aiohttp")
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(Handler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


class Handler(SimpleHTTPRequestHandler):
    """Refuses what is below `private`, and says nothing."""

    def send_head(self) -> Any:
        return self.send_error(403) if "/private" in self.path else super().send_head()

    def log_message(self, *arguments: Any) -> None:
        pass


def test_links_that_lead_nowhere_and_in_circles_are_named(mmtool: Mmtool, raw: Raw, server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    for name in ("dead", "circle"):
        shutil.copytree(raw.images, folder / name / "pictures")
    (folder / "dead" / "gone.png").symlink_to("nowhere.png")
    (folder / "circle" / "pictures" / "up").symlink_to("..")
    for name, words in (("dead", f"{url}/dead/gone.png: there is no such file"), ("circle", "leads in a circle")):
        done = mmtool("tokenize", "image", f"{url}/{name}/", *PATCHES, "-o", tmp_path / "x.tar")
        assert done.code == 1 and words in done.err and not (tmp_path / "x.tar").exists()


def test_pages_as_other_servers_write_them(server: tuple[str, Path]) -> None:
    url, folder = server
    home = folder / "v1.0"
    home.mkdir()
    for name in ("a&b.csv", "c d.csv", "e:f.csv"):
        (home / name).write_text(name)
    links = ("../", "./", "?C=M;O=D", "/", "a&amp;b.csv", "./c%20d.csv", "./e:f.csv", "https://elsewhere/x.csv", "../../secret")
    (home / "index.html").write_text("".join(f'<a href="{link}">x</a>' for link in links))
    for address in (f"{url}/v1.0/", f"{url}/v1.0"):
        [[copy]] = local_copies([address])
        assert sorted(files(copy)) == ["a&b.csv", "c d.csv", "e:f.csv"]


def test_addresses_that_differ_in_their_queries_are_not_taken_for_one(server: tuple[str, Path]) -> None:
    url, folder = server
    (folder / "get.csv").write_text("key,text")
    with pytest.raises(UsageError, match="the same name") as caught:
        local_copies([f"{url}/get.csv?id=1", f"{url}/get.csv?id=2"])
    assert f"{url}/get.csv" in str(caught.value) and "id=" not in str(caught.value)
    [[one], [other]] = local_copies([f"{url}/get.csv", f"{url}/%67et.csv"])
    assert one == other


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often the server has still to fail, by what it does; `asked`: how often a file was asked for."""
    counts = {"503": 0, "reset": 0, "cut": 0, "asked": 0}
    whole = Handler.send_head

    def send_head(self: Handler) -> Any:
        counts["asked"] += 1
        for failure in ("503", "reset", "cut"):
            if counts[failure] and (failure != "cut" or self.command == "GET"):
                counts[failure] -= 1
                if failure == "503":
                    return self.send_error(503)
                if failure == "cut":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b"half")
                self.close_connection = True
                self.connection.shutdown(SHUT_RDWR)
                return None
        return whole(self)

    monkeypatch.setattr(Handler, "send_head", send_head)
    monkeypatch.setattr("mmtool.common.remote.WAITS_S", (0.0, 0.0, 0.0))
    return counts


@pytest.mark.parametrize("failure", ["503", "reset", "cut"])
def test_a_failure_that_passes_is_no_error(
    failure: str, server: tuple[str, Path], failing: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    url, folder = server
    (folder / "values.csv").write_text("key,a\nx,1\n")
    failing[failure] = 5 if failure == "reset" else 3  # some of which aiohttp makes up for by itself
    [[copy]] = local_copies([f"{url}/values.csv?token=secret"])
    assert copy.read_text() == "key,a\nx,1\n" and failing[failure] == 0
    said = capsys.readouterr().err
    assert f"{url}/values.csv?***: " in said and "; asking again in 0 s" in said and "secret" not in said


def test_a_failure_that_stays_is_an_error_and_what_is_not_there_is_asked_for_once(
    server: tuple[str, Path], failing: dict[str, int]
) -> None:
    url, folder = server
    (folder / "values.csv").write_text("key,a\nx,1\n")
    with pytest.raises(DataError, match=r"none\.csv: there is no such file"):
        local_copies([f"{url}/none.csv"])
    assert failing["asked"] == 2, "HEAD and GET"
    failing["503"] = 1000
    with pytest.raises(DataError, match=r"values\.csv: it cannot be reached \(.*503"):
        local_copies([f"{url}/values.csv"])
    assert failing["asked"] == 2 + 2 * 4


@pytest.mark.parametrize("as_said", [True, False])
@pytest.mark.parametrize("name", ["values.csv", "x.npz", "x.png", "x.wav"])
def test_a_page_in_the_place_of_a_file_is_refused(
    name: str, as_said: bool, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = server
    (folder / name).write_text("\n<!DOCTYPE html><title>Log in</title>" if not as_said else "Please log in.")
    if as_said:
        monkeypatch.setattr(Handler, "guess_type", lambda self, path: "text/html; charset=utf-8")
    with pytest.raises(DataError, match=rf"{name}: the server answered with a web page"):
        local_copies([f"{url}/{name}"])
    assert not list((cache_folder() / "files").rglob("*")), "so that the next time it is fetched again"
    (folder / "notes.html").write_text("<html>")
    assert local_copies([f"{url}/notes.html"])[0][0].read_text() == "<html>"


def test_the_web(mmtool: Mmtool, raw: Raw, server: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = server
    shutil.copytree(raw.images, folder / "our images" / "one")
    (folder / "our images" / "index.txt").write_text("no picture")
    shutil.copy(raw.values, folder)
    [[images], [values], matched] = local_copies(
        [f"{url}/our%20images/", f"{url}/values.csv?token=secret", f"{url}/our%20images/one/case1*.png"]
    )
    assert files(images) == files(folder / "our images") and as_given(str(images)) == f"{url}/our images"
    assert values.read_bytes() == raw.values.read_bytes() and "secret" not in "".join(map(str, cache_folder().rglob("*")))
    assert [path.name for path in matched] == [f"case1{i}.png" for i in range(10)]
    assert local_copies([f"{url}/our%20images"])[0][0].name == "our images"  # the server adds the slash
    for address, words in (("none.csv?token=secret", "no such file"), ("private/x.csv?token=secret", "access is refused")):
        done = mmtool("tokenize", "table", f"{url}/{address}", "--fit", "-o", tmp_path / "x.tar")
        assert done.code == 1 and words in done.err and "secret" not in done.err and url in done.err
    done = mmtool("tokenize", "table", raw.values, "--fit", "-o", f"{url}/x.tar")
    assert done.code == 2 and "a web server takes no files" in done.err
    done = mmtool("tokenize", "table", "http://me:secret@127.0.0.1:1/x.csv", "--fit", "-o", tmp_path / "x.tar")
    assert done.code == 1 and "127.0.0.1:1/x.csv: it cannot be reached" in done.err and "secret" not in done.err
