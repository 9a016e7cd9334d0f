"""What a run leaves beside its model: numbers, pictures, and what could not be read."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fst.training.callbacks import contact_sheet

Run = Callable[..., Any]  # fst_train and start of conftest.py
Losses = Callable[..., dict[int, dict[str, float]]]


def test_contact_sheet_has_photos_above_and_restyled_below() -> None:
    photos = torch.stack([torch.full((3, 2, 3), value) for value in (0.0, 0.2)])
    sheet = contact_sheet(photos, photos + 0.4)
    assert sheet.dtype == np.uint8
    assert sheet[::2, ::3].tolist() == [[[0] * 3, [51] * 3], [[102] * 3, [153] * 3]]
    assert sheet.shape == (4, 6, 3)
    assert contact_sheet(photos, photos, photos)[4:].tolist() == sheet[:2].tolist()


def test_logged_are_the_first_step_every_nth_and_the_last(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    given = ["trainer.max_steps=8", "trainer.log_every_n_steps=3", "samples_every_n_steps=5", "hydra.run.dir=run"]
    assert fst_train(*tiny, *given).code == 0
    rows = losses("run")
    assert list(rows) == [1, 3, 5, 6, 8]
    assert [step for step, row in rows.items() if "train/total" in row] == [1, 3, 6, 8]
    assert [step for step, row in rows.items() if "val/total" in row] == [5, 8]
    for step in (1, 3, 6, 8):
        row = rows[step]
        assert row["train/total"] == pytest.approx(row["train/style"] + 0.1 * row["train/content"], rel=1e-5)
        assert row["images_per_second"] > 0
    assert {path.name for path in Path("run/samples").iterdir()} == {"step_000005.png", "step_000008.png"}
    assert Image.open("run/preview.png").size == (2 * 32, 2 * 32)


def test_progress_is_told_from_the_start(tiny: list[str], elsewhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from fst.training import train

    monkeypatch.setattr(train.model, "write", lambda path, net, recipe: None)
    told: list[train.TrainProgress] = []
    assert train.main([*tiny, "hydra.run.dir=run"], on_progress=told.append, say=lambda line: None) == 0
    assert [(now.step, now.max_steps) for now in told] == [(step, 4) for step in range(5)]
    assert told[0].terms == {}
    assert set(told[4].terms) == {"content", "style", "tv", "total"}


def test_what_cannot_be_read_is_listed_once(fst_train: Run, tiny: list[str], material: Path) -> None:
    photos = Path("photos")
    photos.mkdir()
    for photo in (material / "photos").iterdir():
        (photos / photo.name).symlink_to(photo)
    (photos / "broken.jpg").write_bytes(b"no picture")
    odd = photos / os.fsdecode(b"caf\xe9.jpg" if sys.platform == "linux" else b"cafe.jpg")  # no UTF-8
    odd.write_bytes(b"no picture")
    ended = fst_train(*tiny, "data.dir=photos", "trainer.max_steps=30", "hydra.run.dir=run")
    assert ended.code == 0
    skipped = Path("run/skipped.txt").resolve()
    assert len([line for line in skipped.read_text().splitlines() if "broken.jpg" in line]) == 1
    assert len([line for line in skipped.read_text().splitlines() if "caf" in line]) == 1
    count = len(skipped.read_text().splitlines())
    assert f"{count} pictures could not be used: {skipped} lists them\n" in ended.out
    with skipped.open("a") as file:
        file.write("what an earlier part of the run has met\n")
    ended = fst_train("ckpt=run", "trainer.max_steps=31")
    assert (ended.code, ended.error) == (0, "")
    lines = skipped.read_text().splitlines()
    assert len(lines) == count + 1
    assert lines[-1] == "what an earlier part of the run has met"
    assert f"{count + 1} pictures could not be used" in ended.out
    (photos / "broken.jpg").unlink()
    odd.unlink()
    assert fst_train(*tiny, "data.dir=photos", "hydra.run.dir=run").code == 0
    assert not skipped.exists()


def test_the_style_target_ignores_the_precision(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    for name in ("32-true", "bf16-mixed"):
        assert fst_train(*tiny, f"trainer.precision={name}", f"hydra.run.dir={name}").code == 0
    whole, half = (losses(name)[1] for name in ("32-true", "bf16-mixed"))
    assert half["train/style"] != whole["train/style"]
    assert half["train/style"] == pytest.approx(whole["train/style"], rel=0.02)


def test_options_of_lightning_can_be_added(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    sgd = [*tiny, "optimizer._target_=torch.optim.SGD", "~optimizer.betas", "optimizer.lr=1"]
    assert fst_train(*sgd, "hydra.run.dir=free").code == 0
    assert fst_train(*sgd, "+trainer.gradient_clip_val=1e-9", "hydra.run.dir=clipped").code == 0
    assert losses("free")[4]["val/total"] != pytest.approx(losses("clipped")[4]["val/total"], rel=1e-4)


def test_the_rate_runs_out_before_the_time_is_up(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    endless = [*tiny, "schedule=constant", "trainer.max_steps=1000000", "samples_every_n_steps=0"]
    ended = fst_train(*endless, "trainer.max_time={seconds:4}", "hydra.run.dir=run")
    assert ended.code == 0
    rows = losses("run")
    rates = [row["lr"] for row in rows.values()]
    assert ended.out.startswith(f"time was up at step {len(rates)} of 1000000 (trainer.max_time)\ndone: ")
    assert rates == sorted(rates, reverse=True)
    assert set(rates[: 1 + len(rates) // 10]) == {1e-3}
    assert rates[-1] < 5e-4


def test_a_run_that_keeps_to_its_time_learns_the_same(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    assert fst_train(*tiny, "hydra.run.dir=free").code == 0
    assert fst_train(*tiny, "trainer.max_time='00:01:00:00'", "hydra.run.dir=timed").code == 0
    for step, row in losses("free").items():
        for name in ("train/total", "lr"):
            assert losses("timed")[step][name] == row[name]


def test_tensorboard_lies_in_the_runs_folder(fst_train: Run, tiny: list[str]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ended = fst_train(*tiny, "logger=tensorboard", "hydra.run.dir=run")
    assert (ended.code, ended.err) == (0, "")
    events = EventAccumulator("run/tensorboard").Reload()
    assert [event.step for event in events.Scalars("train/total")] == [1, 2, 3, 4]
    assert [event.step for event in events.Images("samples")] == [4]
    assert {"val/style", "lr", "images_per_second"} <= set(events.Tags()["scalars"])


@pytest.mark.slow
@pytest.mark.parametrize("logger", ["wandb", "default"])
def test_wandb_without_a_key_asks_nothing(start: Run, tiny: list[str], logger: str) -> None:
    pytest.importorskip("wandb")
    ended = start(*tiny, f"logger={logger}", "hydra.run.dir=run", HOME=str(Path().resolve())).wait()
    assert ended.code == 0
    assert ended.err == ""
    assert list(Path("run/wandb").glob("offline-run-*/*.wandb"))
    assert re.search(r"^use it: fst stylize", ended.out, re.MULTILINE)


@pytest.mark.slow
def test_what_is_optional_is_not_imported(elsewhere: None) -> None:
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['wandb', 'datasets', 'tensorboard']))\n"
        "import fst.training.train\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300)
