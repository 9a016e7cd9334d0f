"""Networks to files and back."""

import dataclasses
import pickle

import numpy as np
import pytest
import torch

from fst import bundle, images, nets
from fst.cli import main
from fst.errors import FstError, UsageError
from fst.export import model
from fst.inference.stylizer import Stylizer
from fst.perceptual import encoders


@pytest.fixture
def small():
    torch.manual_seed(1)
    net = nets.build({"name": "johnson", "width": 4, "blocks": 1})
    return net, bundle.Recipe(name="small", net=nets.recipe_of(net), steps=7)


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.slow
def test_both_kinds_give_the_weights_back(small, tmp_path):
    net, recipe = small
    for name in ("x.onnx", "x.safetensors"):
        model.write(tmp_path / name, net, recipe)
        again, its_recipe = model.read(tmp_path / name)
        assert same(net, again)
        assert its_recipe == recipe


def test_a_checkpoint_and_a_runs_folder_are_read(small, tmp_path):
    net, recipe = small
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    torch.save({model.RECIPE_KEY: recipe.to_json(), "state_dict": state}, tmp_path / "last.ckpt")
    for source in (tmp_path, tmp_path / "last.ckpt"):
        again, its_recipe = model.read(source)
        assert same(net, again)
        assert its_recipe == recipe


class Boom:
    def __reduce__(self):
        return (print, ("boom",))


def test_what_is_no_model_is_refused(small, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no last\.ckpt"):
        model.read(tmp_path / "empty")
    with pytest.raises(UsageError, match=r"ends in \.onnx, \.safetensors or \.pt2"):
        model.write(tmp_path / "x.pt", *small)
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps({"state_dict": Boom()}))
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    for name in ("evil.ckpt", "other.ckpt"):
        with pytest.raises(FstError, match="not a checkpoint of fst train"):
            model.read(tmp_path / name)
    assert capsys.readouterr().out == ""


def test_weights_that_do_not_fit_are_refused(small, tmp_path):
    net, _ = small
    wide = bundle.Recipe(name="wide", net={"name": "johnson", "width": 8, "blocks": 1, "output": "sigmoid"})
    model.write(tmp_path / "x.safetensors", net, wide)
    with pytest.raises(FstError, match="do not fit"):
        model.read(tmp_path / "x.safetensors")


def test_options_go_with_their_kind_of_file(small, tmp_path, photos):
    for name, option in (
        ("x.pt2", {"float16": True}),
        ("x.pt2", {"calibration": photos}),
        ("x.onnx", {"aot": True}),
        ("x.onnx", {"float16": True, "calibration": photos}),
    ):
        with pytest.raises(UsageError, match=r"is for \.(onnx|pt2) files|do not go together"):
            model.write(tmp_path / name, *small, **option)
    assert not list(tmp_path.glob("x.*"))


@pytest.fixture(scope="module")
def any_net():
    torch.manual_seed(0)
    recipe = {"name": "adain", "encoder": {"name": "lite", "tap": "relu3_1"}, "width": 4, "blocks": 0}
    net = nets.build(recipe, encoder=lambda _: encoders.pretrained("lite"))
    return net, bundle.Recipe(name="any", method="adain", net=nets.recipe_of(net), inputs=nets.inputs_of(net))


def test_a_model_of_any_style_comes_with_its_encoder(any_net, tmp_path, photo):
    """Both files paint what the network paints; what is not an .onnx is one file, or refused."""
    net, recipe = any_net
    model.write(tmp_path / "x.onnx", net, recipe)
    assert {file.name for file in tmp_path.iterdir()} == {"x.onnx", "x.encoder.onnx"}
    encoder = bundle.read(tmp_path / "x.encoder.onnx").recipe
    assert encoder == dataclasses.replace(recipe, inputs={})
    picture, style = np.asarray(photo(1, 50, 40)), np.asarray(photo(2, 64, 48))
    got = Stylizer(tmp_path / "x.onnx", style_size=64)(picture, style_image=style, strength=0.7)
    x, y = (torch.from_numpy(images.to_float(each)) for each in (picture, style))
    with torch.no_grad():
        wanted = net.eval()(x, net.encode(y), torch.tensor([0.7]))[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(got - wanted).max() <= 1.5
    again, _ = model.read(tmp_path)  # of a folder, the model and not its encoder
    assert same(net, again)


def test_what_a_model_of_any_style_is_not_written_as(any_net, tmp_path, photos):
    for name, option in (("x.pt2", {}), ("x.onnx", {"calibration": photos})):
        with pytest.raises(UsageError, match=r"a model of any style is written as \.onnx"):
            model.write(tmp_path / name, *any_net, **option)
    with pytest.raises(UsageError, match=r"x\.encoder\.onnx reads style pictures for .*x\.onnx"):
        model.write(tmp_path / "x.encoder.onnx", *any_net)
    with pytest.raises(UsageError, match="reads style pictures"):
        model.read(tmp_path / "x.encoder.onnx")
    assert not list(tmp_path.glob("x.*"))


def test_both_files_or_neither(any_model, tmp_path):
    graph = bundle.read(any_model)
    encoder = bundle.read(bundle.encoder_of(any_model)).graph
    (tmp_path / "x.encoder.onnx").mkdir()  # which cannot be written over
    with pytest.raises(FstError, match="is a folder"):
        bundle.write_onnx(tmp_path / "x.onnx", graph.graph, graph.recipe, encoder=encoder)
    assert [file.name for file in tmp_path.iterdir()] == ["x.encoder.onnx"]


@pytest.mark.slow
def test_the_command_writes_int8_only_where_it_pays(small, tmp_path, photos, capsys):
    """What comes of it is this machine's to say; the file and the words must agree with each other."""
    model.write(tmp_path / "x.safetensors", *small)
    argv = ["export", str(tmp_path / "x.safetensors"), "-o", str(tmp_path / "x.onnx"), "--int8"]
    assert main(argv) == 2
    assert "--int8 and --calibrate PHOTOS go together" in capsys.readouterr().err
    code = main([*argv, "--calibrate", str(photos)])
    if code == 0:
        assert bundle.read_recipe(tmp_path / "x.onnx", verify=True).metrics["int8_mean_difference"] <= 2 / 255
    else:
        assert code == 1
        assert "not written" in capsys.readouterr().err
        assert not (tmp_path / "x.onnx").exists()


@pytest.mark.slow
def test_half_bytes_train_on(small, tmp_path):
    net, recipe = small
    model.write(tmp_path / "x.onnx", net, recipe, float16=True)
    again, its_recipe = model.read(tmp_path / "x.onnx")
    assert its_recipe == recipe
    for name, value in net.state_dict().items():
        assert torch.allclose(again.state_dict()[name], value, rtol=1e-3, atol=1e-6)
