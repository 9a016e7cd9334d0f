"""Sweeps: every combination in a folder of its own, a table at the end."""

import csv
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from fst.page import Cell
from fst.training import sweep

Run = Callable[..., Any]  # fst_train and start of conftest.py
Losses = Callable[..., dict[int, dict[str, float]]]


def read_summary(folder: Path) -> list[dict[str, str]]:
    with (folder / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_shows_lists_as_they_are() -> None:
    drawn = io.StringIO()
    rows = [{"run": "0_multi", "settings": "styles=[wave,udnie]"}, {"run": "1_multi", "settings": "styles=[a,b]"}]
    Console(file=drawn, width=120).print(sweep.table(rows))
    assert "styles=[wave,udnie]" in drawn.getvalue()
    assert "styles=[a,b]" in drawn.getvalue()


def test_every_combination_has_its_folder_row_and_place(
    losses: Losses, fst_train: Run, tiny: list[str], read_page: Callable[[Path], Any]
) -> None:
    ended = fst_train("-m", *tiny, "style=woodcut,stained_glass", "loss.style_weight=1,5")
    assert (ended.code, ended.err) == (0, "")
    (folder,) = Path("runs/sweeps").iterdir()
    names = ["0_woodcut", "1_woodcut", "2_stained_glass", "3_stained_glass"]
    rows = read_summary(folder)
    assert [row["run"] for row in rows] == names
    assert rows[1]["settings"] == "style=woodcut loss.style_weight=5"
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == names
    for row in rows:
        run = losses(folder / row["run"])
        assert list(run) == [1, 2, 3, 4]
        assert float(row["val/total"]) == pytest.approx(run[4]["val/total"], abs=1e-4)
        assert row["run"] in ended.out
    assert ended.out.strip().endswith(f"look: {folder}/index.html\nsweep: {folder}")
    page = read_page(folder / "index.html")
    assert page.missing(folder) == []
    assert page.addresses[::2] == [f"{name}/preview.png" for name in names]
    head, *lines = [[cell.strip() for cell in row] for row in page.rows]
    assert head == ["", "loss.style_weight=1", "loss.style_weight=5"]
    assert [line[0] for line in lines] == ["style=woodcut", "style=stained_glass"]
    for line, pair in zip(lines, (rows[:2], rows[2:]), strict=True):
        for cell, row in zip(line[1:], pair, strict=True):
            assert cell.startswith(row["run"])
            assert cell.endswith(f"total {row['val/total']}")
    (shared,) = [text for text in page.texts if text.startswith("for all:")]
    assert "data.size=32" in shared.split()
    assert not any("half strength" in text for text in page.texts)


def test_a_page_says_what_the_rows_of_its_pictures_are(
    fst_train: Run, tiny: list[str], read_page: Callable[[Path], Any]
) -> None:
    ended = fst_train("-m", *tiny, "adjustable=true", "seed=1,2", "trainer.max_steps=1", "hydra.sweep.dir=s")
    assert (ended.code, ended.err) == (0, "")
    texts = read_page(Path("s/index.html")).texts
    assert any("last at half strength, with small and with large strokes" in text for text in texts)


def test_one_that_diverges_does_not_end_the_others(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    ended = fst_train("-m", *tiny, "optimizer.lr=1e30,1e-3", "hydra.sweep.dir=s")
    assert (ended.code, ended.error, ended.err) == (1, "", "")
    assert "the loss is nan at step 2: try a smaller optimizer.lr" in ended.out
    assert not Path("s/0_stained_glass/last.ckpt").exists()
    assert list(losses("s/1_stained_glass")) == [1, 2, 3, 4]
    assert [row["val/total"] == "-" for row in read_summary(Path("s"))] == [True, False]
    assert "no picture" in Path("s/index.html").read_text()


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("data.sise=1,2", "there is no key 'data.sise': did you mean data.size?"),
        ("style=woodcut,wodcut", "no style is called 'wodcut': did you mean woodcut?"),
        ("data.size=abc,32", "data.size=abc: wanted a whole number, like 256"),
    ],
)
def test_a_mistake_ends_a_sweep_before_it_begins(fst_train: Run, tiny: list[str], word: str, error: str) -> None:
    ended = fst_train("-m", *tiny, word)
    assert (ended.code, ended.error, ended.out, ended.err) == (2, error, "", "")
    assert not [path for path in Path().rglob("*") if path.is_dir() and path.name.startswith(("0_", "1_"))]


def test_ctrl_c_ends_a_sweep(fst_train: Run, tiny: list[str]) -> None:
    ended = fst_train("-m", *tiny, "seed=1,2", "hydra.sweep.dir=s", at={2: signal.SIGINT})
    assert ended.code == 1
    assert ended.error.startswith("stopped at step 2; go on with: fst train ckpt=")
    assert [path.name for path in Path("s").iterdir() if path.is_dir()] == ["0_stained_glass"]


@pytest.mark.slow
def test_a_sweep_on_two_devices(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    before = dict(os.environ)
    ended = fst_train("-m", *tiny, "seed=1,2", "trainer.devices=2", "hydra.sweep.dir=s")
    assert (ended.code, ended.err) == (0, ""), ended.out
    assert [list(losses(f"s/{n}_stained_glass")) for n in (0, 1)] == [[1, 2, 3, 4]] * 2
    assert not torch.distributed.is_initialized()
    assert {n: v for n, v in os.environ.items() if n.startswith(("MASTER", "LOCAL", "WORLD", "FST", "NODE"))} == {
        n: v for n, v in before.items() if n.startswith(("MASTER", "LOCAL", "WORLD", "FST", "NODE"))
    }


def test_a_page_has_axes_where_one_or_two_settings_vary() -> None:
    def shape(*settings: str) -> tuple[list[str], list[tuple[str, list[str]]]]:
        made = sweep.grid([each.split() for each in settings], [Cell([each]) for each in settings])
        return list(made.columns), [(head, [" ".join(cell.lines) for cell in cells]) for head, cells in made.rows]

    assert shape("a=1", "a=2") == (["", "a=1", "a=2"], [("", ["a=1", "a=2"])])
    assert shape("a=1 b=x", "a=1 b=y", "a=2 b=y") == (
        ["", "b=x", "b=y"],
        [("a=1", ["a=1 b=x", "a=1 b=y"]), ("a=2", ["", "a=2 b=y"])],
    )
    for plain in (
        ["a=1 b=1 c=1", "a=1 b=1 c=2", "a=2 b=1 c=1", "a=2 b=2 c=2"],
        ["a=1", "a=1", "a=2", "a=3"],
        ["", "a=1"],
    ):
        columns, rows = shape(*plain)
        assert columns == [""] * (1 + min(3, len(plain)))
        assert [cell for _, cells in rows for cell in cells] == plain
        assert {head for head, _ in rows} == {""}


def test_the_summary_of_no_runs(tmp_path: Path) -> None:
    assert sweep.summarize(tmp_path, {}) == []
    assert not list(tmp_path.iterdir())
