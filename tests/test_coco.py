"""fst.training.coco on a small archive made like COCO's, served on this machine."""

import hashlib
import io
import random
import shutil
import threading
import zipfile
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fst.download import DownloadError
from fst.errors import FstError, UsageError
from fst.training.coco import COCO_ARCHIVES, Archive, CocoProgress, fetch_coco

PICTURES = {f"{number:012}.jpg": random.Random(number).randbytes(3000 + number) for number in range(12)}


def zipped(members: dict[str, bytes], *, how: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        archive.mkdir("train2017")
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


GOOD = zipped({f"train2017/{name}": content for name, content in PICTURES.items()} | {"README.txt": b"about"})


@dataclass
class Published:
    """A web server with one archive, and how often it was asked."""

    folder: Path
    url: str
    asked: list[str]

    def archive(self, content: bytes = GOOD, *, md5: bool = True) -> dict[str, Archive]:
        (self.folder / "train2017.zip").write_bytes(content)
        digits = hashlib.md5(content, usedforsecurity=False).hexdigest() if md5 else None
        return {"train2017": Archive(self.url, len(content), len(PICTURES), digits)}


@pytest.fixture
def published(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Published]:
    monkeypatch.setenv("no_proxy", "*")
    folder, asked = tmp_path_factory.mktemp("published"), []

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *_: Any) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield Published(folder, f"http://127.0.0.1:{running.server_address[1]}/train2017.zip", asked)
        running.shutdown()
        thread.join()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_published_archives_are_described() -> None:
    """Sizes, counts and hashes as several public projects state them."""
    assert COCO_ARCHIVES["train2017"].pictures == 118_287
    assert COCO_ARCHIVES["val2017"].pictures == 5_000
    for split, archive in COCO_ARCHIVES.items():
        assert archive.url.endswith(f"/{split}.zip")
        assert archive.md5 is not None
        assert len(archive.md5) == 32


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("md5", [True, False])
def test_all_pictures_arrive_and_the_archive_goes(published: Published, tmp_path: Path, how: int, md5: bool) -> None:
    content = zipped({f"train2017/{name}": picture for name, picture in PICTURES.items()}, how=how)
    seen: list[CocoProgress] = []
    root = tmp_path / "new" / "coco"
    folder = fetch_coco(root, archives=published.archive(content, md5=md5), on_progress=seen.append)
    assert folder == root / "train2017"
    assert contents(folder) == PICTURES
    assert [path.name for path in root.iterdir()] == ["train2017"]
    assert CocoProgress("download", len(content), len(content), "bytes") in seen
    assert seen[-1] == CocoProgress("unpack", 12, 12, "pictures")
    assert [tick.stage for tick in seen] == sorted(tick.stage for tick in seen)


def test_nothing_is_fetched_when_all_is_there(published: Published, tmp_path: Path) -> None:
    archives = published.archive()
    fetch_coco(tmp_path, archives=archives)
    published.asked.clear()
    fetch_coco(tmp_path, archives=archives)
    assert published.asked == []


@pytest.mark.parametrize("md5", [True, False])
def test_a_kept_archive_serves_again(published: Published, tmp_path: Path, md5: bool) -> None:
    archives = published.archive(md5=md5)
    folder = fetch_coco(tmp_path, archives=archives, keep_archive=True)
    assert (tmp_path / "train2017.zip").read_bytes() == GOOD
    published.asked.clear()
    shutil.rmtree(folder)
    fetch_coco(tmp_path, archives=archives)
    assert published.asked == []
    assert contents(folder) == PICTURES
    assert not (tmp_path / "train2017.zip").exists()


