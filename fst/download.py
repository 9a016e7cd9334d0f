"""One file from the web onto this disk: whole, checked, and resumed where it broke off. Standard library only."""

import errno
import functools
import hashlib
import http.client
import json
import os
import re
import shutil
import string
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from fst.errors import FstError, UsageError
from fst.version import __version__


class DownloadError(FstError):
    """A file could not be fetched, or is not the file that was wanted."""


@dataclass(frozen=True)
class DownloadProgress:
    """How far one download is; `done_bytes` counts what an earlier run fetched, `total_bytes` is None if unknown."""

    url: str
    done_bytes: int
    total_bytes: int | None


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    max_bytes: int | None = None,
    on_progress: Callable[[DownloadProgress], None] | None = None,
    timeout_s: float = 30,
    back_off_s: Sequence[float] = (1, 2, 4, 8),
) -> Path:
    """Fetch `url` into the file `target`, and return `target`.

    The bytes go to `target`.part, renamed when whole and checked; the next call goes on from there, after a Ctrl-C too,
    unless the server's file changed. A `target` already there is kept if it has the hash; with no hash it is replaced.

    sha256: all 64 hex digits or the first 8 or more; md5: all 32. max_bytes: refuse more than this.
    timeout_s: how long a connection may be silent. back_off_s: waits before each new try; new bytes start it over.
    Raises DownloadError; UsageError if a hash is malformed.
    """
    wanted = _wanted(sha256, md5)
    fetch = _Fetch(url, target, bool(wanted), max_bytes, on_progress, timeout_s)
    if wanted and target.is_file() and not _mismatch(target, wanted):
        return target
    waits, furthest = iter(back_off_s), 0
    while True:
        try:
            fetch.attempt()
            break
        except _BrokeOffError as error:
            if fetch.done > furthest:
                waits, furthest = iter(back_off_s), fetch.done
            wait_s = next(waits, None)
            if wait_s is None:
                again = f"run it again to go on from byte {fetch.done}" if fetch.done else "try again later"
                raise DownloadError(f"gave up on {url}: {error}; {again}, or {fetch.by_hand}") from error
            time.sleep(wait_s)
    if wrong := _mismatch(fetch.part, wanted):
        fetch.discard()
        raise DownloadError(f"{url} did not give the file wanted: {wrong}; try again, or {fetch.by_hand}")
    with fetch.writing():
        os.replace(fetch.part, target)
        fetch.note.unlink(missing_ok=True)
    return target


def check_hash(path: Path, *, sha256: str | None = None, md5: str | None = None) -> None:
    """Raise DownloadError unless the file has the given hashes (as for `download`); UsageError if one is malformed."""
    if wrong := _mismatch(path, _wanted(sha256, md5)):
        raise DownloadError(f"{path} is damaged or another file: {wrong}; delete it and fetch it again")


def _wanted(sha256: str | None, md5: str | None) -> dict[str, str]:
    wanted = {name: digits.lower() for name, digits in (("sha256", sha256), ("md5", md5)) if digits is not None}
    for name, digits in wanted.items():
        if not re.fullmatch("[0-9a-f]{8,64}" if name == "sha256" else "[0-9a-f]{32}", digits):
            raise UsageError(f"{digits!r} is no {name}: wanted {'8 to 64' if name == 'sha256' else 32} hex digits")
    return wanted


def _mismatch(path: Path, wanted: dict[str, str]) -> str:
    """What is wrong with the file's hashes, "" if nothing."""
    for name, digits in wanted.items():
        try:
            with path.open("rb") as file:
                got = hashlib.file_digest(file, functools.partial(hashlib.new, name, usedforsecurity=False)).hexdigest()
        except OSError as error:
            raise DownloadError(f"cannot read {path}: {error.strerror or error}") from error
        if not got.startswith(digits):
            return f"its {name} is {got[: len(digits)]}, wanted {digits}"
    return ""


class _BrokeOffError(Exception):
    """Worth another try."""


