"""Other projects' checkpoints, against what those projects' own code computes."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fst import Stylizer
from fst.errors import FstError
from fst.export.foreign import load_pytorch_examples


def peer_state(width=8, blocks=2, seed=0):
    """A checkpoint with the names and shapes of pytorch/examples' fast neural style."""
    torch.manual_seed(seed)
    w = width
    shapes = {"conv1": (w, 3, 9), "conv2": (2 * w, w, 3), "conv3": (4 * w, 2 * w, 3)}
    shapes |= {"deconv1": (2 * w, 4 * w, 3), "deconv2": (w, 2 * w, 3), "deconv3": (3, w, 9)}
    shapes |= {f"res{b}.conv{n}": (4 * w, 4 * w, 3) for b in range(1, blocks + 1) for n in (1, 2)}
    norms = {"in1": w, "in2": 2 * w, "in3": 4 * w, "in4": 2 * w, "in5": w}
    norms |= {f"res{b}.in{n}": 4 * w for b in range(1, blocks + 1) for n in (1, 2)}
    state = {}
    for name, (out, inputs, kernel) in shapes.items():
        state[f"{name}.conv2d.weight"] = torch.randn(out, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5
        state[f"{name}.conv2d.bias"] = torch.randn(out)
    for name, channels in norms.items():
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.rand(channels) + 0.5, torch.randn(channels)
    state["deconv3.conv2d.weight"] *= 60
    state["deconv3.conv2d.bias"] += 120
    return state


def peer_forward(s, x, blocks):
    """The network as that project writes it: 0..255 in and out, more pixels out than in for odd sizes."""

    def conv(name, x, stride=1, up=False):
        weight = s[f"{name}.conv2d.weight"]
        x = nn.functional.interpolate(x, scale_factor=2, mode="nearest") if up else x
        x = nn.functional.pad(x, [weight.shape[-1] // 2] * 4, mode="reflect")
        return nn.functional.conv2d(x, weight, s[f"{name}.conv2d.bias"], stride)

    def norm(name, x):
        return nn.functional.instance_norm(x, weight=s[f"{name}.weight"], bias=s[f"{name}.bias"])

    for number, stride in ((1, 1), (2, 2), (3, 2)):
        x = torch.relu(norm(f"in{number}", conv(f"conv{number}", x, stride)))
    for b in range(1, blocks + 1):
        y = torch.relu(norm(f"res{b}.in1", conv(f"res{b}.conv1", x)))
        x = x + norm(f"res{b}.in2", conv(f"res{b}.conv2", y))
    for number in (1, 2):
        x = torch.relu(norm(f"in{number + 3}", conv(f"deconv{number}", x, up=True)))
    return conv("deconv3", x)


@pytest.mark.parametrize("size", [(64, 64), (70, 101), (17, 31)])
def test_reproduces_that_projects_own_network(tmp_path, size):
    state = peer_state()
    state["in1.running_mean"] = torch.zeros(8)  # stale keys of old files
    torch.save(state, tmp_path / "peer.pth")
    net = load_pytorch_examples(tmp_path / "peer.pth").eval()
    x = torch.rand(1, 3, *size)
    with torch.no_grad():
        wanted = peer_forward(state, x * 255, blocks=2)[..., : size[0], : size[1]]
        got = net(x) * 255
    assert wanted.std() > 20  # the comparison means something
    assert (got - wanted.clamp(0, 255)).abs().max() < 0.01


@pytest.mark.parametrize("name", ["pytorch_examples.pth", "pytorch_examples_old.pth"])
def test_reproduces_a_real_checkpoints_output(shared, name):
    from safetensors.torch import load_file

    pair = load_file(shared / "peers" / "pytorch_examples_io.safetensors")
    net = load_pytorch_examples(shared / "peers" / name).eval()
    unbounded = []
    net.last.register_forward_hook(lambda module, args, output: unbounded.append(output))
    with torch.no_grad():
        picture = net(pair["x"] / 255)
    assert (unbounded[0] * 255 - pair["y"]).abs().max() < 0.01  # to the last pixel, uncropped
    assert (picture * 255 - pair["y"][..., :70, :101].clamp(0, 255)).abs().max() < 0.01


@pytest.mark.slow
def test_command_makes_a_model_file(tmp_path):
    state = peer_state()
    torch.save(state, tmp_path / "peer.pth")
    command = [sys.executable, "-m", "fst", "import", str(tmp_path / "peer.pth"), "-o", str(tmp_path / "peer.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "peer.onnx")
    pixels = np.asarray(Image.effect_noise((101, 70), 60).convert("RGB"))
    x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))
    wanted = peer_forward(state, x, blocks=2)[0, :, :70, :101].clamp(0, 255).numpy().transpose(1, 2, 0)
    assert np.abs(Stylizer(tmp_path / "peer.onnx")(pixels) - wanted).max() <= 0.51


class Boom:
    def __reduce__(self):
        return (print, ("boom",))


@pytest.mark.filterwarnings("error")
def test_other_files_are_refused(tmp_path, capsys):
    torch.save({"weight": torch.zeros(1), "evil": Boom()}, tmp_path / "evil.pth")
    torch.save({"layer.weight": torch.zeros(3)}, tmp_path / "other.pth")
    state = peer_state()
    state["conv2.conv2d.weight"] = torch.zeros(3, 3, 3, 3)
    torch.save(state, tmp_path / "shape.pth")
    torch.save({0: torch.zeros(3)}, tmp_path / "numbered.pth")
    (tmp_path / "text.pth").write_text("hello")
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.pth", "JPEG")
    (tmp_path / "protocol.pth").write_bytes(pickle.dumps(Boom(), protocol=4))  # torch warns of it in two lines
    messages = {
        "evil": "not opened",
        "other": "no 'conv1",
        "shape": "size mismatch",
        "numbered": "not weights by name",
        "text": "not a PyTorch checkpoint",
        "photo": "not a PyTorch checkpoint",
        "protocol": "not opened",
        "none": "no such",
    }
    for name, message in messages.items():
        with pytest.raises(FstError, match=message) as caught:
            load_pytorch_examples(tmp_path / f"{name}.pth")
        assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""
