"""fst.export.int8: a quantised graph is written where it is faster and near enough, and nowhere else."""

import contextlib

import numpy as np
import onnx
import onnxruntime
import pytest

from fst import bundle
from fst.errors import FstError, UsageError
from fst.export import int8


@pytest.fixture
def calibration(photos):
    return int8.read_photos(photos)


@pytest.fixture
def graph(johnson_model):
    return bundle.read(johnson_model).graph


def test_photos_come_small_as_floats(photos, photo):
    photo(99, 900, 300).save(photos / "08.jpg")
    read = int8.read_photos(photos)
    assert [each.shape[2:] for each in read[:2]] == [(80, 64), (64, 76)]
    assert read[8].shape == (1, 3, 85, 256)
    assert all(each.dtype == np.float32 and 0 <= each.min() < each.max() <= 1 for each in read)


def test_too_few_photos(tmp_path, photo):
    photo(0, 40, 30).save(tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="at least 2 photos"):
        int8.read_photos(tmp_path)


def test_the_graph_is_quantised_and_its_difference_is_what_it_says(graph, calibration):
    made = int8._measure(graph, int8._quantised(graph, calibration[::2], {}), calibration[1::2], {})
    convolutions = [node for node in onnx.load_from_string(made.graph).graph.node if node.op_type == "Conv"]
    fed = {out: node.op_type for node in onnx.load_from_string(made.graph).graph.node for out in node.output}
    assert convolutions
    assert all(fed[name] == "DequantizeLinear" for node in convolutions for name in node.input[:2])
    one, other = (
        onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]) for each in (graph, made.graph)
    )
    differences = [
        np.abs(one.run(None, {"image": x})[0].astype(np.float64) - other.run(None, {"image": x})[0]).mean()
        for x in calibration[1::2]
    ]
    assert made.mean_difference == pytest.approx(np.mean(differences), rel=1e-3)
    assert 0 < made.mean_difference < 0.1
    assert min(made.milliseconds, made.float_milliseconds) > 0


@pytest.mark.parametrize(
    ("milliseconds", "difference", "kept"), [(0.5, 1.9, True), (0.5, 2.1, False), (1.5, 0.1, False)]
)
def test_it_is_kept_only_where_faster_and_near(graph, calibration, monkeypatch, milliseconds, difference, kept):
    """The rule, on a real quantised graph, at measurements that no machine can be trusted to repeat."""
    monkeypatch.setattr(
        int8, "_measure", lambda graph, made, photos, further: int8.Quantised(made, difference / 255, milliseconds, 1.0)
    )
    if kept:
        session = onnxruntime.InferenceSession(int8.quantise(graph, calibration).graph)
        assert session.run(None, {"image": calibration[0]})[0].shape == calibration[0].shape
        return
    with pytest.raises(FstError, match=rf"takes {milliseconds} ms where float32 takes 1.0 ms.* by {difference}0/255"):
        int8.quantise(graph, calibration)


def test_further_inputs_are_given_their_neutral_values(calibration, monkeypatch):
    """strength * (a convolution by 1) is the photo at strength 1, and black where a 0 is given."""
    axes = ["batch", 3, "height", "width"]
    shapes = {"image": axes, "strength": ["batch"], "stylized": axes}
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, s) for name, s in shapes.items()]
    weight = np.eye(3, dtype=np.float32)[..., None, None]
    nodes = [
        onnx.helper.make_node("Conv", ["image", "w"], ["same"]),
        onnx.helper.make_node("Reshape", ["strength", "column"], ["s"]),
        onnx.helper.make_node("Mul", ["same", "s"], ["stylized"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(weight, "w"),
        onnx.numpy_helper.from_array(np.array([-1, 1, 1, 1], np.int64), "column"),
    ]
    made = onnx.helper.make_graph(nodes, "scaled", values[:2], values[2:], constants)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    measured = []
    measure = int8._measure
    monkeypatch.setattr(int8, "_measure", lambda *given: measured.append(measure(*given)) or measured[0])
    with contextlib.suppress(FstError):  # this graph is seldom faster in int8
        int8.quantise(model.SerializeToString(), calibration, {"strength": 1.0})
    assert 0 < measured[0].mean_difference < 1 / 255
    session = onnxruntime.InferenceSession(measured[0].graph)
    (got,) = session.run(None, {"image": calibration[1], "strength": np.ones(1, np.float32)})
    assert np.abs(got - calibration[1]).max() < 2 / 255  # a range of values that was seen, and not one of black


def test_a_graph_whose_pictures_change_is_refused(calibration):
    """Really measured: a gain of 1,000 on the photo's 20th bit leaves nothing for 8 bits to see."""
    axes = ["batch", 3, "height", "width"]
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, axes) for name in ("image", "stylized")]
    weight = np.zeros((3, 3, 1, 1), np.float32)
    weight[range(3), range(3)] = 1
    nodes = [
        onnx.helper.make_node("Conv", ["image", "w"], ["same"]),
        onnx.helper.make_node("Mul", ["same", "gain"], ["much"]),
        onnx.helper.make_node("Sin", ["much"], ["wave"]),
        onnx.helper.make_node("Abs", ["wave"], ["stylized"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(weight, "w"),
        onnx.numpy_helper.from_array(np.float32(1000), "gain"),
    ]
    made = onnx.helper.make_graph(nodes, "steep", ends[:1], ends[1:], constants)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    shifted = [x * 0.997 + 0.001 for x in calibration]
    with pytest.raises(FstError, match=r"in int8 it takes .* differs by [\d.]+/255 .*: not written"):
        int8.quantise(model.SerializeToString(), shifted)
