"""fst.export.onnx: the graph gives torch's picture at any size, and one that does not is refused."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fst.errors import FstError
from fst.export import onnx as onnx_export
from fst.export.onnx import OPSET, Export, check_parity, encoder_to_onnx, to_onnx
from fst.nets.johnson import JohnsonNet


def make_net(output: Any = "sigmoid") -> JohnsonNet:
    """Narrow, with random weights; in training mode, as a run leaves it."""
    torch.manual_seed(0)
    net = JohnsonNet(width=4, blocks=1, output=output)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


@pytest.fixture(scope="module")
def net() -> JohnsonNet:
    return make_net()


@pytest.fixture(scope="module")
def exported(net: JohnsonNet) -> Export:
    return to_onnx(net)


@pytest.fixture(scope="module")
def run(exported: Export) -> Callable[[torch.Tensor], np.ndarray]:
    session = onnxruntime.InferenceSession(exported.graph, providers=["CPUExecutionProvider"])
    return lambda image: np.asarray(session.run(["stylized"], {"image": image.numpy()})[0])


@pytest.mark.parametrize(
    ("batch", "height", "width"), [(1, 16, 16), (1, 17, 31), (3, 70, 101), (2, 64, 80), (1, 19, 18), (1, 16, 203)]
)
def test_torchs_picture_at_any_size(
    net: JohnsonNet, run: Callable[[torch.Tensor], np.ndarray], batch: int, height: int, width: int
) -> None:
    image = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = net(image).numpy()
    got = run(image)
    assert got.dtype == np.float32
    assert got.shape == (batch, 3, height, width)
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert got.std() > 0.01, "a flat picture would prove nothing"


def test_names_axes_and_opset(exported: Export) -> None:
    model = onnx.load_from_string(exported.graph)
    onnx.checker.check_model(model, full_check=True)
    for values, name in ((model.graph.input, "image"), (model.graph.output, "stylized")):
        (value,) = values
        assert value.name == name
        tensor = value.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.FLOAT
        assert [axis.dim_param or axis.dim_value for axis in tensor.shape.dim] == ["batch", 3, "height", "width"]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert 0 <= exported.max_difference < 1e-4


def test_no_path_of_this_machine_is_told(exported: Export) -> None:
    """The exporter notes for each node which line of which file made it."""
    assert b".py" not in exported.graph
    assert not any(node.doc_string or node.metadata_props for node in onnx.load_from_string(exported.graph).graph.node)


def test_the_network_is_left_as_it_was(net: JohnsonNet, exported: Export) -> None:
    assert net.training


def test_the_export_says_nothing(capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder) -> None:
    to_onnx(make_net("clamp"), sizes=[(20, 24)])
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


def test_a_graph_of_another_network_is_refused(exported: Export) -> None:
    other = make_net()
    with torch.no_grad():
        other.last[1].bias += 0.5  # type: ignore[operator]
    with pytest.raises(FstError, match=r"differs from torch by [\d.]+/255; 1/255 is allowed"):
        check_parity(other.eval(), exported.graph, [(16, 16)])


def test_a_picture_that_is_no_number_is_refused(exported: Export) -> None:
    """NaN compares as neither larger nor smaller: a maximum taken carelessly drops it."""
    broken = make_net()
    with torch.no_grad():
        broken.last[1].bias.fill_(torch.nan)  # type: ignore[operator,union-attr]
    with pytest.raises(FstError, match="differs from torch by nan"):
        check_parity(broken.eval(), exported.graph, [(16, 16), (20, 20)])


def test_a_graph_that_gives_another_size_is_refused(exported: Export) -> None:
    class Cropped(JohnsonNet):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return super().forward(image)[..., :-1, :]

    with pytest.raises(FstError, match=r"gives \(2, 3, 16, 20\) where torch gives \(2, 3, 15, 20\)"):
        check_parity(Cropped(width=4, blocks=1).eval(), exported.graph, [(16, 20)])


def test_a_graph_that_cannot_run_is_refused(
    net: JohnsonNet, exported: Export, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FstError, match="onnxruntime cannot load the exported graph"):
        check_parity(net, exported.graph[: len(exported.graph) // 2])
    model = onnx.load_from_string(exported.graph)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 64
    with pytest.raises(FstError, match="onnxruntime cannot run the exported graph at 16x20"):
        check_parity(net, model.SerializeToString(), [(16, 20)])
    assert capfd.readouterr().err == ""


class Painted(torch.nn.Module):
    """A convolution, and a colour by two inputs."""

    inputs: ClassVar = {"strength": 1.0, "styles": [0.0, 1.0, 0.0]}

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 3, 3, padding=1)
        self.palette = torch.nn.Parameter(torch.rand(3, 3))

    def forward(
        self, image: torch.Tensor, strength: torch.Tensor | None = None, styles: torch.Tensor | None = None
    ) -> torch.Tensor:
        strength = torch.ones(1) if strength is None else strength
        styles = torch.eye(3)[1:2] if styles is None else styles
        colour = (styles @ self.palette)[..., None, None]
        return (image + strength.view(-1, 1, 1, 1) * (self.conv(image) + colour)).sigmoid()


def test_further_inputs_become_inputs_of_the_graph() -> None:
    net = Painted()
    model = onnx.load_from_string(to_onnx(net).graph)
    shapes = [
        (value.name, [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim])
        for value in model.graph.input
    ]
    image = ("image", ["batch", 3, "height", "width"])
    assert shapes == [image, ("strength", ["batch"]), ("styles", ["batch", 3])]
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    given = {"image": torch.rand(2, 3, 21, 34), "strength": torch.tensor([0.2, 0.9])}
    given["styles"] = torch.tensor([[0.0, 0.5, 0.5], [1.0, 0.0, 0.0]])
    (got,) = session.run(None, {name: each.numpy() for name, each in given.items()})
    with torch.no_grad():
        wanted = (
            given["image"]
            + given["strength"].view(2, 1, 1, 1)
            * (net.conv(given["image"]) + torch.einsum("bs,sc->bc", given["styles"], net.palette)[:, :, None, None])
        ).sigmoid()
    np.testing.assert_allclose(got, wanted.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["strength", "styles"])
def test_a_graph_that_errs_only_beside_the_neutral_values_is_refused(name: str) -> None:
    class Wrong(Painted):
        def forward(self, image: torch.Tensor, **further: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            neutral = torch.tensor([self.inputs[name]])
            return super().forward(image, **further | {name: neutral.expand_as(further[name])})

    graph = to_onnx(Painted()).graph
    assert check_parity(Painted().eval(), graph) < 1e-5
    with pytest.raises(FstError, match=r"differs from torch by"):
        check_parity(Wrong().eval(), graph)


def test_half_the_bytes_hold_the_same_names_and_nearly_the_same_pictures() -> None:
    torch.manual_seed(0)
    net = JohnsonNet(width=8, blocks=1).eval()
    whole, half = to_onnx(net), to_onnx(net, float16=True)
    assert len(half.graph) < 0.75 * len(whole.graph)
    one, other = ({w.name: w for w in onnx.load_from_string(e.graph).graph.initializer} for e in (whole, half))
    assert one.keys() == other.keys()
    name = "trunk.0.first.conv.weight"
    wanted = net.state_dict()[name].numpy().astype(np.float16)
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(other[name]), wanted, strict=True)
    onnx.checker.check_model(onnx.load_from_string(half.graph), full_check=True)
    assert whole.max_difference < half.max_difference < 1 / 255


def test_weights_that_float16_cannot_hold_are_refused() -> None:
    steep = make_net()
    with torch.no_grad():
        steep.trunk[0].first.conv.weight.mul_(1e6)  # past 65,504; the norm after it would undo it
    with pytest.raises(FstError, match="differs from torch by nan"):
        to_onnx(steep, sizes=[(16, 20)], float16=True)


class Coded(torch.nn.Module):
    """Codes are mean and mean square of a convolution."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.factor = torch.nn.Conv2d(3, 4, 3), factor

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        features = self.conv(pictures)
        return self.factor * torch.cat([features.mean((2, 3)), features.square().mean((2, 3))], 1)


