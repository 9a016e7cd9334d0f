"""fst.training.loggers: metrics.csv survives crashes and restarts; wandb never asks."""

import csv
import os
import sys
from pathlib import Path

import pytest

from fst.errors import UsageError
from fst.training import loggers
from fst.training.loggers import COLUMNS, MetricsCSV, read_metrics, tensorboard, wandb, write_metrics


def header(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return next(csv.reader(file))


def test_rows_are_on_the_disk_at_once(tmp_path: Path) -> None:
    metrics = MetricsCSV(tmp_path)
    assert read_metrics(metrics.path) == []
    for step in (1, 25, 50):
        metrics.log_metrics({"train/total": 1 / step, "lr": 1e-3}, step=step)
        assert read_metrics(metrics.path)[-1] == pytest.approx({"step": step, "train/total": 1 / step, "lr": 1e-3})
    assert header(metrics.path) == list(COLUMNS)
    assert [row["step"] for row in read_metrics(metrics.path)] == [1, 25, 50]


def test_rows_are_appended_and_not_written_again(tmp_path: Path) -> None:
    metrics = MetricsCSV(tmp_path)
    metrics.log_metrics({"lr": 1.0}, step=1)
    file = metrics.path.stat().st_ino
    metrics.log_metrics({"lr": 0.5}, step=2)
    assert metrics.path.stat().st_ino == file
    metrics.log_metrics({"new": 1.0}, step=3)
    assert metrics.path.stat().st_ino != file
    file = metrics.path.stat().st_ino
    metrics.log_metrics({"new": 2.0}, step=4)
    assert metrics.path.stat().st_ino == file, "a column that is known by now costs a whole file"


def test_one_step_is_one_row(tmp_path: Path) -> None:
    metrics = MetricsCSV(tmp_path)
    metrics.log_metrics({"train/total": 2.0, "lr": 1.0}, step=25)
    metrics.log_metrics({"val/total": 3.0, "lr": 0.5}, step=25)
    metrics.log_metrics({"train/total": 1.0}, step=50)
    assert read_metrics(metrics.path) == [
        {"step": 25, "train/total": 2, "val/total": 3, "lr": 0.5},
        {"step": 50, "train/total": 1},
    ]


def test_columns_that_nobody_knew(tmp_path: Path) -> None:
    metrics = MetricsCSV(tmp_path)
    metrics.log_metrics({"lr": 1.0}, step=1)
    metrics.log_metrics({"zeta": 1.0, "alpha": 2.0}, step=2)
    assert header(metrics.path) == [*COLUMNS, "alpha", "zeta"]
    assert read_metrics(metrics.path) == [{"step": 1, "lr": 1}, {"step": 2, "alpha": 2, "zeta": 1}]


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    first = MetricsCSV(tmp_path)
    for step in (10, 20, 30):
        first.log_metrics({"lr": step}, step=step)
    second = MetricsCSV(tmp_path)
    second.forget_after(20)
    second.log_metrics({"lr": 31}, step=30)
    assert read_metrics(second.path) == [{"step": s, "lr": v} for s, v in ((10, 10), (20, 20), (30, 31))]
    first.forget_after(10)
    first.log_metrics({"lr": 21}, step=20)
    assert read_metrics(second.path) == [{"step": 10, "lr": 10}, {"step": 20, "lr": 21}]
    MetricsCSV(tmp_path / "none").forget_after(3)
    assert not (tmp_path / "none").exists()


def test_a_file_that_was_deleted_is_begun_again(tmp_path: Path) -> None:
    metrics = MetricsCSV(tmp_path)
    metrics.log_metrics({"lr": 1.0}, step=1)
    metrics.path.unlink()
    metrics.log_metrics({"lr": 2.0}, step=2)
    assert read_metrics(metrics.path) == [{"step": 2, "lr": 2}]


def test_a_last_line_cut_short_by_a_crash(tmp_path: Path) -> None:
    """Cut anywhere, also where what is left reads as a row of its own, such as step 25 of 2500."""
    metrics = MetricsCSV(tmp_path)
    metrics.log_metrics({"train/total": 0.75, "lr": 0.5}, step=1000)
    metrics.log_metrics({"train/total": 0.25, "lr": 0.125}, step=2500)
    whole = metrics.path.read_bytes()
    kept, after = {"step": 1000, "train/total": 0.75, "lr": 0.5}, {"step": 3000, "lr": 1}
    for end in range(whole.index(b"2500"), len(whole) - 1):
        metrics.path.write_bytes(whole[:end])
        assert read_metrics(metrics.path) == [kept]
        MetricsCSV(tmp_path).log_metrics({"lr": 1.0}, step=3000)
        assert read_metrics(metrics.path) == [kept, after]


def test_lines_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(b"step,lr\r\n1,0.5\r\nx,y\r\n,3\r\n\xff\xfe,1\r\n2,nan\r\n3,1,surplus\r\n")
    rows = read_metrics(path)
    assert [row["step"] for row in rows] == [1, 2, 3]
    path.write_bytes(b"")
    assert read_metrics(path) == []


def test_numbers_make_the_round_trip(tmp_path: Path) -> None:
    rows = [{"step": 123456.0, "lr": 1.23456789e-7, "val/total": 98765.4321}]
    write_metrics(tmp_path / "metrics.csv", rows)
    assert read_metrics(tmp_path / "metrics.csv") == rows
    assert "123456," in (tmp_path / "metrics.csv").read_text()


# Weights & Biases and TensorBoard. Made, not started: nothing is sent or written.


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, and WANDB_MODE as it was afterwards."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NETRC", raising=False)
    for name in ("WANDB_MODE", "WANDB_SILENT"):
        monkeypatch.setenv(name, "")  # so that what the code sets is taken back
        monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def mode_after(folder: Path) -> str | None:
    pytest.importorskip("wandb")
    logger = wandb(folder=folder)
    assert logger is not None
    assert logger._offline == (os.environ.get("WANDB_MODE") == "offline")  # type: ignore[attr-defined]
    return os.environ.get("WANDB_MODE")


