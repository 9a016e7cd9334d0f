"""Pages: whole HTML, every text escaped, every address that of the file."""

from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest

from fst import page
from fst.errors import FstError
from fst.page import Cell, Grid

ReadPage = Callable[[Path], Any]


def test_texts_are_escaped_and_pictures_found(tmp_path: Path, read_page: ReadPage) -> None:
    name = 'a <b> & "c" 100% #1?.jpg'
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / name).touch()
    cells = [Cell(["x < y", "&amp;"], PurePath("pictures", name), 'the photo "<i>"'), Cell(["1"])]
    page.write(tmp_path / "index.html", "<script>", ["note <br>"], [Grid(["", "one", "two"], [(name, cells)], "c")])
    read = read_page(tmp_path / "index.html")
    assert "script" not in read.tags
    assert read.missing(tmp_path) == []
    assert len(read.addresses) == 2
    assert read.alts == ['the photo "<i>"']
    assert [word.strip() for row in read.rows for word in row] == ["", "one", "two", name, "x < y &amp;", "1"]
    assert {"<script>", "note <br>"} <= set(read.texts)
    text = (tmp_path / "index.html").read_text()
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text


def test_a_name_that_is_no_unicode(tmp_path: Path, read_page: ReadPage) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    (tmp_path / name).touch()
    page.write(tmp_path / "index.html", name, [], [Grid(["", ""], [(name, [Cell([], PurePath(name), name)])], "")])
    read = read_page(tmp_path / "index.html")
    assert read.addresses == ["caf%E9.jpg"] * 2


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FstError, match="cannot be written"):
        page.write(tmp_path / "file" / "index.html", "t", [], [])
