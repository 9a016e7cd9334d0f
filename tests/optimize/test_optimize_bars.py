"""What fst optimize promises: a lower loss than plain Adam's, and memory that grows with the pixels."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fst import images
from fst.optimize.memory import needed_bytes
from fst.optimize.pixels import optimize
from fst.perceptual.losses import PerceptualLoss, style_target
from fst.perceptual.vgg import VGG19

STYLE_LAYERS = dict.fromkeys(("relu1_1", "relu2_1", "relu3_1", "relu3_4"), 1.0)
LOSS = PerceptualLoss(style_layers=STYLE_LAYERS, content_layers={"relu3_2": 1.0})
TAPS = (*STYLE_LAYERS, "relu3_2")


def opened(path: Path, width: int) -> Tensor:
    picture = images.read_rgb(path)
    size = (width, round(picture.height * width / picture.width))
    return torch.from_numpy(images.to_float(np.asarray(picture.resize(size, Image.Resampling.LANCZOS))))


@pytest.mark.slow
@pytest.mark.parametrize(("photo", "style"), [("chicago", "starry_night"), ("hoovertowernight", "wave")])
def test_lower_total_than_plain_adam(shared: Path, vgg_weights: Path, photo: str, style: str) -> None:
    """As many iterations from the same start; Adam with lr 0.03, clamped, one scale. Both are scored in float32."""
    vgg = VGG19(taps=TAPS, weights=vgg_weights)
    content, painting = opened(shared / "content" / f"{photo}.jpg", 96), opened(shared / "styles" / f"{style}.jpg", 96)
    target = style_target([painting], [vgg(painting, STYLE_LAYERS)], STYLE_LAYERS)
    wanted = vgg(content, ("relu3_2",))

    def total(pixels: Tensor) -> Tensor:
        return LOSS(pixels, vgg(pixels, TAPS), wanted, target).total.sum()

    pixels = content.clone().requires_grad_()
    adam = torch.optim.Adam([pixels], lr=0.03)
    for _ in range(120):
        adam.zero_grad()
        total(pixels).backward()  # type: ignore[no-untyped-call]
        adam.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
    *_, last = optimize(content, [painting], vgg, LOSS, iterations=120, start_size=64)
    assert last.size == content.shape[-2:]
    with torch.no_grad():
        ours, adams = float(total(last.result())), float(total(pixels))
    print(f"{photo} in {style}: {ours:.5f}, plain Adam {adams:.5f}")
    assert ours < adams


PEAK = r"""
import re, sys
import torch
from fst.optimize.pixels import optimize
from fst.perceptual.losses import PerceptualLoss
from fst.perceptual.vgg import VGG19
from fst.training.memory import keep_freed_memory

keep_freed_memory()
weights, height, bfloat16 = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "bfloat16"
layers = dict.fromkeys(("relu1_1", "relu2_1", "relu3_1", "relu3_4"), 1.0)
loss = PerceptualLoss(style_layers=layers, content_layers={"relu3_2": 1.0})
vgg = VGG19(taps=layers, weights=weights).to(memory_format=torch.channels_last)
photo = torch.rand(1, 3, height, 256)
for _ in optimize(photo, [photo[..., :64, :64]], vgg, loss, iterations=3, start_size=9999, bfloat16=bfloat16):
    pass
print(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1])  # ru_maxrss counts the parent's, too
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads kilobytes from Linux")
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_peak_memory_grows_with_the_pixels(random_vgg: Callable[..., Path], precision: str) -> None:
    """In a straight line, and as the help says, which counts a memory of L-BFGS that is full: 20 steps, not 2.

    The smallest picture takes more than starting does, or its peak would be that of the start.
    """

    def peak_bytes(height: int) -> int:
        command = [sys.executable, "-c", PEAK, str(random_vgg(8)), str(height), precision]
        return 1024 * int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    small, middle, large = (peak_bytes(height) for height in (512, 1024, 1536))
    # malloc keeps more or less from run to run
    assert middle == pytest.approx((small + large) / 2, abs=0.25 * (large - small))
    pixels = 512 * 256
    said = needed_bytes(2 * pixels, 0, bfloat16=precision == "bfloat16") - needed_bytes(
        pixels, 0, bfloat16=precision == "bfloat16"
    )
    full = (large - small) / 2 + pixels * 18 * 24
    print(f"{full / pixels:.0f} bytes a pixel, {(small - (large - small) / 2) / 1e6:.0f} MB besides")
    assert 0.7 * said < full < 1.1 * said
    assert large < needed_bytes(3 * pixels, 0, bfloat16=precision == "bfloat16")
