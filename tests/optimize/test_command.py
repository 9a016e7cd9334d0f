"""`fst optimize` as people use it and misuse it."""

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from fst import images
from fst.cli import main
from fst.commands.optimize import parser
from fst.optimize.memory import needed_bytes
from fst.optimize.pixels import scales
from fst.paths import carried

QUICK = ("--iterations", "3", "--style-layers", "relu1_1", "--content-layers", "relu1_2")


@pytest.fixture
def there(tmp_path: Path, photo: Callable[..., Any], random_vgg: Callable[..., Path], monkeypatch: Any) -> Path:
    """A folder with photo.png, 60x40, and style.png, 50x50, which is the current one; VGG-19's weights are known."""
    photo(0, 60, 40).save(tmp_path / "photo.png")
    photo(1, 50, 50).save(tmp_path / "style.png")
    monkeypatch.setenv("FST_VGG19_WEIGHTS", str(random_vgg(8)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paint(*words: Any) -> int:
    return main(["optimize", "photo.png", "style.png", *map(str, words)])


def test_it_writes_the_picture_that_it_names(there: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert paint("-o", "new/out.png", *QUICK) == 0
    told, complaints = capfd.readouterr()
    assert told.splitlines()[-1] == "new/out.png"
    assert "iteration 3/3  60x40  content" in told
    assert complaints == ""
    painted = images.read(there / "new" / "out.png")
    assert painted.size == (60, 40)
    assert np.abs(painted.pixels.astype(int) - images.read("photo.png").pixels).mean() > 1
    assert [file.name for file in (there / "new").iterdir()] == ["out.png"]


def test_json_and_nothing_else(there: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert paint("-o", "out.png", "--json", *QUICK) == 0
    told = json.loads(capfd.readouterr().out)
    assert {name: told[name] for name in ("output", "width", "height", "iterations", "stopped")} == {
        "output": "out.png",
        "width": 60,
        "height": 40,
        "iterations": 3,
        "stopped": False,
    }
    assert told["total"] == pytest.approx(0.1 * told["content"] + told["style"], rel=1e-4)


def test_sizes_transparency_and_profile(there: Path, photo: Callable[..., Any]) -> None:
    clear = photo(0, 60, 40).convert("RGBA")
    clear.putalpha(77)
    clear.save("photo.png", icc_profile=images.to_pil(images.read("photo.png")).info.get("icc_profile"))
    assert paint("-o", "small.png", "--size", "45", *QUICK) == 0
    with Image.open("small.png") as small:
        assert small.size == (45, 30)
        assert small.getchannel("A").getextrema() == (77, 77)


def test_keep_colors_by_luminance_has_the_photos_chroma(there: Path) -> None:
    assert paint("-o", "own.png", *QUICK) == 0
    assert paint("-o", "out.png", "--keep-colors", "luminance", *QUICK) == 0

    def chroma(name: str) -> np.ndarray:
        with Image.open(name) as picture:
            return np.asarray(picture.convert("YCbCr"), int)[..., 1:]

    inside = ((images.read("out.png").pixels > 0) & (images.read("out.png").pixels < 255)).all(2)
    assert inside.mean() > 0.5
    assert np.abs(chroma("out.png") - chroma("photo.png"))[inside].max() <= 2
    assert np.abs(chroma("own.png") - chroma("photo.png"))[inside].max() > 2


def test_matched_colors_bring_the_photos_mean(there: Path) -> None:
    """From the style alone: what is left of it are the photo's colours."""
    alone = ("--content-weight", "0", "--init", "style.png", "--iterations", "12", *QUICK[2:])
    assert paint("-o", "own.png", *alone) == 0
    assert paint("-o", "out.png", "--keep-colours", "matched", *alone) == 0
    photo, own, out = (images.read(f"{name}.png").pixels.mean((0, 1)) for name in ("photo", "own", "out"))
    assert np.abs(out - photo).max() < np.abs(own - photo).max()


def test_several_styles_noise_and_every_option(there: Path) -> None:
    words = ["photo.png", "style.png", "photo.png", "--mix", "3,1", "--init", "noise", "--seed", "2", "-o", "out.jpg"]
    words += ["--optimizer", "adam", "--average", "0.5", "--style-scale", "0.7", "--tv-weight", "0.1", "--threads", "1"]
    words += ["--style-distances", "gram,moments,wasserstein:0.5", "--start-size", "32", "--precision", "32-true"]
    assert main(["optimize", *words, "--device", "cpu", *QUICK]) == 0
    assert images.read("out.jpg").size == (60, 40)
    first = Path("out.jpg").read_bytes()
    assert main(["optimize", *words, "--overwrite", *QUICK]) == 0
    assert Path("out.jpg").read_bytes() == first


def test_a_time_budget_ends_it_at_full_size(there: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert paint("-o", "out.png", "--iterations", "100000", "--time-budget", "1", "--start-size", "20", "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["width"], told["height"]) == (60, 40)
    assert told["iterations"] < 100_000


@pytest.mark.parametrize(
    ("code", "words", "says"),
    [
        (2, ["photo.png", "style.png"], "--out"),
        (2, ["photo.png", "-o", "out.png"], "STYLE"),
        (1, ["none.png", "style.png", "-o", "out.png"], "none.png: no such file"),
        (1, ["photo.png", "none.png", "-o", "out.png"], "none.png: no such file"),
        (1, ["photo.png", "text.jpg", "-o", "out.png"], "text.jpg: is no picture"),
        (1, ["photo.png", "style.png", "--init", "text.jpg", "-o", "out.png"], "text.jpg: is no picture"),
        (1, ["photo.png", "style.png", "-o", "out.gif"], "out.gif: .gif pictures are not written"),
        (1, ["photo.png", "style.png", "-o", "text.jpg/out.png"], "cannot be written"),
        (2, ["photo.png", "style.png", "-o", "taken.png"], "taken.png exists: --overwrite replaces it"),
        (2, ["photo.png", "style.png", "-o", "photo.png", "--overwrite"], "replaced by its own painting"),
        (2, ["photo.png", "style.png", "-o", "./style.png", "--overwrite"], "replaced by its own painting"),
        (2, ["tiny.png", "style.png", "-o", "out.png"], "the photo is 15x40 px: 16 at least are needed each way"),
        (2, ["photo.png", "dot.png", "-o", "out.png"], "dot.png is 1x1 px: too small for a style"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--size", "15"], "--size: must be at least 16 pixels, not 15"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--size", "20"], "the photo is 20x13 px"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--size", "big"], "--size"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--mix", "1,2"], "2 weights were given for 1 styles"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--mix", "0"], "one is above 0"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--mix", "1;2"], "is a number for each style, like 2,1"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--mix", "-1,2"], "--mix"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--iterations", "0"], "--iterations: must be at least 1"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--time-budget", "0"], "--time-budget: must be above 0"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--average", "1"], "--average: goes from 0 to below 1"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--style-weight", "nan"], "--style-weight: must be 0 or more"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--style-layers", "relu9_1"], "VGG-19 has no layer 'relu9_1'"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--style-layers", "relu1_1:x"], "--style-layers: a weight"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--style-distances", "gramm"], "did you mean gram?"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--content-layers", "relu1_1:0"], "content_layers needs one"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--keep-colors", "hue"], "luminance"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--keep-color", "matched"], "did you mean --keep-colo"),
        (2, ["photo.png", "style.png", "-o", "out.png", "--device", "tpu"], "--device"),
        (1, ["photo.png", "style.png", "-o", "out.png", "--style-layers", "relu4_1"], "holds VGG-19 only to relu3_4"),
        (1, ["photo.png", "style.png", "-o", "out.png", "--style-weight", "1e39"], "the loss is inf at iteration 1"),
    ],
)
def test_misuse_is_one_line(
    there: Path, capfd: pytest.CaptureFixture[str], code: int, words: list[str], says: str
) -> None:
    (there / "text.jpg").write_text("hello")
    (there / "taken.png").touch()
    Image.new("RGB", (15, 40)).save("tiny.png")
    Image.new("RGB", (1, 1)).save("dot.png")
    before = {path: path.read_bytes() for path in there.iterdir()}
    assert main(["optimize", *words]) == code
    complaint = capfd.readouterr().err.strip()
    assert complaint.startswith("fst: ")
    assert "\n" not in complaint
    assert says in complaint
    assert "as it was before" not in complaint, "nothing was written"
    assert {path: path.read_bytes() for path in there.iterdir()} == before


