"""The model file: what is written is read back, what is damaged or dangerous is refused, and nothing else is read."""

import contextlib
import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import safetensors.numpy
from onnx import TensorProto, helper, numpy_helper

from fst import bundle
from fst.bundle import BundleError, Recipe
from fst.errors import FstError, UsageError

WEIGHTS = {
    "conv.weight": np.random.default_rng(0).standard_normal((3, 3, 3, 3)).astype(np.float32),
    "conv.bias": np.array([0.5, -0.25, 0.125], np.float32),
}
RECIPE = Recipe(
    name="wave",
    net={"_target_": "fst.nets.johnson.Johnson", "width": 16},
    styles=[{"title": "神奈川沖浪裏", "artist": "葛飾北斎", "license": "public domain"}],
    losses={"content": 0.1, "style": 1.0},
    perceptual={"name": "vgg19", "sha256": "ab" * 32},
    data={"photos": 100},
    steps=2000,
    seed=7,
    metrics={"content": 1.25, "note": "Größe 😀"},
    license="CC0-1.0",
)


def model(**options: Any) -> onnx.ModelProto:
    """A convolution for pictures of any size."""
    shape = ["B", 3, "H", "W"]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", *WEIGHTS], ["stylized"], pads=[1, 1, 1, 1])],
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("stylized", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, **options)


@pytest.fixture
def wave(tmp_path: Path) -> Path:
    path = tmp_path / "wave.onnx"
    bundle.write_onnx(path, model().SerializeToString(), RECIPE)
    return path


@pytest.fixture
def twin(tmp_path: Path) -> Path:
    path = tmp_path / "wave.safetensors"
    bundle.write_safetensors(path, WEIGHTS, RECIPE)
    return path


def refused(path: Path, read: Callable[[Path], object] = bundle.read) -> str:
    """The one line with which `read` refuses `path`, which it names."""
    with pytest.raises(BundleError) as caught:
        read(path)
    message = str(caught.value)
    assert message.count(str(path)) == 1
    assert "\n" not in message
    assert isinstance(caught.value, FstError)
    return message


# The recipe


def test_recipe_survives_the_round_trip() -> None:
    assert Recipe.from_json(RECIPE.to_json()) == RECIPE
    assert "葛飾北斎" in RECIPE.to_json(), "legible in a model viewer"
    assert json.loads(RECIPE.to_json())["format"] == bundle.FORMAT


def test_recipe_makes_values_plain() -> None:
    odd = {"tuple": (1, 2), "numpy": np.float32(0.5), "count": np.int64(3), "nan": float("nan"), "inf": -np.inf}
    recipe = Recipe(name="wave", metrics=odd, steps=np.int64(5), data={"file": "\udcff.jpg"})  # type: ignore[arg-type]
    assert recipe.metrics == {"tuple": [1, 2], "numpy": 0.5, "count": 3, "nan": None, "inf": None}
    assert type(recipe.steps) is int
    assert recipe.data == {"file": "?.jpg"}
    assert Recipe.from_json(recipe.to_json()) == recipe
    odd["tuple"] = (9,)
    assert recipe.metrics["tuple"] == [1, 2], "a copy, not the caller's own"


def test_recipe_keeps_what_a_newer_fst_added() -> None:
    raw = json.loads(RECIPE.to_json()) | {"palette": ["#123456"]}
    recipe = Recipe.from_json(json.dumps(raw))
    assert recipe.extra == {"palette": ["#123456"]}
    assert json.loads(recipe.to_json()) == raw


def test_extra_keys_do_not_overrule_known_ones() -> None:
    recipe = Recipe(name="wave", extra={"name": "other", "format": 99, "new": 1})
    raw = json.loads(recipe.to_json())
    assert (raw["name"], raw["format"], raw["new"]) == ("wave", bundle.FORMAT, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": bundle.FORMAT + 1}, "newer fst"),
        ({"format": "1"}, "'format'"),
        ({"format": True}, "'format'"),
        ({"name": 3}, "'name' should be str"),
        ({"name": ""}, "'name'"),
        ({"name": "../../etc/passwd"}, "without slashes"),
        ({"name": "two\nlines"}, "one line"),
        ({"name": "\x1b[31mred"}, "one line"),
        ({"net": []}, "'net' should be dict"),
        ({"styles": {}}, "'styles' should be list"),
        ({"styles": ["wave"]}, "'styles'"),
        ({"steps": 1.5}, "'steps' should be int"),
        ({"steps": True}, "'steps' should be int"),
        ({"steps": -1}, "'steps' should be 0 or more"),
        ({"seed": "7"}, "'seed' should be int | None"),
        ({"license": 1}, "'license' should be str | None"),
        ({"created": None}, "'created' should be str"),
    ],
)
def test_recipe_is_strict(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BundleError) as caught:
        Recipe.from_json(json.dumps(json.loads(RECIPE.to_json()) | change))
    assert words in str(caught.value)


