"""fst.export.pt2: a torch.export program gives the network's pictures at any size, and comes back with its recipe."""

import shutil
import zipfile
from typing import ClassVar

import pytest
import torch

from fst import bundle, nets
from fst.errors import FstError
from fst.export import model, pt2


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(1)
    net = nets.build({"name": "johnson", "width": 4, "blocks": 1}).eval()
    return net, bundle.Recipe(name="small", net=nets.recipe_of(net), steps=7)


@pytest.fixture(scope="module")
def written(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("pt2") / "small.pt2"
    assert pt2.write(path, *small) < 1e-5
    return path


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 16, 16), (1, 17, 31), (3, 70, 101), (1, 19, 203)])
def test_the_networks_picture_at_any_size(small, written, batch, height, width):
    net, recipe = small
    again, its_recipe = model.read(written)
    image = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        wanted, got = net(image), again(image)
    assert wanted.std() > 0.01
    assert got.shape == wanted.shape
    assert (got - wanted).abs().max() < 1e-5
    assert its_recipe == recipe


def test_a_program_of_another_network_is_refused(small, tmp_path, monkeypatch):
    net, recipe = small
    other = nets.build({"name": "johnson", "width": 4, "blocks": 1})
    wrong = pt2.program_of(other)
    monkeypatch.setattr(pt2, "program_of", lambda net: wrong)
    with pytest.raises(FstError, match=r"differs from torch by [\d.]+/255"):
        pt2.write(tmp_path / "x.pt2", net, recipe)
    assert not (tmp_path / "x.pt2").exists()


def test_other_files_are_refused(written, tmp_path):
    (tmp_path / "text.pt2").write_text("hello")
    (tmp_path / "cut.pt2").write_bytes(written.read_bytes()[:1000])
    with zipfile.ZipFile(tmp_path / "plain.pt2", "w") as archive:
        archive.writestr("x/y", "z")
    for name in ("text", "cut", "plain"):
        with pytest.raises(FstError, match=r"damaged, or not a \.pt2 file of fst export"):
            pt2.read(tmp_path / f"{name}.pt2")
    with pytest.raises(FstError, match="no such file"):
        pt2.read(tmp_path / "none.pt2")


class Brightened(torch.nn.Module):
    """An input by keyword."""

    inputs: ClassVar = {"strength": 1.0}

    def forward(self, image, strength=None):
        return (image * (1.0 if strength is None else strength.view(-1, 1, 1, 1))).clamp(0, 1)


@pytest.mark.parametrize("aot", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_further_inputs_go_by_keyword(tmp_path, aot):
    if aot and shutil.which("g++") is None:
        pytest.skip("needs g++")
    recipe = bundle.Recipe(name="bright", inputs=Brightened.inputs)
    assert pt2.write(tmp_path / "x.pt2", Brightened(), recipe, aot=aot) < 1e-6
    again, its_recipe = pt2.read(tmp_path / "x.pt2")
    assert its_recipe.inputs == {"strength": 1.0}
    image, strength = torch.rand(3, 3, 20, 33), torch.tensor([0.0, 0.5, 1.0])
    got = again(image, strength=strength)
    for picture, photo, factor in zip(got, image, (0, 0.5, 1), strict=True):
        torch.testing.assert_close(picture, photo * factor)


@pytest.mark.slow
def test_a_compiled_package_gives_the_networks_picture(small, tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    net, recipe = small
    assert pt2.write(tmp_path / "x.pt2", net, recipe, aot=True) < 1e-4
    again, its_recipe = pt2.read(tmp_path / "x.pt2")
    image = torch.rand(2, 3, 37, 50)
    with torch.no_grad():
        assert (again(image) - net(image)).abs().max() < 1e-4
    assert its_recipe == recipe


@pytest.mark.slow
def test_no_compiler_is_one_line(small, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "/nowhere/g++")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    from torch._inductor import config

    with (  # config.patch: setting the attribute, and back, would hide it from whatever compiles next
        config.patch({"cpp.cxx": ("/nowhere/g++",)}),
        pytest.raises(FstError, match="AOTInductor cannot compile it here") as caught,
    ):
        pt2.write(tmp_path / "x.pt2", *small, aot=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.pt2").exists()
