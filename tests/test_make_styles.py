"""The drawn style pictures: the script repeats itself, and the carried files are the ones the YAML files describe."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
STYLES = ROOT / "conf" / "style"
NAMES = ("stained_glass", "woodcut", "pointillism")


def draw(out, *names):
    script = ROOT / "scripts" / "make_styles"
    return subprocess.run(
        [sys.executable, script, *names, "--size", "192", "--out", out], capture_output=True, text=True, check=False
    )


def field(name, key):
    text = (STYLES / f"{name}.yaml").read_text(encoding="utf-8")
    return re.search(rf"^{key}: (.+)$", text, re.MULTILINE)[1]


def test_two_runs_draw_the_same_pixels(tmp_path):
    for run in ("one", "two"):
        done = draw(tmp_path / run)
        assert done.returncode == 0, done.stderr
    for name in NAMES:
        with Image.open(tmp_path / "one" / f"{name}.jpg") as one, Image.open(tmp_path / "two" / f"{name}.jpg") as two:
            assert one.size == (192, 192)
            assert np.array_equal(np.asarray(one), np.asarray(two))
            assert np.asarray(one).std() > 30


def test_unknown_picture_is_refused(tmp_path):
    done = draw(tmp_path, "mona_lisa")
    assert done.returncode == 2
    assert "no such picture: mona_lisa" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_carried_picture_is_the_described_one(name):
    path = STYLES / field(name, "image")
    assert field(name, "name") == name
    assert hashlib.sha256(path.read_bytes()).hexdigest() == field(name, "sha256")
    assert path.stat().st_size <= 400_000
    with Image.open(path) as picture:
        assert picture.size == (768, 768)
        assert picture.mode == "RGB"
