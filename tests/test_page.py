"""Pages: whole HTML, every text escaped, every address that of the file."""

from html.parser import HTMLParser
from pathlib import Path, PurePath
from urllib.parse import unquote

import pytest

from fst import page
from fst.errors import FstError
from fst.page import Cell, Grid

VOID = {"meta", "img"}


class Read(HTMLParser):
    """What a browser makes of a page: tags that are balanced, its texts, addresses and images."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        values = dict(attributes)
        self.addresses += [value for name, value in attributes if name in ("href", "src") and value]
        if tag == "img":
            self.alts.append(values["alt"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and data.strip():
            self.texts.append(data.strip())
        if self.open and {"th", "td"} & set(self.open):
            self.rows[-1][-1] += f"{data} "

    def missing(self, folder: Path) -> list[str]:
        """Addresses that lead to no file."""
        return [a for a in self.addresses if not (folder / unquote(a)).is_file()]


def test_texts_are_escaped_and_pictures_found(tmp_path: Path) -> None:
    name = "a <b> & \"c\" 100% #1?.jpg"
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / name).touch()
    cells = [Cell(["x < y", "&amp;"], PurePath("pictures", name), 'the photo "<i>"'), Cell(["1"])]
    page.write(tmp_path / "index.html", "<script>", ["note <br>"], [Grid(["", "one", "two"], [(name, cells)], "c")])
    read = Read(tmp_path / "index.html")
    assert "script" not in read.tags
    assert read.missing(tmp_path) == []
    assert len(read.addresses) == 2
    assert read.alts == ['the photo "<i>"']
    assert [word.strip() for row in read.rows for word in row] == ["", "one", "two", name, "x < y &amp;", "1"]
    assert {"<script>", "note <br>"} <= set(read.texts)
    text = (tmp_path / "index.html").read_text()
    assert "prefers-color-scheme: dark" in text
    assert "http" not in text


def test_a_name_that_is_no_unicode(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    (tmp_path / name).touch()
    page.write(tmp_path / "index.html", name, [], [Grid(["", ""], [(name, [Cell([], PurePath(name), name)])], "")])
    read = Read(tmp_path / "index.html")
    assert read.addresses == ["caf%E9.jpg"] * 2


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FstError, match="cannot be written"):
        page.write(tmp_path / "file" / "index.html", "t", [], [])