@pytest.mark.parametrize("key", sorted(json.loads(RECIPE.to_json())))
def test_recipe_needs_every_key(key: str) -> None:
    raw = json.loads(RECIPE.to_json())
    del raw[key]
    with pytest.raises(BundleError, match=key):
        Recipe.from_json(json.dumps(raw))


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "null", "[" * 100_000, '{"format": %s}' % ("9" * 9999)])
def test_recipe_refuses_other_text(text: str) -> None:
    with pytest.raises(BundleError):
        Recipe.from_json(text)


def test_inputs_are_written_only_where_there_are_any() -> None:
    plain, told = Recipe(name="x"), Recipe(name="x", inputs={"strength": 1.0, "stroke": 1.0})
    assert "inputs" not in json.loads(plain.to_json())
    assert Recipe.from_json(plain.to_json()).inputs == {}
    assert Recipe.from_json(told.to_json()) == told


def test_inputs_that_do_not_go_with_the_styles() -> None:
    two = [{"name": "wave"}, {"name": "udnie"}]
    assert Recipe(name="x", styles=two, inputs={"styles": [0.5, 0.5]}).style_names == ["wave", "udnie"]
    for styles in (two[:1], [two[0], two[0]]):
        with pytest.raises(BundleError, match="the recipe mixes 2 styles, and names wave"):
            Recipe(name="x", styles=styles, inputs={"styles": [0.5, 0.5]})
    with pytest.raises(BundleError, match="'inputs' are not those of this fst: there is no input 'strenght'"):
        Recipe(name="x", inputs={"strenght": 1.0})


@pytest.mark.parametrize(
    ("model", "parts"),
    [
        ("four:wave", ("four", "wave")),
        ("models/four.onnx:wave", ("models/four.onnx", "wave")),
        ("C:\\four.onnx:wave", ("C:\\four.onnx", "wave")),
        ("C:\\four.onnx", ("C:\\four.onnx", None)),
        ("starry_night", ("starry_night", None)),
        ("four:", ("four:", None)),
        (":wave", (":wave", None)),
    ],
)
def test_one_style_of_several(model: str, parts: tuple[str, str | None]) -> None:
    assert bundle.split_style(model) == parts


def test_a_file_whose_name_holds_a_colon(tmp_path: Path) -> None:
    path = tmp_path / "four:wave"
    path.touch()
    assert bundle.split_style(path) == (str(path), None)


def test_recipe_refuses_what_json_cannot_say() -> None:
    with pytest.raises(BundleError, match="JSON"):
        Recipe(name="wave", data={"folder": Path("photos")})
    with pytest.raises(BundleError, match="JSON"):
        Recipe(name="wave", data={"photos": np.zeros(2)})


# Writing and reading


