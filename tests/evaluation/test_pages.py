"""The pages of fst eval and fst compare: what a photo's name or several variations make of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fst import images
from fst.errors import UsageError
from fst.evaluation.page import ComparePage, Folder, ScorePage, median_table, score_table
from fst.evaluation.paintings import Painting

ReadPage = Callable[[Path], Any]


def flat(level: int) -> np.ndarray:
    return np.full((16, 24, 3), level, np.uint8)


def level(path: Path) -> float:
    return float(images.read(path).pixels.mean())


def test_no_picture_takes_the_place_of_another(tmp_path: Path, read_page: ReadPage) -> None:
    """Names of 200 letters that differ in the last, and two of one name in two folders."""
    photos = [Path("a", "x" * 200 + "1.png"), Path("a", "x" * 200 + "2.png"), Path("b", "x" * 200 + "2.png")]
    page = ComparePage(Folder(tmp_path), ["one", "two"], len(photos))
    for model in range(2):
        for number, path in enumerate(photos):
            painting = Painting(path, flat(10 * number), [flat(100 + 50 * model + 10 * number)], 1.0)
            page.add(model, number, painting, painting.described())
    where = page.write({"notes": [], "models": [{"median": {"milliseconds": 1.0}}] * 2})
    read = read_page(where)
    assert read.missing(tmp_path) == []
    shown = [level(tmp_path / address) for address in read.addresses[::2]]
    assert shown == pytest.approx([0, 100, 150, 10, 110, 160, 20, 120, 170], abs=1)


def test_variations_stand_side_by_side(tmp_path: Path, read_page: ReadPage) -> None:
    page = ScorePage(Folder(tmp_path), "model", [("style", "style at 16 px", flat(9))], iterations=3)
    row = {"photo": "p.png", "content": 1.0, "style": 0.25, "pixel_distance": 0.125, "milliseconds": 12.4}
    row |= {"gatys_iterations": None, "times_reference": 1.234, "gatys_totals": [0.9, 0.5, 0.7]}
    page.add(Painting(Path("p.png"), flat(0), [flat(40), flat(80)], 12.4), row, flat(120))
    bad = {"photo": "q.png", "error": "q.png: is no picture"}
    page.add(Painting(Path("q.png"), error=bad["error"]), bad)
    median = {name: value for name, value in row.items() if name not in ("photo", "gatys_totals")}
    read = read_page(page.write({"notes": ["note"], "photos": [row, bad], "median": median}))
    assert [level(tmp_path / address) for address in read.addresses[::2]] == pytest.approx([0, 9, 40, 80, 120], abs=1)
    rows = [[" ".join(cell.split()) for cell in row] for row in read.rows]
    assert rows[0] == ["photo", "content", "style", "pixel distance", "Gatys iterations", "times reference", "ms"]
    scores = ["1.0000", "0.2500", "0.125", "more than 3", "1.23", "12"]
    assert rows[1:3] == [[name, *scores] for name in ("p.png", "median")]
    assert rows[3] == ["", "photo", "style", "variation 1", "variation 2", "reference: 3 Gatys iterations"]
    assert rows[4][3].startswith("all variations, on average: content 1.0000 style 0.2500")
    assert rows[4][4:] == ["", "total 0.5000"]
    assert rows[5] == ["q.png", "q.png: is no picture", "", "", "", ""]
    assert "note" in read.texts


def test_tables_leave_empty_what_is_not_there() -> None:
    assert median_table(["a", "b"], [{"style": 0.5, "milliseconds": 3.0}, {"milliseconds": 4.0}]) == (
        ["model", "style", "ms"],
        [["a", "0.5000", "3"], ["b", "", "4"]],
    )
    assert score_table([{"photo": "a", "error": "bad"}], {}) == (["photo"], [])


def test_a_page_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "index.html").touch()
    with pytest.raises(UsageError, match=r"index\.html exists: --overwrite replaces it"):
        Folder(tmp_path)
    assert Folder(tmp_path, overwrite=True).path == tmp_path
    with pytest.raises(UsageError, match="is a file: give a folder"):
        Folder(tmp_path / "index.html")
