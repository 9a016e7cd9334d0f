"""The photos of COCO 2017, fetched from where they are published and unpacked: 118,287 to train on, 5,000 to check."""

import os
import re
import shutil
import time
import zipfile
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from fst.download import DownloadProgress, download
from fst.errors import FstError, UsageError, nearest
from fst.files import whole_file

_PICTURE = re.compile(r"[^.].*\.(jpe?g|png)", re.IGNORECASE)


@dataclass(frozen=True)
class Archive:
    """One published ZIP: its size, and how many pictures lie in its folder, which has the name of the split."""

    url: str
    size_bytes: int
    pictures: int
    md5: str | None = None


COCO_ARCHIVES: Mapping[str, Archive] = {
    "train2017": Archive(
        url="http://images.cocodataset.org/zips/train2017.zip",  # https has another host's certificate; the md5 guards
        size_bytes=19_336_861_798,
        pictures=118_287,
        md5="cced6f7f71b7629ddf16f17bbcfab6b2",
    ),
    "val2017": Archive(
        url="http://images.cocodataset.org/zips/val2017.zip",
        size_bytes=815_585_330,
        pictures=5_000,
        md5="442b8da7639aecaf257c1dceb8ba8c80",
    ),
}


@dataclass(frozen=True)
class CocoProgress:
    """How far `fetch_coco` is within one stage, in `unit`s; `total` is None where the server does not say."""

    stage: Literal["download", "unpack"]
    done: int
    total: int | None
    unit: Literal["bytes", "pictures"]


def fetch_coco(
    root: Path,
    split: str = "train2017",
    *,
    archives: Mapping[str, Archive] = COCO_ARCHIVES,
    keep_archive: bool = False,
    on_progress: Callable[[CocoProgress], None] | None = None,
) -> Path:
    """Fetch and unpack one split, and return the folder of its pictures, `root`/`split`.

    Both stages go on from where an earlier call stopped; nothing is fetched when all pictures are there. The archive
    lies in `root` until every picture is unpacked and counted, then it is removed unless `keep_archive`.
    On the disk: twice the archive while unpacking (39 GB for train2017), once after.
    Raises UsageError for an unknown split; FstError when the disk has no room or the archive is damaged; DownloadError.
    """
    if split not in archives:
        raise UsageError(f"COCO has no split {split!r}: {nearest(split, archives)}")
    archive, folder = archives[split], root / split
    sizes = _sizes(folder)
    if len(sizes) >= archive.pictures:
        return folder

    zipped = root / PurePosixPath(archive.url).name
    if not zipped.exists():
        part = zipped.with_name(zipped.name + ".part")
        fetched = part.stat().st_size if part.exists() else 0
        _check_room(root, max(0, archive.size_bytes - fetched) + max(0, archive.size_bytes - sum(sizes.values())))
    if archive.md5 is not None or not zipped.is_file() or zipped.stat().st_size != archive.size_bytes:

        def tell(progress: DownloadProgress) -> None:
            if on_progress is not None:
                on_progress(CocoProgress("download", progress.done_bytes, progress.total_bytes, "bytes"))

        download(archive.url, zipped, md5=archive.md5, max_bytes=archive.size_bytes, on_progress=tell)

    try:
        with zipfile.ZipFile(zipped) as opened:
            _unpack(opened, folder, sizes, on_progress)
    except zipfile.BadZipFile as error:
        raise FstError(f"{zipped} is damaged ({error}): delete it and run this again") from error
    unpacked = len(_sizes(folder))
    if unpacked < archive.pictures:
        raise FstError(f"{zipped} gave {unpacked} pictures, wanted {archive.pictures}: delete it and run this again")
    if not keep_archive:
        with suppress(OSError):  # the pictures are there all the same
            zipped.unlink()
    return folder


def _unpack(
    opened: zipfile.ZipFile,
    folder: Path,
    sizes: Mapping[str, int],
    on_progress: Callable[[CocoProgress], None] | None,
) -> None:
    """Write the archive's pictures into `folder`, each whole or not at all, but not those of the right size already."""
    members = {_picture_name(info, folder): info for info in opened.infolist()}
    members.pop("", None)
    missing = {name: info for name, info in members.items() if sizes.get(name) != info.file_size}
    _check_room(folder, sum(info.file_size for info in missing.values()))
    done, tell_after_s = len(members) - len(missing), 0.0
    for name, info in missing.items():
        if on_progress is not None and time.monotonic() >= tell_after_s:
            on_progress(CocoProgress("unpack", done, len(members), "pictures"))
            tell_after_s = time.monotonic() + 0.1
        try:
            with whole_file(folder / name) as temporary, opened.open(info) as source, temporary.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
        except (zlib.error, EOFError, RuntimeError, NotImplementedError) as error:  # what zipfile lets through
            raise zipfile.BadZipFile(f"{info.filename}: {error}") from error
        except OSError as error:
            raise FstError(f"cannot unpack {info.filename} into {folder}: {error.strerror or error}") from error
        done += 1
    if on_progress is not None:
        on_progress(CocoProgress("unpack", done, len(members), "pictures"))


def _picture_name(info: zipfile.ZipInfo, folder: Path) -> str:
    """The file name of a member that is a picture of this split, "" for another; FstError if it would land outside."""
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in info.filename:
        raise FstError(
            f"refused to unpack {info.filename!r}: it would land outside {folder}; get the archive elsewhere"
        )
    return path.name if path.parts[:-1] == (folder.name,) and _PICTURE.fullmatch(path.name) else ""


def _sizes(folder: Path) -> dict[str, int]:
    """The pictures lying in `folder`: name to bytes."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if _PICTURE.fullmatch(entry.name)}


def _check_room(folder: Path, wanted_bytes: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(folder).free
    except OSError as error:
        raise FstError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    if free_bytes < wanted_bytes:
        need = f"{wanted_bytes / 1e9:.1f} GB are wanted, {free_bytes / 1e9:.1f} GB are free"
        raise FstError(f"no room for the pictures in {folder}: {need}; make room or choose another folder")
