"""Repainting with torch gives onnxruntime's pictures."""

import subprocess
import sys

import numpy as np
import pytest

from fst import images
from fst.cli import main
from fst.errors import UsageError
from fst.inference.stylizer import Stylizer

torch = pytest.importorskip("torch")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def photo(height=40, width=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def made(path, **options):
    from fst.export import model
    from fst.inference.torch_backend import TorchStylizer

    return TorchStylizer(*model.read(path), path=path, **options)


@pytest.mark.parametrize(("height", "width"), [(40, 56), (17, 31), (5, 3)])
def test_gives_onnxruntimes_picture(johnson_model, height, width):
    pixels = photo(height, width)
    got, wanted = made(johnson_model, device="cpu")(pixels), Stylizer(johnson_model)(pixels)
    assert got.shape == wanted.shape
    assert np.abs(got.astype(int) - wanted).max() <= 1  # a value beside a half may round the other way
    assert (got != wanted).mean() < 0.01


def test_takes_a_stylizers_options(johnson_model):
    stylizer = made(johnson_model, device="cpu", max_side=20, keep_colors=True)
    assert stylizer(photo(40, 80)).shape == (10, 20, 3)
    assert stylizer.recipe.name == "small"
    assert stylizer.path == johnson_model


def test_other_devices_are_refused(johnson_model):
    with pytest.raises(UsageError, match="no provider 'coreml' here; it has cpu and cuda"):
        made(johnson_model, device="coreml")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="finds no CUDA device"):
            made(johnson_model, device="cuda")


def test_the_command_paints_with_torch(johnson_model, tmp_path, capsys):
    pixels = photo()
    images.write(tmp_path / "a.png", pixels)
    argv = ["stylize", str(tmp_path / "a.png"), "-s", str(johnson_model), "-o", str(tmp_path / "b.png")]
    assert main([*argv, "--backend", "torch", "--provider", "cpu"]) == 0
    wanted = Stylizer(johnson_model)(pixels)
    assert np.abs(images.read(tmp_path / "b.png").pixels.astype(int) - wanted).max() <= 1
    assert main([*argv[:3], str(tmp_path / "x.pt2"), *argv[4:], "--overwrite"]) == 2
    assert "a .pt2 can run code" in capsys.readouterr().err


@pytest.mark.slow
def test_export_and_paint_with_a_program(johnson_model, tmp_path):
    images.write(tmp_path / "a.png", photo())
    fst = [sys.executable, "-m", "fst"]
    subprocess.run([*fst, "export", str(johnson_model), "-o", str(tmp_path / "x.pt2")], check=True)
    argv = ["stylize", "a.png", "-s", "x.pt2", "-o", "b.png", "--backend", "torch", "--provider", "cpu"]
    subprocess.run([*fst, *argv], check=True, cwd=tmp_path)
    got = images.read(tmp_path / "b.png").pixels.astype(int)
    assert np.abs(got - Stylizer(johnson_model)(photo())).max() <= 1


@needs_cuda
def test_on_cuda_within_bfloat16_and_the_same_from_every_graph(johnson_model):
    stylizer, wanted = made(johnson_model, device="cuda"), Stylizer(johnson_model)
    for size in ((64, 64), (70, 101), (64, 64), (16, 16), (17, 31), (90, 40), (64, 64)):
        pixels = photo(*size)
        assert np.abs(stylizer(pixels).astype(int) - wanted(pixels)).mean() < 4
    assert len(stylizer._graphs) == 4
    again = stylizer(pixels)
    assert np.array_equal(stylizer(pixels), again)