def test_an_encoder_gives_torchs_codes() -> None:
    net, exported = Coded(), encoder_to_onnx(Coded())
    model = onnx.load_from_string(exported.graph)
    onnx.checker.check_model(model, full_check=True)
    (value,) = model.graph.output
    assert (value.name, [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]) == (
        "style_code",
        ["batch", 8],
    )
    session = onnxruntime.InferenceSession(exported.graph, providers=["CPUExecutionProvider"])
    for batch, height, width in ((1, 16, 16), (2, 37, 90)):
        image = torch.rand(batch, 3, height, width)
        (got,) = session.run(None, {"image": image.numpy()})
        np.testing.assert_allclose(got, net.encode(image).detach().numpy(), rtol=1e-4, atol=1e-6)
    assert 0 <= exported.max_difference < 1e-5


def test_an_encoder_that_gives_other_codes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = encoder_to_onnx(Coded(1.02)).graph
    run = onnx_export.runner(graph, "style_code")
    monkeypatch.setattr(onnx_export, "runner", lambda *_: run)
    with pytest.raises(FstError, match=r"encoder differs from torch by 2\.00% of a code; 1% is allowed"):
        encoder_to_onnx(Coded())
    with pytest.raises(FstError, match="encoder differs from torch by nan%"):
        encoder_to_onnx(Coded(float("nan")))
