"""fst.download against a real server on this machine that breaks off, stalls, lies and redirects."""

import errno
import hashlib
import http.server
import io
import json
import re
import shutil
import socket
import threading
import time
import urllib.request
from collections import namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fst import download as module
from fst.download import DownloadError, DownloadProgress, check_hash, download
from fst.errors import FstError, UsageError

BODY = bytes(range(256)) * 1200 + b"the end"  # 307 kB
SHA256 = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
NO_WAIT = (0.0, 0.0, 0.0)


@dataclass
class Fault:
    """What goes wrong with one request."""

    status: int = 200  # another: answer just this
    drop_after: int | None = None  # body bytes after which the connection closes
    silent_s: float = 0.0  # before the answer
    headers: dict[str, str] = field(default_factory=dict)


class Server(http.server.ThreadingHTTPServer):
    """Serves `body` at every path; each request takes the next of `faults`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.etag: str | None = '"one"'
        self.last_modified: str | None = None
        self.ranges = True
        self.lengthless = False
        self.declared_extra = 0  # how much Content-Length lies
        self.faults: list[Fault] = []
        self.served = 0  # body bytes
        self.requests: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/file.bin"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing when the client hangs up."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        server.requests.append({name.lower(): value for name, value in self.headers.items()})
        fault = server.faults.pop(0) if server.faults else Fault()
        time.sleep(fault.silent_s)
        if fault.status != 200:
            self.send_response(fault.status)
            for name, value in fault.headers.items():
                self.send_header(name, value)
            self.end_headers()
            return
        body, start, state = server.body, 0, server.etag or server.last_modified
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and server.ranges and self.headers.get("If-Range") in (None, state):
            start = int(asked[1])
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if not server.lengthless:
            self.send_header("Content-Length", str(len(body) - start + server.declared_extra))
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.last_modified:
            self.send_header("Last-Modified", server.last_modified)
        self.end_headers()
        end = len(body) if fault.drop_after is None else start + fault.drop_after
        self.wfile.write(body[start:end])
        server.served += len(body[start:end])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "deeper" / "file.bin"


def left_behind(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def broken_off(server: Server, target: Path, after: int, **how: Any) -> None:
    """Leave a .part of `after` bytes, as a run without a second try does."""
    server.faults.append(Fault(drop_after=after))
    with pytest.raises(DownloadError, match="run it again to go on from byte"):
        download(server.url, target, back_off_s=(), **how)
    assert target.with_name("file.bin.part").stat().st_size == after
    assert not target.exists()


def test_a_whole_file_arrives_checked_and_alone(server: Server, target: Path) -> None:
    seen: list[DownloadProgress] = []
    assert download(server.url, target, sha256=SHA256, md5=MD5, on_progress=seen.append) == target
    assert target.read_bytes() == BODY
    assert left_behind(target) == ["file.bin"]
    assert seen[-1] == DownloadProgress(server.url, len(BODY), len(BODY))
    assert [tick.done_bytes for tick in seen] == sorted(tick.done_bytes for tick in seen)


def test_a_short_prefix_of_the_sha256_is_enough_and_case_does_not_matter(server: Server, target: Path) -> None:
    download(server.url, target, sha256=SHA256[:8].upper())
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("state", [{"etag": '"one"'}, {"etag": None, "last_modified": "Mon, 01 Jan 2024 00:00:00 GMT"}])
def test_a_later_run_fetches_only_the_missing_bytes(server: Server, target: Path, state: dict[str, str | None]) -> None:
    vars(server).update(state)
    broken_off(server, target, 100_000)
    seen: list[DownloadProgress] = []
    download(server.url, target, on_progress=seen.append)
    assert target.read_bytes() == BODY
    assert server.served == len(BODY)
    assert server.requests[1]["range"] == "bytes=100000-"
    assert server.requests[1]["if-range"] == (server.etag or server.last_modified)
    assert seen[0].done_bytes > 100_000
    assert seen[-1].done_bytes == seen[-1].total_bytes == len(BODY)
    assert left_behind(target) == ["file.bin"]


def test_one_run_goes_on_after_dropped_connections(server: Server, target: Path) -> None:
    server.faults = [Fault(drop_after=70_000), Fault(drop_after=0), Fault(503), Fault(drop_after=70_000)]
    download(server.url, target, sha256=SHA256, back_off_s=NO_WAIT)
    assert server.served == len(BODY)


def test_new_bytes_start_the_count_of_tries_over_but_a_dead_end_is_left(server: Server, target: Path) -> None:
    server.faults = [Fault(drop_after=1000) for _ in range(6)] + [Fault(500) for _ in range(9)]
    with pytest.raises(
        DownloadError, match=r"answered 500 .*; run it again to go on from byte 6000, or put the file at"
    ):
        download(server.url, target, back_off_s=(0.0, 0.0))
    assert len(server.requests) == 6 + 2


def test_without_etag_or_date_only_a_hash_allows_resuming(server: Server, target: Path) -> None:
    server.etag = None
    broken_off(server, target, 100_000)
    download(server.url, target)
    assert "range" not in server.requests[1]
    target.unlink()
    server.served = 0
    broken_off(server, target, 100_000)
    download(server.url, target, sha256=SHA256)
    assert server.served == len(BODY)


def test_a_weak_etag_is_no_ground_for_resuming(server: Server, target: Path) -> None:
    server.etag = 'W/"weak"'
    broken_off(server, target, 100_000)
    download(server.url, target)
    assert "range" not in server.requests[1]


def test_a_file_changed_between_the_tries_is_fetched_from_the_start(server: Server, target: Path) -> None:
    broken_off(server, target, 100_000)
    server.body, server.etag = b"a new file", '"two"'
    download(server.url, target)
    assert target.read_bytes() == b"a new file"


def test_a_server_that_ignores_if_range_is_seen_through_by_its_new_etag(server: Server, target: Path) -> None:
    broken_off(server, target, 100_000)
    answer = {"Content-Range": f"bytes 100000-{len(BODY) - 1}/{len(BODY)}", "ETag": '"two"', "Content-Length": "0"}
    server.faults = [Fault(206, headers=answer)]
    download(server.url, target)
    assert target.read_bytes() == BODY
    assert "range" not in server.requests[-1]


def test_another_url_does_not_go_on_with_this_part(server: Server, target: Path) -> None:
    broken_off(server, target, 100_000)
    download(server.url + "?other", target)
    assert "range" not in server.requests[1]


def test_a_server_without_ranges_starts_over(server: Server, target: Path) -> None:
    server.ranges = False
    broken_off(server, target, 100_000)
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == BODY


def test_a_part_longer_than_the_file_starts_over(server: Server, target: Path) -> None:
    broken_off(server, target, 100_000)
    server.body = BODY[:5000]
    download(server.url, target)
    assert target.read_bytes() == BODY[:5000]


def test_a_whole_part_needs_only_its_new_name(server: Server, target: Path) -> None:
    broken_off(server, target, 100_000)
    target.with_name("file.bin.part").write_bytes(BODY)
    seen: list[DownloadProgress] = []
    download(server.url, target, sha256=SHA256, on_progress=seen.append)
    assert target.read_bytes() == BODY
    assert server.served == 100_000
    assert seen == [DownloadProgress(server.url, len(BODY), len(BODY))]


def test_a_spoilt_note_beside_the_part_means_starting_over(server: Server, target: Path) -> None:
    for note in ("{", "[]", '{"url": 3}', json.dumps({"url": server.url})):
        broken_off(server, target, 100_000)
        target.with_name("file.bin.part.json").write_text(note)
        download(server.url, target)
        assert target.read_bytes() == BODY
        target.unlink()


def test_a_wrong_hash_leaves_nothing(server: Server, target: Path) -> None:
    for wrong in ({"sha256": "0" * 64}, {"sha256": "01234567"}, {"md5": "0" * 32}):
        with pytest.raises(DownloadError, match=r"did not give the file wanted: its (sha256|md5) is .* wanted 0"):
            download(server.url, target, **wrong)
        assert left_behind(target) == []


def test_a_present_file_with_the_right_hash_is_not_fetched_and_with_a_wrong_one_replaced(
    server: Server, target: Path
) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY)
    download(server.url, target, sha256=SHA256[:10])
    download(server.url, target, md5=MD5)
    assert server.requests == []
    target.write_bytes(b"old")
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == BODY


def test_a_failed_fetch_leaves_the_present_file_alone(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    server.faults = [Fault(404)]
    with pytest.raises(DownloadError):
        download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == b"old"


def test_more_than_max_bytes_is_refused_declared_or_not(server: Server, target: Path) -> None:
    with pytest.raises(DownloadError, match=f"too big: {len(BODY)} bytes or more, at most 1000"):
        download(server.url, target, max_bytes=1000)
    assert left_behind(target) == []
    server.lengthless = True
    with pytest.raises(DownloadError, match="too big"):
        download(server.url, target, max_bytes=1000)
    assert left_behind(target) == []
    download(server.url, target, max_bytes=len(BODY))
    assert target.read_bytes() == BODY


def test_without_a_declared_length_the_total_is_unknown(server: Server, target: Path) -> None:
    server.lengthless = True
    seen: list[DownloadProgress] = []
    download(server.url, target, on_progress=seen.append)
    assert seen[-1] == DownloadProgress(server.url, len(BODY), None)


def test_a_length_declared_too_long_is_an_error(server: Server, target: Path) -> None:
    server.declared_extra, server.ranges = 50, False
    with pytest.raises(DownloadError, match="gave up on"):
        download(server.url, target, back_off_s=NO_WAIT)
    assert not target.exists()
    server.ranges = True  # asked for the rest, the server says that there is none
    download(server.url, target, back_off_s=NO_WAIT)
    assert target.read_bytes() == BODY


def test_a_full_disk_is_refused_before_a_byte_comes(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    broken_off(server, target, 100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, len(BODY) - 100_001))
    with pytest.raises(DownloadError, match=r"no room for .* make room and run it again"):
        download(server.url, target)
    assert target.with_name("file.bin.part").stat().st_size == 100_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, len(BODY) - 100_000))
    download(server.url, target)
    assert target.read_bytes() == BODY


def test_a_disk_that_fills_up_on_the_way_is_said_and_the_part_kept(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "fsync", full)
        with pytest.raises(DownloadError, match=r"the disk of .* is full"):
            download(server.url, target)
    download(server.url, target)
    assert server.served == len(BODY)


def test_a_missing_page_is_said_in_one_line(server: Server, target: Path) -> None:
    server.faults = [Fault(404)]
    with pytest.raises(
        DownloadError, match=r"answered 404 Not Found to http://.*; put the file at .* yourself"
    ) as error:
        download(server.url, target)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, FstError)
    assert len(server.requests) == 1
    assert left_behind(target) == []


def test_nobody_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch, target: Path) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(DownloadError, match=f"could not reach 127.0.0.1:{port}: .*put the file at .* yourself"):
            download(f"http://127.0.0.1:{port}/x", target)

    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match=r"could not reach no\.such\.host: Name or service not known; put the file"):
        download("http://no.such.host/x", target)


def test_a_silent_server_is_given_up(server: Server, target: Path) -> None:
    server.faults = [Fault(silent_s=0.3), Fault(silent_s=0.3)]
    with pytest.raises(DownloadError, match=r"sent nothing for 0\.1 s; try again later"):
        download(server.url, target, timeout_s=0.1, back_off_s=(0.0,))
    assert len(server.requests) == 2


def test_ctrl_c_leaves_the_part_for_the_next_run(server: Server, target: Path) -> None:
    def interrupt(progress: DownloadProgress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(server.url, target, on_progress=interrupt)
    size = target.with_name("file.bin.part").stat().st_size
    assert 0 < size <= len(BODY)
    download(server.url, target)
    assert target.read_bytes() == BODY
    assert server.requests[-1]["range"] == f"bytes={size}-"


def test_progress_comes_at_most_ten_times_a_second(server: Server, target: Path) -> None:
    server.body = BODY * 40
    seen: list[DownloadProgress] = []
    began_s = time.monotonic()
    download(server.url, target, on_progress=seen.append)
    assert 2 <= len(seen) <= (time.monotonic() - began_s) * 10 + 2


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "picture.jpg", "http://", "http://[bad/x", ""])
def test_only_the_web_is_fetched_from(url: str, target: Path) -> None:
    with pytest.raises(DownloadError, match="is no web address"):
        download(url, target)


def test_redirects_are_followed_on_the_web_only(server: Server, target: Path) -> None:
    server.faults = [Fault(302, headers={"Location": server.url + "?moved"})]
    download(server.url, target, sha256=SHA256)
    assert target.read_bytes() == BODY
    for location in ("ftp://127.0.0.1/x", "file:///etc/passwd"):
        server.faults = [Fault(302, headers={"Location": location})]
        with pytest.raises(DownloadError, match=r"redirects to ftp|answered 302"):
            download(server.url, target)
    server.faults = [Fault(302, headers={"Location": server.url}) for _ in range(20)]
    with pytest.raises(DownloadError, match="answered 302"):
        download(server.url, target)


def test_a_redirect_from_https_to_http_is_refused() -> None:
    asked = urllib.request.Request("https://host/x")
    with pytest.raises(DownloadError, match="refused, it goes from https to http"):
        module._Redirects().redirect_request(asked, io.BytesIO(), 302, "Found", {}, "http://host/x")
    onward = module._Redirects().redirect_request(asked, io.BytesIO(), 302, "Found", {}, "https://other/x")
    assert onward is not None
    assert onward.full_url == "https://other/x"


def test_blanks_and_umlauts_in_the_address_are_quoted(server: Server, target: Path) -> None:
    download(server.url + "/Große Welle%20.jpg", target, sha256=SHA256)
    assert target.read_bytes() == BODY


def test_a_target_that_cannot_be_written_is_said(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="is a folder"):
        download(server.url, tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DownloadError, match="cannot write"):
        download(server.url, tmp_path / "file" / "below")


def test_check_hash(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY)
    check_hash(target, sha256=SHA256, md5=MD5)
    check_hash(target)
    with pytest.raises(
        DownloadError, match=r"is damaged or another file: its sha256 is .*delete it and fetch it again"
    ):
        check_hash(target, sha256="0" * 64)
    with pytest.raises(DownloadError, match="cannot read"):
        check_hash(target.with_name("none"), md5=MD5)
    for malformed in ({"sha256": "1234567"}, {"sha256": "x" * 64}, {"md5": "1234abcd"}, {"md5": ""}):
        with pytest.raises(UsageError, match=r"wanted (8 to 64|32) hex digits"):
            check_hash(target, **malformed)