def test_wandb_without_a_key_is_offline(home: Path, tmp_path: Path) -> None:
    assert mode_after(tmp_path) == "offline"


def test_wandb_with_a_key_is_not(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert mode_after(tmp_path) is None


@pytest.mark.parametrize(
    ("address", "machine", "expected"),
    [
        (None, "api.wandb.ai", None),
        (None, "example.org", "offline"),
        ("https://wandb.example.org:8080/", "wandb.example.org", None),
        ("https://wandb.example.org", "api.wandb.ai", "offline"),
    ],
)
def test_wandb_with_a_key_in_the_netrc_file(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str | None, machine: str, expected: str | None
) -> None:
    if address:
        monkeypatch.setenv("WANDB_BASE_URL", address)
    (home / ".netrc").write_text(f"machine {machine}\nlogin user\npassword {'0' * 40}\n")
    (home / ".netrc").chmod(0o600)
    assert mode_after(tmp_path) == expected


def test_wandb_does_what_it_is_told(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".netrc").write_text("not a netrc file {")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert mode_after(tmp_path) == "disabled"
    monkeypatch.setenv("WANDB_MODE", "")
    assert mode_after(tmp_path) == "offline"


def test_packages_that_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    assert wandb(folder=tmp_path) is None
    with pytest.raises(UsageError, match="logger=wandb needs the package wandb: pip install wandb"):
        wandb(folder=tmp_path, required=True)
    with pytest.raises(UsageError, match="logger=tensorboard needs the package tensorboard"):
        tensorboard(folder=tmp_path)


def test_a_folder_that_is_called_like_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb leaves a folder `wandb` behind, which Python takes for a package without code."""
    (tmp_path / "left_behind").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert not loggers._installed("left_behind")
    assert loggers._installed("numpy")


def test_tensorboard_writes_into_the_runs_folder(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    logger = tensorboard(folder=tmp_path)
    logger.log_metrics({"train/total": 1.0}, step=1)
    logger.finalize("success")
    assert [path.parent.name for path in tmp_path.rglob("events.out.*")] == ["tensorboard"]