def test_bundle_runs_and_tells_its_recipe(wave: Path) -> None:
    read = bundle.read(wave)
    assert (read.path, read.recipe) == (wave, RECIPE)
    assert read.graph == wave.read_bytes()
    assert len(repr(read)) < 2000
    assert read.sha256 == hashlib.sha256(wave.read_bytes()).hexdigest()
    session = onnxruntime.InferenceSession(read.graph, providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["fst.recipe"] == RECIPE.to_json()
    for height, width in ((16, 24), (7, 5)):
        image = np.random.default_rng(1).random((2, 3, height, width), np.float32)
        (got,) = session.run(None, {"image": image})
        padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        want = np.einsum("bchwij,ocij->bohw", windows, WEIGHTS["conv.weight"]) + WEIGHTS["conv.bias"][:, None, None]
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_onnx_sees_the_metadata(wave: Path) -> None:
    loaded = onnx.load(wave)
    onnx.checker.check_model(loaded, full_check=True)
    metadata = {entry.key: entry.value for entry in loaded.metadata_props}
    assert metadata.keys() == {"fst.recipe", "fst.sha256"}
    assert Recipe.from_json(metadata["fst.recipe"]) == RECIPE
    del loaded.metadata_props[:]
    assert loaded == model(), "the graph is the one that was given"


def test_a_bundle_saved_again_by_onnx_is_still_whole(wave: Path) -> None:
    onnx.save(onnx.load(wave), wave)
    assert bundle.read(wave).recipe == RECIPE


def test_recipe_alone(wave: Path, twin: Path) -> None:
    for path in (wave, twin):
        assert bundle.read_recipe(path) == bundle.read_recipe(str(path), verify=True) == RECIPE


def test_recipe_alone_does_not_read_the_graph(wave: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = model()
    big.graph.initializer.append(numpy_helper.from_array(np.zeros(1_000_000, np.float32), "unused"))
    bundle.write_onnx(wave, big.SerializeToString(), RECIPE)
    length = 0

    def layout(file: Any, real: Any = bundle._layout) -> Any:
        class Counted:
            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

            def read(self, size: int = -1) -> bytes:
                nonlocal length
                length += len(data := file.read(size))
                return data

        return real(Counted())

    monkeypatch.setattr(bundle, "_layout", layout)
    assert bundle.read_recipe(wave) == RECIPE
    assert 0 < length < 10_000 < 4_000_000 < wave.stat().st_size


def test_writing_again_replaces_the_recipe_and_keeps_other_metadata(wave: Path) -> None:
    given = model()
    helper.set_model_props(given, {"author": "someone"})
    bundle.write_onnx(wave, given.SerializeToString(), RECIPE)
    bundle.write_onnx(wave, bundle.read(wave).graph, Recipe(name="other"))
    assert bundle.read(wave).recipe.name == "other"
    keys = [entry.key for entry in onnx.load(wave).metadata_props]
    assert keys == ["author", "fst.recipe", "fst.sha256"]


@pytest.mark.parametrize("recipe_length", [0, 126, 127, 128, 129, 16383, 16384, 70_000])
def test_recipes_of_any_length(wave: Path, recipe_length: int) -> None:
    recipe = Recipe(name="wave", data={"text": "x" * recipe_length})
    bundle.write_onnx(wave, model().SerializeToString(), recipe)
    assert bundle.read(wave).recipe == recipe
    assert len(onnx.load(wave).metadata_props) == 2


def test_twins_whose_first_bytes_are_those_of_a_pickle(tmp_path: Path) -> None:
    found = set()
    for length in range(400):  # the first bytes are the length of what comes next
        recipe = Recipe(name="wave", data={"text": "x" * length})
        bundle.write_safetensors(tmp_path / "wave.safetensors", WEIGHTS, recipe)
        head = (tmp_path / "wave.safetensors").read_bytes()[:2]
        if head in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            found.add(head)
            assert bundle.read_recipe(tmp_path / "wave.safetensors") == recipe
    assert found


def test_too_long_a_recipe_is_not_written(tmp_path: Path) -> None:
    recipe = Recipe(name="wave", data={"text": "x" * 2**22})
    for write in (
        lambda: bundle.write_onnx(tmp_path / "wave.onnx", model().SerializeToString(), recipe),
        lambda: bundle.write_safetensors(tmp_path / "wave.safetensors", WEIGHTS, recipe),
    ):
        with pytest.raises(BundleError, match="longer than"):
            write()
    assert not list(tmp_path.iterdir())


def test_weights_are_the_same_from_both_twins(wave: Path, twin: Path) -> None:
    for path in (wave, twin):
        weights, recipe = bundle.read_weights(path)
        assert recipe == RECIPE
        assert weights.keys() == WEIGHTS.keys()
        for name, array in weights.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, WEIGHTS[name])


def test_weights_of_an_onnx_file_without_the_onnx_package(wave: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install '.[train]'" in refused(wave, bundle.read_weights)


def test_tensors_of_every_shape_and_order(tmp_path: Path) -> None:
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensors = {
        "scalar": np.array(3.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "transposed": grid.T,
        "strided": grid[:, ::2],
        "big endian": grid.astype(">f4"),
        "int": np.array([-1, 2**40]),
        "bool": np.array([True, False]),
        "half": grid.astype(np.float16),
        "größe": grid,
    }
    path = tmp_path / "odd.safetensors"
    bundle.write_safetensors(path, tensors, RECIPE)
    for read in (bundle.read_safetensors, bundle.read_weights):
        got, recipe = read(path)
        assert recipe == RECIPE
        assert got.keys() == tensors.keys()
        for name, array in tensors.items():
            assert got[name].shape == array.shape
            np.testing.assert_array_equal(got[name], array)
    assert safetensors.numpy.load_file(path).keys() == tensors.keys()


# Damage


@pytest.mark.parametrize("name", ["wave", "twin"])
def test_a_changed_byte_is_noticed(name: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(name)
    whole, chance = path.read_bytes(), random.Random(0)
    ends = [*range(64), *range(len(whole) - 128, len(whole))]
    for at in {*ends, *chance.choices(range(len(whole)), k=200)}:
        damaged = bytearray(whole)
        damaged[at] ^= chance.randrange(1, 256)
        path.write_bytes(damaged)
        if name == "wave":
            refused(path)
        elif json_is_the_same(bytes(damaged), whole):
            assert bundle.read_safetensors(path)[1] == RECIPE
        else:
            refused(path, bundle.read_safetensors)
        for read in (bundle.read_recipe, bundle.read_weights):
            survives(path, read)


def json_is_the_same(damaged: bytes, whole: bytes) -> bool:
    """Whether a change lies in what a JSON header does not mean: blanks."""
    try:
        length = int.from_bytes(whole[:8], "little") + 8
        same = json.loads(damaged[8:length]) == json.loads(whole[8:length])
    except ValueError:
        return False
    return same and damaged[length:] == whole[length:] and damaged[:8] == whole[:8]


def survives(path: Path, read: Callable[[Path], object]) -> None:
    """Read, or refuse; any other error fails the test."""
    with contextlib.suppress(BundleError):
        read(path)


@pytest.mark.parametrize("name", ["wave", "twin"])
def test_a_file_cut_short_is_noticed(name: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(name)
    whole = path.read_bytes()
    read = bundle.read if name == "wave" else bundle.read_safetensors
    for length in {*range(0, len(whole), 17), *range(64), *range(len(whole) - 64, len(whole))}:
        path.write_bytes(whole[:length])
        refused(path, read)
        survives(path, bundle.read_recipe)


def test_bytes_added_are_noticed(wave: Path, twin: Path) -> None:
    for path, read in ((wave, bundle.read), (twin, bundle.read_safetensors)):
        whole = path.read_bytes()
        for more in (b"\0", b"\x08\x09", whole[-20:], model().SerializeToString(), bytes(1000)):
            path.write_bytes(whole + more)
            refused(path, read)


def test_a_second_recipe_is_refused(wave: Path) -> None:
    entry = onnx.ModelProto()
    helper.set_model_props(entry, {"fst.recipe": Recipe(name="other").to_json()})
    wave.write_bytes(wave.read_bytes() + entry.SerializeToString())
    assert "twice" in refused(wave)
    assert "twice" in refused(wave, bundle.read_recipe)


def test_an_entry_written_another_way_is_refused(wave: Path) -> None:
    value_first = b"\x12\x01x" + b"\x0a\x0afst.recipe"
    wave.write_bytes(model().SerializeToString() + b"\x72" + bytes([len(value_first)]) + value_first)
    assert "not as fst writes it" in refused(wave)


def test_a_newer_format_is_refused(wave: Path) -> None:
    newer = RECIPE.to_json().replace('"format": 1', '"format": 2').encode()
    graph = model().SerializeToString()
    digest = hashlib.sha256(b"fst bundle\n%d\n" % len(newer) + newer + graph).hexdigest()
    wave.write_bytes(graph + bundle._entry("fst.recipe", newer) + bundle._entry("fst.sha256", digest.encode()))
    for read in (bundle.read, bundle.read_recipe):
        assert "upgrade fst" in refused(wave, read)


# Other files


class Trap:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


READERS = [bundle.read, bundle.read_recipe, bundle.read_safetensors, bundle.read_weights]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", ["model.pth", "model.PT", "model.ckpt", "model.pkl", "model.onnx", "m.safetensors"])
@pytest.mark.parametrize("protocol", [0, 2, 3, 4, 5])
def test_a_pickle_is_refused_unread(tmp_path: Path, name: str, protocol: int, read: Callable[[Path], object]) -> None:
    path, sprung = tmp_path / name, tmp_path / "sprung"
    path.write_bytes(pickle.dumps(Trap(sprung), protocol))
    message = refused(path, read)
    assert not sprung.exists()
    if protocol or "model.onnx" != name != "m.safetensors":
        assert "fst import" in message
        assert "fst export" in message


def test_a_torch_zip_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "renamed.onnx"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    assert "fst import" in refused(path)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html>\n<html>", "text"),
        (b"hello\n", "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
        ("Größe".encode(), "not a model file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a model file"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "not a model file"),
        (bytes(1000), "not a model file"),
        (b"\xff" * 1000, "not a model file"),
        (b"\x08\x08", "no graph"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "not a model file"),
        (b"\x72\xff\xff\xff\xff\x0f", "not a model file"),
        (b"\x3b" * 70, "not a model file"),
        (b"\xff\xff\xff\xff\xff\xff\0\0{}", "damaged"),
        (b"\xff\xff\xff\xff\xff\xff\0\0{" + bytes(99), "damaged"),
        (b"\x02\0\0\0\0\0\0\0{}", "recipe"),
        (b"\x02\0\0\0\0\0\0\0{[", "damaged"),
        (b'\x15\0\0\0\0\0\0\0{"__metadata__":null}', "damaged"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, words: str, read: Callable[[Path], object]) -> None:
    path = tmp_path / "file.onnx"
    path.write_bytes(content)
    message = refused(path, read)
    if read is bundle.read_recipe:
        assert words in message


def test_random_bytes(tmp_path: Path) -> None:
    path, chance = tmp_path / "file.onnx", random.Random(0)
    for _ in range(100):
        path.write_bytes(chance.randbytes(chance.randrange(1, 300)))
        for read in READERS:
            refused(path, read)


def test_folders_missing_files_and_pipes(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.onnx"
    os.mkfifo(pipe)
    for read in READERS:
        assert "a folder" in refused(tmp_path, read)
        assert "no such file" in refused(tmp_path / "none.onnx", read)
        assert "no such file" in refused(tmp_path / "none.safetensors", read)
        assert "too long" in refused(tmp_path / ("x" * 300), read)
        refused(pipe, read)  # rather than waiting for someone to write


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(wave: Path) -> None:
    wave.chmod(0)
    assert "cannot be read (permission denied)" in refused(wave)


def test_a_file_larger_than_protobuf_allows(tmp_path: Path) -> None:
    path = tmp_path / "file.onnx"
    with path.open("wb") as file:
        file.write(b"\x08\x08")
        file.truncate(2**31)
    assert "larger" in refused(path)


def test_an_onnx_model_of_someone_else(tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    onnx.save(model(producer_name="someone"), path)
    for read in (bundle.read, bundle.read_recipe, bundle.read_weights):
        assert "not one of fst's" in refused(path, read)
    weights = tmp_path / "other.safetensors"
    safetensors.numpy.save_file(WEIGHTS, weights)
    for read in (bundle.read_safetensors, bundle.read_recipe, bundle.read_weights):
        assert "not one of fst's" in refused(weights, read)


def test_each_twin_names_the_other(wave: Path, twin: Path) -> None:
    assert ".onnx" in refused(twin)
    assert ".safetensors" in refused(wave, bundle.read_safetensors)


def elsewhere(where: str) -> onnx.ModelProto:
    """A model of which one tensor lies in another file."""
    tensor = TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[1])
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    given = model()
    if where == "initializer":
        given.graph.initializer.append(tensor)
    elif where == "sparse":
        given.graph.sparse_initializer.add().values.CopyFrom(tensor)
    elif where == "constant":
        given.graph.node.append(constant)
    elif where == "subgraph":
        branch = helper.make_graph([constant], "branch", [], [])
        given.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))
    else:
        given.functions.append(helper.make_function("d", "f", [], ["c"], [constant], []))
    return given


@pytest.mark.parametrize("where", ["initializer", "sparse", "constant", "subgraph", "function"])
def test_weights_in_another_file_are_refused(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, graph = tmp_path / "wave.onnx", elsewhere(where).SerializeToString()
    assert "another file" in refused(path, lambda path: bundle.write_onnx(path, graph, RECIPE))
    assert not path.exists()
    with monkeypatch.context() as patch:
        patch.setattr(bundle, "_refuse_unsafe", lambda data: None)
        bundle.write_onnx(path, graph, RECIPE)
    assert "another file" in refused(path)


def test_no_tensor_hides_where_nobody_looks() -> None:
    """`_INSIDE` is all of onnx.proto's ways to a tensor, but for the training information, which inference ignores."""
    ways: dict[str, dict[int, str]] = {}
    waiting = ["Model"]
    while waiting:
        if (message := waiting.pop()) not in ways:
            descriptor = getattr(onnx, f"{message}Proto").DESCRIPTOR
            inner = {each.number: each.message_type.name for each in descriptor.fields if each.message_type}
            inner = {number: name for number, name in inner.items() if name.endswith("Proto") and hasattr(onnx, name)}
            ways[message] = {number: name.removesuffix("Proto") for number, name in inner.items()}
            waiting += ways[message].values()
    holding = {"Tensor"}
    for _ in ways:
        holding |= {message for message, inner in ways.items() if holding & set(inner.values())}
    holding -= {"TrainingInfo"}
    want = {message: {n: name for n, name in ways[message].items() if name in holding} for message in holding}
    assert want == bundle._INSIDE


def test_deep_nesting_neither_hangs_nor_overflows(wave: Path) -> None:
    inner = b""
    for _ in range(3000):  # a graph in an attribute of a node of a graph ...
        for number in (6, 5, 1):
            inner = bytes([number << 3 | 2]) + varint(len(inner)) + inner
    graph = b"\x3a" + varint(len(inner)) + inner
    bundle.write_onnx(wave, graph, RECIPE)
    assert bundle.read(wave).recipe == RECIPE
    refused(wave, bundle.read_weights)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


# Writing that fails


def test_only_graphs_are_written(tmp_path: Path) -> None:
    for graph in (b"", b"nonsense", model().SerializeToString()[:-3]):
        refused(tmp_path / "wave.onnx", lambda path, graph=graph: bundle.write_onnx(path, graph, RECIPE))
    assert not list(tmp_path.iterdir())


def test_names_end_as_the_kind_of_file_does(tmp_path: Path) -> None:
    refused(tmp_path / "wave.bin", lambda path: bundle.write_onnx(path, model().SerializeToString(), RECIPE))
    refused(tmp_path / "wave.onnx", lambda path: bundle.write_safetensors(path, WEIGHTS, RECIPE))
    assert not list(tmp_path.iterdir())


def test_a_failing_write_leaves_the_old_file(wave: Path, twin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in (wave, twin)}

    def fail(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", fail)
        with pytest.raises(FstError, match=r"wave\.onnx"):
            bundle.write_onnx(wave, model().SerializeToString(), Recipe(name="other"))
        with pytest.raises(FstError, match=r"wave\.safetensors"):
            bundle.write_safetensors(twin, WEIGHTS, Recipe(name="other"))
    assert {path: path.read_bytes() for path in wave.parent.iterdir()} == before


# Finding models


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("wave.onnx", "candy.onnx", "any.onnx", "any.encoder.onnx", "wave.safetensors", "README.md"):
        (folder / name).touch()
    monkeypatch.setattr(bundle, "carried", {"checkpoints": folder}.__getitem__)
    monkeypatch.chdir(tmp_path)
    return folder


def test_shipped_models(checkpoints: Path) -> None:
    assert list(bundle.shipped().items()) == [(name, checkpoints / f"{name}.onnx") for name in ("any", "candy", "wave")]


def test_no_shipped_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "carried", tmp_path.joinpath)
    assert bundle.shipped() == {}
    with pytest.raises(UsageError, match="there are none"):
        bundle.locate("wave")


def test_locate(checkpoints: Path) -> None:
    Path("mine.onnx").touch()
    Path("folder.onnx").mkdir()
    assert bundle.locate("wave") == checkpoints / "wave.onnx"
    assert bundle.locate("mine.onnx") == Path("mine.onnx")
    assert bundle.locate(Path("mine.onnx").resolve()) == Path("mine.onnx").resolve()
    assert bundle.locate("folder.onnx") == Path("folder.onnx"), "reading it tells what is wrong"
    Path("wave").touch()
    assert bundle.locate("wave") == checkpoints / "wave.onnx"
    assert bundle.locate("./wave") == Path("wave")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("wav", "no model is called 'wav': did you mean wave?"),
        ("zzz", "known: any, candy, wave"),
        ("", "no model is called ''"),
        ("wave.onnx", "no such file: wave.onnx; shipped models go by name: did you mean wave?"),
        ("models/wave", "no such file: models/wave"),
        (Path("models") / "x.onnx", "no such file"),
        ("x" * 5000, "no model"),
        ("a\0b", "no model"),
    ],
)
@pytest.mark.usefixtures("checkpoints")
def test_locate_nothing(model: str | Path, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        bundle.locate(model)
    assert words in str(caught.value)


def test_importing_and_reading_stays_light(wave: Path) -> None:
    code = (
        "import sys, fst.bundle; fst.bundle.read(sys.argv[1]); fst.bundle.read_recipe(sys.argv[1]);"
        "print({'torch', 'onnx', 'numpy', 'safetensors', 'onnxruntime', 'google.protobuf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, wave], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
