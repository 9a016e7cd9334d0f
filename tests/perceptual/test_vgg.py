"""fst.perceptual.vgg against torchvision's VGG-19, and where it finds its weights."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fst.errors import FstError, UsageError
from fst.perceptual import vgg
from fst.perceptual.vgg import VGG19, check_taps

MakeWeights = Callable[..., Path]
# The layers of torchvision.models.vgg19().features that give these taps, counted by hand.
TORCHVISION = {"relu1_1": 1, "relu1_2": 3, "relu2_1": 6, "relu2_2": 8, "relu3_1": 11, "relu3_4": 17, "relu4_2": 22,
               "relu5_1": 29, "relu5_4": 35}  # fmt: skip


def picture(height: int = 40, width: int = 33, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_against_torchvision_to_relu5_4(random_vgg: MakeWeights) -> None:
    from torchvision.models.vgg import cfgs, make_layers

    weights = random_vgg(16)
    ours = VGG19(taps=["relu5_4"], weights=weights, padding="zeros")
    theirs = make_layers(cfgs["E"]).eval()
    theirs.load_state_dict({name.removeprefix("features."): value for name, value in load_file(weights).items()})
    x = picture(batch=2)
    with torch.no_grad():
        got = ours(x, TORCHVISION)
        normal = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
            3, 1, 1
        )
        expected, by_index = normal, {index: tap for tap, index in TORCHVISION.items()}
        for index, layer in enumerate(theirs):
            expected = layer(expected)
            if index in by_index:
                torch.testing.assert_close(got.pop(by_index[index]), expected, rtol=1e-4, atol=1e-4)
    assert not got


def test_only_as_deep_as_asked(random_vgg: MakeWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor = VGG19(taps=["relu1_1", "relu3_1"], weights=random_vgg())
    assert list(extractor.convolutions) == ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]
    calls: list[int] = []
    convolve = vgg.frozen_conv_relu
    monkeypatch.setattr(vgg, "frozen_conv_relu", lambda x, w, *rest: calls.append(len(w)) or convolve(x, w, *rest))
    assert list(extractor(picture(), ["relu2_1"])) == ["relu2_1"]
    assert calls == [64, 64, 128]
    calls.clear()
    assert extractor(picture(), []) == {}
    assert calls == []


def test_replicated_borders(random_vgg: MakeWeights) -> None:
    """A flat picture stays flat to its border, and only borders differ from zero padding."""
    flat = VGG19(taps=["relu2_1"], weights=random_vgg(), padding="replicate")(
        torch.full((1, 3, 24, 24), 0.3), ["relu2_1"]
    )
    value = flat["relu2_1"]
    torch.testing.assert_close(value, value[..., 5:6, 5:6].expand_as(value), rtol=1e-4, atol=1e-5)
    zeros, replicate = (
        VGG19(taps=["relu2_1"], weights=random_vgg(), padding=p)(picture(), ["relu2_1"])["relu2_1"]  # type: ignore[arg-type]
        for p in ("zeros", "replicate")
    )
    assert zeros.shape == replicate.shape
    torch.testing.assert_close(zeros[..., 3:-3, 3:-3], replicate[..., 3:-3, 3:-3], rtol=1e-4, atol=1e-5)
    assert (zeros - replicate)[..., 0, :].abs().max() > 0.01


def test_frozen(random_vgg: MakeWeights) -> None:
    extractor = VGG19(taps=["relu2_1"], weights=random_vgg())
    x = picture().requires_grad_()
    extractor.train()
    assert not extractor.training
    extractor(x, ["relu2_1"])["relu2_1"].square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0
    assert [p for p in extractor.parameters() if p.requires_grad or p.grad is not None] == []
    assert "mean" not in extractor.state_dict()


def test_layers_that_are_not_there(random_vgg: MakeWeights) -> None:
    with pytest.raises(UsageError, match="no layer 'relu3_5': did you mean relu3_"):
        check_taps(["relu1_1", "relu3_5"])
    with pytest.raises(UsageError, match="no layer 'conv3_1': known: relu1_1"):
        VGG19(taps=["conv3_1"], weights=random_vgg())
    with pytest.raises(UsageError, match="at least one layer"):
        VGG19(taps=[], weights=random_vgg())
    with pytest.raises(UsageError, match='"zeros" or "replicate", not \'same\''):
        VGG19(taps=["relu1_1"], weights=random_vgg(), padding="same")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="built without relu3_1"):
        VGG19(taps=["relu2_1"], weights=random_vgg())(picture(), ["relu1_1", "relu3_1"])


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision would keep its file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints" / "vgg19-dcbb9e9d.pth"


def test_where_weights_are_looked_for(
    random_vgg: MakeWeights, cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, named = random_vgg(1, seed=1), random_vgg(1, seed=2)
    assert vgg.find_local_weights() is None
    cached.parent.mkdir(parents=True)
    torch.save(load_file(random_vgg(1, seed=3)), cached)
    assert vgg.find_local_weights() == vgg.cached_weights() == cached
    monkeypatch.setenv("FST_VGG19_WEIGHTS", str(named))
    assert vgg.find_local_weights() == named
    assert vgg.find_weights(given) == given
    assert VGG19(taps=["relu1_1"], weights=given).weights_path == given
    with pytest.raises(UsageError, match=r"perceptual\.weights=/no/such/file: no such file"):
        vgg.find_weights("/no/such/file")
    monkeypatch.setenv("FST_VGG19_WEIGHTS", str(tmp_path))
    with pytest.raises(UsageError, match=f"FST_VGG19_WEIGHTS={tmp_path}: no such file"):
        vgg.find_weights()


def publish(web: Any, content: bytes, prefix: str, cached: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a file where torchvision is made to say that its weights are."""
    import torchvision.models

    (web.folder / f"vgg19-{prefix}.pth").write_bytes(content)
    address = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=f"{web.url}/vgg19-{prefix}.pth"))
    monkeypatch.setattr(torchvision.models, "VGG19_Weights", address)
    target = cached.with_name(f"vgg19-{prefix}.pth")
    monkeypatch.setattr(vgg, "cached_weights", lambda: target)
    return target