@dataclass
class _Fetch:
    """One download across its tries; `done` is the length of the .part as far as this run knows it."""

    url: str
    target: Path
    hashed: bool
    max_bytes: int | None
    on_progress: Callable[[DownloadProgress], None] | None
    timeout_s: float
    done: int = 0
    received: bool = False
    tell_after_s: float = 0.0

    def __post_init__(self) -> None:
        self.part = self.target.with_name(self.target.name + ".part")
        self.note = self.target.with_name(self.target.name + ".part.json")  # which state of which URL the .part began
        self.by_hand = f"put the file at {self.target} yourself"
        try:
            address = urlsplit(self.url)
            self.host, known = address.netloc.rpartition("@")[2], address.scheme in ("http", "https")
        except ValueError:
            known = False
        if not known or not self.host:
            raise DownloadError(f"{self.url!r} is no web address: wanted http://... or https://...")
        if self.target.is_dir():
            raise DownloadError(f"{self.target} is a folder: wanted the name of the file to write")
        with self.writing():
            self.target.parent.mkdir(parents=True, exist_ok=True)
        self.opener = build_opener(_Redirects)

    def attempt(self) -> None:
        """Bring the .part to its whole length. Raises _BrokeOffError if another try may help."""
        start, validator = self._resumable()
        asked = {"User-Agent": f"fst/{__version__}", "Accept-Encoding": "identity"}
        asked |= {"Range": f"bytes={start}-"} if start else {}
        asked |= {"If-Range": validator} if validator else {}
        with self._open(asked) as response:
            status, now = response.status, _validator(response.headers)
            length = response.length if isinstance(response, http.client.HTTPResponse) else None
            span = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
            if status == 416 and span and span[2] == str(start):
                self.done = start  # all had come, only the check and the new name were missing
                self._tell(start, last=True)
            elif status == 206 and start and span and span[1] == str(start) and now in ("", validator):
                rest = None if length is None else start + length
                self._receive(response, start, int(span[2]) if span[2] != "*" else rest, validator)
            elif start and status in (206, 416):  # the server's file is no longer the one that the .part began
                self.discard()
                self.attempt()
            elif status == 200:
                self.discard()
                self._receive(response, 0, length, now)
            else:
                raise DownloadError(f"{self.host} answered {status} {response.reason} to {self.url}; {self.by_hand}")

    def _resumable(self) -> tuple[int, str]:
        """From which byte to ask, and the ETag or date that the server's file must still have ("": the hash tells)."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            note = json.loads(self.note.read_text("utf-8"))
            if note["url"] == self.url and (note["validator"] or self.hashed):
                return self.part.stat().st_size, str(note["validator"])
        return 0, ""

    def _open(self, asked: dict[str, str]) -> Any:
        """The server's answer: an http.client.HTTPResponse, or an HTTPError when the answer is 4xx."""
        try:
            request = Request(quote(self.url, safe=string.punctuation), headers=asked)
            return self.opener.open(request, timeout=self.timeout_s)
        except HTTPError as error:
            if error.code < 500 and error.code not in (408, 425, 429):
                return error
            error.close()
            raise _BrokeOffError(f"{self.host} answered {error.code} {error.reason}") from error
        except URLError as error:
            why = f"could not reach {self.host}: {getattr(error.reason, 'strerror', None) or error.reason}"
            if self.received or isinstance(error.reason, (ConnectionResetError, BrokenPipeError)):
                raise _BrokeOffError(why) from error  # the network was there a moment ago
            raise DownloadError(f"{why}; {self.by_hand}") from error
        except (ValueError, http.client.InvalidURL) as error:
            raise DownloadError(f"{self.url!r} is no web address: {error}") from error
        except (OSError, http.client.HTTPException) as error:
            raise self._dropped(error) from error

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read1(1 << 18)
        except (OSError, http.client.HTTPException) as error:
            raise self._dropped(error) from error

    def _dropped(self, error: Exception) -> _BrokeOffError:
        silent = f"{self.host} sent nothing for {self.timeout_s:g} s"
        why = f"the connection to {self.host} dropped ({error or type(error).__name__})"
        return _BrokeOffError(silent if isinstance(error, TimeoutError) else why)

    def _receive(self, response: http.client.HTTPResponse, start: int, total: int | None, validator: str) -> None:
        self._check_size(total or 0)
        free, coming = shutil.disk_usage(self.part.parent).free, (total or 0) - start
        if free < coming:
            need = f"{coming / 1e6:.1f} MB are still to come, {free / 1e6:.1f} MB are free"
            raise DownloadError(f"no room for {self.url} in {self.part.parent}: {need}; make room and run it again")
        with self.writing():
            self.note.write_text(json.dumps({"url": self.url, "validator": validator}), "utf-8")
            file = self.part.open("ab" if start else "wb", buffering=0)
        self.done = start
        with file:
            while (self.max_bytes is None or self.done <= self.max_bytes) and (chunk := self._read(response)):
                left, self.received = memoryview(chunk), True
                with self.writing():
                    while left:
                        left = left[file.write(left) :]
                self.done += len(chunk)
                self._tell(total)
            with self.writing():
                os.fsync(file.fileno())
        self._check_size(self.done)
        if total is not None and self.done != total:
            why = f"it broke off at {self.done} of {total} bytes"
            if self.done > total:
                self.discard()
            raise _BrokeOffError(why)
        self._tell(total, last=True)

    def _check_size(self, size: int) -> None:
        if self.max_bytes is not None and size > self.max_bytes:
            self.discard()
            raise DownloadError(f"{self.url} is too big: {size} bytes or more, at most {self.max_bytes} are allowed")

    def _tell(self, total: int | None, *, last: bool = False) -> None:
        if self.on_progress is not None and (last or time.monotonic() >= self.tell_after_s):
            self.tell_after_s = time.monotonic() + 0.1
            self.on_progress(DownloadProgress(self.url, self.done, total))

    def discard(self) -> None:
        with self.writing():
            self.part.unlink(missing_ok=True)
            self.note.unlink(missing_ok=True)
        self.done = 0

    @contextmanager
    def writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", None)):
                raise DownloadError(f"the disk of {self.part.parent} is full; make room and run it again") from error
            raise DownloadError(f"cannot write {self.part}: {error.strerror or error}") from error


class _Redirects(HTTPRedirectHandler):
    """Follows a redirect to the web only, and never from https to plain http."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        scheme = urlsplit(newurl).scheme
        if scheme not in ("https", req.type):
            raise DownloadError(f"{req.full_url} redirects to {newurl}: refused, it goes from {req.type} to {scheme}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _validator(headers: Any) -> str:
    """What names this state of the server's file in If-Range: a strong ETag, else the date, else nothing."""
    etag = str(headers.get("ETag", ""))
    return etag if etag and not etag.startswith("W/") else str(headers.get("Last-Modified", ""))