def test_an_interrupted_unpacking_goes_on(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives, copy, written = published.archive(), shutil.copyfileobj, 0

    def interrupted(source: Any, file: Any, length: int) -> None:
        nonlocal written
        written += 1
        if written == 6:
            file.write(b"half")
            raise KeyboardInterrupt
        copy(source, file, length)

    (tmp_path / "train2017.zip").write_bytes(GOOD)  # not served: the server copies with the same function
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fetch_coco(tmp_path, archives=archives)
    folder = tmp_path / "train2017"
    assert len(list(folder.iterdir())) == 5
    first, *_, second = sorted(folder.iterdir())
    second.write_bytes(b"cut short")
    (folder / ".000000000007.abcd.part.jpg").write_bytes(b"left by a killed run")
    unchanged = first.stat().st_mtime_ns
    published.asked.clear()
    seen: list[CocoProgress] = []
    fetch_coco(tmp_path, archives=archives, on_progress=seen.append)
    assert published.asked == []
    assert seen[0] == CocoProgress("unpack", 4, 12, "pictures")
    assert first.stat().st_mtime_ns == unchanged
    assert {name: picture for name, picture in contents(folder).items() if name in PICTURES} == PICTURES


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_picture_is_said_with_the_archive_and_kept_out(
    published: Published, tmp_path: Path, how: int
) -> None:
    content = bytearray(zipped({f"train2017/{name}": picture for name, picture in PICTURES.items()}, how=how))
    at = content.index(b"train2017/000000000003.jpg") + 1000
    content[at : at + 40] = bytes(40)
    with pytest.raises(
        FstError, match=r"train2017\.zip is damaged \(.*000000000003\.jpg.*\): delete it and run"
    ) as error:
        fetch_coco(tmp_path, archives=published.archive(bytes(content)))
    assert "\n" not in str(error.value)
    assert sorted(contents(tmp_path / "train2017")) == sorted(PICTURES)[:3]
    assert (tmp_path / "train2017.zip").exists()


def test_what_is_no_archive_is_said(published: Published, tmp_path: Path) -> None:
    with pytest.raises(FstError, match=r"train2017\.zip is damaged \(File is not a zip file\)"):
        fetch_coco(tmp_path, archives=published.archive(b"<html>sorry</html>"))


def test_an_archive_of_another_size_or_hash_is_not_unpacked(published: Published, tmp_path: Path) -> None:
    archives = published.archive()
    (published.folder / "train2017.zip").write_bytes(GOOD + b"more")
    with pytest.raises(DownloadError, match="too big"):
        fetch_coco(tmp_path, archives=archives)
    (published.folder / "train2017.zip").write_bytes(GOOD[:-4])
    with pytest.raises(DownloadError, match="did not give the file wanted"):
        fetch_coco(tmp_path, archives=archives)
    assert list(tmp_path.iterdir()) == []


def test_missing_pictures_are_said_and_the_archive_kept(published: Published, tmp_path: Path) -> None:
    archives = published.archive()
    archives["train2017"] = replace(archives["train2017"], pictures=13)
    with pytest.raises(FstError, match="gave 12 pictures, wanted 13"):
        fetch_coco(tmp_path, archives=archives)
    assert (tmp_path / "train2017.zip").exists()


@pytest.mark.parametrize(
    "name", ["../outside.jpg", "/outside.jpg", "train2017/../../outside.jpg", "train2017\\..\\o.jpg"]
)
def test_nothing_is_written_outside_the_folder(published: Published, tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    with pytest.raises(FstError, match="would land outside"):
        fetch_coco(root, archives=published.archive(zipped({"train2017/a.jpg": b"a", name: b"evil"})))
    assert not (root / "train2017").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"]


def test_what_is_no_picture_of_the_split_stays_in_the_archive(published: Published, tmp_path: Path) -> None:
    strange = {
        "train2017/.hidden.jpg": b"h",
        "train2017/notes.txt": b"n",
        "other/x.jpg": b"x",
        "train2017/deep/y.jpg": b"y",
    }
    members = {f"train2017/{name}": picture for name, picture in PICTURES.items()} | strange
    folder = fetch_coco(tmp_path, archives=published.archive(zipped(members)))
    assert contents(folder) == PICTURES


def test_too_little_room_is_refused_before_fetching_and_before_unpacking(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    archives = published.archive()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 2 * len(GOOD) - 1))
    with pytest.raises(FstError, match="no room for the pictures in"):
        fetch_coco(tmp_path, archives=archives)
    assert published.asked == []
    (tmp_path / "train2017.zip").write_bytes(GOOD)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 0, 1000))
    with pytest.raises(FstError, match="no room for the pictures in"):
        fetch_coco(tmp_path, archives=archives)
    assert contents(tmp_path / "train2017") == {}
    assert (tmp_path / "train2017.zip").exists()


def test_an_unknown_split_and_an_impossible_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="COCO has no split 'train2018': did you mean train2017"):
        fetch_coco(tmp_path, "train2018")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FstError, match="cannot make the folder"):
        fetch_coco(tmp_path / "file")