def test_without_weights_it_says_where_they_belong(
    there: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FST_VGG19_WEIGHTS", "none.pth")
    assert paint("-o", "out.png") == 2
    assert "FST_VGG19_WEIGHTS=none.pth: no such file" in capfd.readouterr().err
    (there / "none.pth").write_text("no weights")
    assert paint("-o", "out.png") == 1
    assert "FST_VGG19_WEIGHTS=FILE" in capfd.readouterr().err


def test_more_than_the_memory_is_refused(
    there: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = needed_bytes(60 * 40, 0, bfloat16=False)
    monkeypatch.setattr("fst.inference.memory.available_bytes", lambda: needed / 2)
    assert paint("-o", "out.png", "--precision", "32-true", "--device", "cpu") == 1
    complaint = capfd.readouterr().err
    assert f"60x40 pixels take {needed / 1e9:.1f} GB of memory" in complaint
    assert "make --size" in complaint
    assert not Path("out.png").exists()


def start(*words: Any, **options: Any) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "fst", "optimize", "photo.png", "style.png", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_ctrl_c_keeps_the_picture(there: Path) -> None:
    running = start(
        *("-o", "out.png", "--iterations", "1000000", "--start-size", "20"),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # tests may run in background
    )
    deadline = time.monotonic() + 300
    while not Path("out.png").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert images.read("out.png").size[::-1] in scales((40, 60), 20)  # whole, whenever it is looked at
    running.send_signal(signal.SIGINT)
    told, complaints = running.communicate(timeout=300)
    assert running.returncode == 130, complaints
    assert "stopped at iteration" in told.splitlines()[-1]
    assert "out.png is the best picture so far" in told.splitlines()[-1]
    assert "Traceback" not in complaints
    images.read("out.png")
    assert not list(there.glob(".*.part*"))


def test_a_disk_that_is_full_is_said(there: Path) -> None:
    def little_space() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))

    running = start("-o", "out.png", *QUICK, preexec_fn=little_space)
    _, complaints = running.communicate(timeout=300)
    assert running.returncode == 1
    assert "fst: out.png: cannot be written (file too large); give another place" in complaints
    assert not list(there.glob("*out*"))


def test_defaults_are_those_of_training() -> None:
    conf = yaml.safe_load((carried("conf") / "loss" / "default.yaml").read_text())
    a = parser().parse_args(["a", "b", "-o", "c.png"])
    assert a.style_layers.split(",") == conf["style_layers"]
    assert a.content_layers.split(",") == conf["content_layers"]
    assert (a.content_weight, a.style_weight, a.tv_weight) == (
        conf["content_weight"],
        conf["style_weight"],
        conf["tv_weight"],
    )


def test_help_says_how_much_a_size_needs() -> None:
    text = parser().format_help()
    assert f"{needed_bytes(1024 * 683, 0, bfloat16=True) / 1e9:.1f}" in text
