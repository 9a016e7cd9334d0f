"""What fst promises, measured on real runs: how well it learns, and what a repainting costs."""

import os
import subprocess
import sys

import numpy as np
import pytest

from fst import bundle
from fst.evaluation import bench
from fst.inference.stylizer import Stylizer

STYLE = "starry_night"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_300_steps_bring_the_style_loss_under_a_quarter(shared, vgg_weights, tmp_path):
    from fst.training.loggers import read_metrics

    command = [sys.executable, "-m", "fst", "train", "style=stained_glass", f"data.dir={shared / 'photos' / 'train'}"]
    command += ["data.size=128", "trainer.max_steps=300", "logger=csv", "samples_every_n_steps=0"]
    command += [f"perceptual.weights={vgg_weights}", f"hydra.run.dir={tmp_path / 'run'}"]
    subprocess.run(command, check=True, capture_output=True)
    style = {row["step"]: row["train/style"] for row in read_metrics(tmp_path / "run" / "metrics.csv")}
    assert style[300] < style[1] / 4, f"{style[1]:.4f} at step 1, {style[300]:.4f} at step 300"


@pytest.fixture(scope="module")
def costs():
    """What `fst bench start` finds: wall seconds and peak MB of `fst stylize` and of a minimal script, in turn."""
    if not hasattr(os, "wait4"):
        pytest.skip("needs os.wait4")
    found = bench.start(style=STYLE, photo=None, rounds=7, say=print)
    print({side: found[side] for side in ("fst", "minimal")})
    return found["ratio"]


@pytest.mark.slow
def test_stylize_takes_at_most_1_4_times_the_time_of_a_minimal_script(costs):
    assert costs["seconds"] <= 1.4, costs


@pytest.mark.slow
def test_stylize_takes_at_most_1_4_times_the_memory_of_a_minimal_script(costs):
    assert costs["peak_rss"] <= 1.4, costs


@pytest.mark.slow
def test_shipped_models_keep_sizes_and_give_torchs_pictures():
    import torch

    from fst.export import model
    from fst.export.onnx import check_parity

    for path in bundle.shipped().values():
        net, _ = model.read(path)
        with torch.no_grad():
            assert check_parity(net.eval(), bundle.read(path).graph, ((17, 31), (70, 101), (161, 99))) < 1 / 255
        style = {"style_image": np.zeros((64, 64, 3), np.uint8)} if bundle.encoder_of(path).is_file() else {}
        for height, width in ((17, 31), (70, 101), (512, 512), (1081, 1919)):
            assert Stylizer(path)(np.zeros((height, width, 3), np.uint8), **style).shape == (height, width, 3)