def test_the_name_in_the_cache_is_torchvisions() -> None:
    from torchvision.models import VGG19_Weights

    assert VGG19_Weights.IMAGENET1K_V1.url.endswith(vgg.cached_weights().name)


def test_download(
    random_vgg: MakeWeights, web: Any, cached: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(load_file(random_vgg(1)), tmp_path / "weights.pth")
    content = (tmp_path / "weights.pth").read_bytes()
    target = publish(web, content, hashlib.sha256(content).hexdigest()[:8], cached, monkeypatch)
    told: list[int] = []
    first = VGG19(taps=["relu1_1"], on_progress=lambda p: told.append(p.done_bytes))
    assert first.weights_path == target
    assert target.read_bytes() == content
    assert told[-1] == len(content)
    assert VGG19(taps=["relu1_1"]).weights_sha256 == first.weights_sha256
    assert len(web.asked) == 1, "what was fetched once is fetched again"


def test_a_download_that_is_another_file(web: Any, cached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = publish(web, b"something else", "0123abcd", cached, monkeypatch)
    with pytest.raises(FstError, match=r"wanted 0123abcd.*FST_VGG19_WEIGHTS=FILE"):
        VGG19(taps=["relu1_1"])
    assert not target.exists()


def test_both_kinds_of_file_hold_the_same(random_vgg: MakeWeights, tmp_path: Path) -> None:
    pth = tmp_path / "weights.pth"
    torch.save(load_file(random_vgg(16)), pth)
    deep, whole, short = (VGG19(taps=["relu3_1"], weights=w) for w in (random_vgg(16), pth, random_vgg(5)))
    assert deep.weights_sha256 == whole.weights_sha256
    assert len(deep.weights_sha256) == 64
    assert deep.weights_sha256 == short.weights_sha256, "what lies deeper than asked for counts"
    changed = load_file(random_vgg(16))
    changed["features.10.bias"][7] += 1e-3
    save_file(changed, tmp_path / "changed.safetensors")
    assert VGG19(taps=["relu3_1"], weights=tmp_path / "changed.safetensors").weights_sha256 != deep.weights_sha256


def refusal(weights: Path, tap: str = "relu1_1") -> str:
    with pytest.raises(FstError) as caught:
        VGG19(taps=[tap], weights=weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_not_enough(random_vgg: MakeWeights, tmp_path: Path) -> None:
    said = refusal(random_vgg(8), "relu4_2")
    assert "holds VGG-19 only to relu3_4, and relu4_2 was asked for" in said
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    assert "holds no weights of VGG-19" in refusal(tmp_path / "other.safetensors")
    torch.save({"features.0.weight": "text"}, tmp_path / "text.pth")
    assert "holds no weights of VGG-19" in refusal(tmp_path / "text.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    assert "holds list, not weights by name" in refusal(tmp_path / "list.pth")
    small = load_file(random_vgg(1)) | {"features.0.weight": torch.zeros(32, 3, 3, 3)}
    save_file(small, tmp_path / "small.safetensors")
    assert "is not VGG-19: conv1_1 is (32, 3, 3, 3), not (64, 3, 3, 3)" in refusal(tmp_path / "small.safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_damaged_files(random_vgg: MakeWeights, tmp_path: Path, suffix: str) -> None:
    whole, path = tmp_path / f"whole{suffix}", tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save(load_file(random_vgg(1)), whole)
    else:
        whole = random_vgg(1)
    for content in (whole.read_bytes()[:-500], whole.read_bytes()[:40], b"", b"<html>not found</html>"):
        path.write_bytes(content)
        said = refusal(path)
        assert said.startswith(str(path))
        assert "FST_VGG19_WEIGHTS=FILE (or fst train perceptual.weights=FILE)" in said


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(ran),)

    torch.save({"features.0.weight": Code()}, tmp_path / "code.pth")
    said = refusal(tmp_path / "code.pth")
    assert "holds code or is damaged: it was not opened" in said
    assert "weights_only" not in said, "it tells how to run the code"
    assert not ran.exists()


def test_the_real_network_sees_edges_where_there_are_edges(vgg_weights: Path, shared: Path) -> None:
    """relu3_1 answers to a photo's detail: blurred, the same photo answers less. The hash is the same each time."""
    with Image.open(next((shared / "photos" / "validation").glob("*.jpg"))) as opened:
        photo = opened.convert("RGB").resize((128, 128))
    blurred = photo.resize((8, 8), Image.Resampling.BOX).resize((128, 128), Image.Resampling.BICUBIC)
    extractor = VGG19(taps=["relu3_1"], weights=vgg_weights)
    sharp, smooth = (
        extractor(torch.from_numpy(np.array(p)).permute(2, 0, 1)[None] / 255, ["relu3_1"])["relu3_1"]
        for p in (photo, blurred)
    )
    assert sharp.shape == (1, 256, 32, 32)
    assert sharp.min() == 0
    assert 0.2 < (sharp > 0).float().mean() < 0.8
    assert sharp.std() > 1.5 * smooth.std()
    # The first five convolutions, each weight then bias.
    digest, stored = hashlib.sha256(), load_file(vgg_weights)
    for index in (0, 2, 5, 7, 10):
        digest.update(stored[f"features.{index}.weight"].numpy().tobytes())
        digest.update(stored[f"features.{index}.bias"].numpy().tobytes())
    assert extractor.weights_sha256 == digest.hexdigest()
