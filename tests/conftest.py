"""What the tests share: a clean environment, drawn photos, a random VGG-19, pages read, a web server, `shared`."""

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from fst import bundle

SHARED = Path(os.environ.get("FST_SHARED") or Path(__file__).resolve().parents[2] / "shared")
# torchvision's index and width of each convolution of VGG-19, spelt out here and not taken from fst.
VGG19 = ((0, 64), (2, 64), (5, 128), (7, 128), (10, 256), (12, 256), (14, 256), (16, 256), (19, 512), (21, 512),
         (23, 512), (25, 512), (28, 512), (30, 512), (32, 512), (34, 512))  # fmt: skip


@pytest.fixture(autouse=True)
def _clean_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's settings and caches reaches a test."""
    for name in [n for n in os.environ if n in ("FST_STYLES", "FST_VGG19_WEIGHTS") or n.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    caches = tmp_path_factory.mktemp("caches")
    monkeypatch.setenv("FST_CACHE", str(caches / "fst"))
    monkeypatch.setenv("TORCH_HOME", str(caches / "torch"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real weights, photos and styles."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the folder {SHARED.name} beside the checkout, or FST_SHARED")
    return SHARED


@pytest.fixture(scope="session")
def vgg_weights(shared: Path) -> Path:
    """The real VGG-19, to relu3_4."""
    path = shared / "weights" / "vgg19-relu3_4.safetensors"
    if not path.is_file():
        pytest.skip("needs weights/vgg19-relu3_4.safetensors in the folder shared")
    return path


@pytest.fixture(scope="session")
def random_vgg(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`random_vgg(convolutions=8, seed=0)`: a file of the first so many (8: to relu3_4), He-initialised."""
    folder, made = tmp_path_factory.mktemp("random_vgg"), {}

    def make(convolutions: int = 8, seed: int = 0) -> Path:
        import torch
        from safetensors.torch import save_file

        path = folder / f"vgg19-{convolutions}-{seed}.safetensors"
        if path not in made:
            generator, tensors, channels = torch.Generator().manual_seed(seed), {}, 3
            for index, width in VGG19[:convolutions]:
                scale = (2 / (9 * channels)) ** 0.5
                tensors[f"features.{index}.weight"] = scale * torch.randn(width, channels, 3, 3, generator=generator)
                tensors[f"features.{index}.bias"] = 0.1 * torch.randn(width, generator=generator)
                channels = width
            save_file(tensors, path)
            made[path] = True
        return path

    return make


def draw_photo(seed: int, width: int, height: int) -> Image.Image:
    """Blurred colour patches: smooth as a photo is, different for every seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture
def photo() -> Callable[..., Image.Image]:
    """`photo(seed, width, height)`: see `draw_photo`."""
    return draw_photo


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of eight small photos, 00.jpg to 07.jpg, landscape and portrait."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(8):
        size = (72 + 4 * number, 64) if number % 2 else (64, 80)
        draw_photo(number, *size).save(folder / f"{number:02}.jpg", quality=95)
    return folder


_VOID = {"meta", "img", "input"}


class PageReader(HTMLParser):
    """What a browser makes of a page: tags that are balanced, its texts, addresses and images."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in _VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        values = dict(attributes)
        self.addresses += [value for name, value in attributes if name in ("href", "src") and value]
        self.ids += [value for name, value in attributes if name == "id" and value]
        if tag == "img":
            self.alts.append(values["alt"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open) and data.strip():
            self.texts.append(data.strip())
        if self.open and {"th", "td"} & set(self.open):
            self.rows[-1][-1] += f"{data} "

    def missing(self, folder: Path) -> list[str]:
        """Addresses that lead to no file, nor to a place on the page."""
        places = {f"#{name}" for name in self.ids}
        return [a for a in self.addresses if a not in places and not (folder / unquote(a)).is_file()]


@pytest.fixture
def read_page() -> Callable[[Path], PageReader]:
    """`read_page(path)`: see `PageReader`."""
    return PageReader


@dataclass
class Web:
    """A web server on this machine: what lies in `folder`, at `url`; `asked` holds the paths of its requests."""

    folder: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def web(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "*")
    served = Web(tmp_path_factory.mktemp("web"))

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(served.folder))

        def do_GET(self) -> None:
            served.asked.append(self.path)
            super().do_GET()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        served.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        running.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def inverting_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose graph is 1 - image: what comes out is known exactly."""
    onnx = pytest.importorskip("onnx")
    axes = ["batch", 3, "height", "width"]
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, axes)
    stylized = onnx.helper.make_tensor_value_info("stylized", onnx.TensorProto.FLOAT, axes)
    one = onnx.numpy_helper.from_array(np.ones((), np.float32), "one")
    node = onnx.helper.make_node("Sub", ["one", "image"], ["stylized"])
    graph = onnx.helper.make_graph([node], "invert", [image], [stylized], [one])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path_factory.mktemp("models") / "invert.onnx"
    bundle.write_onnx(path, model.SerializeToString(), bundle.Recipe(name="invert", license="CC0-1.0"))
    return path


PALETTE = ((0.9, 0.1, 0.2), (0.1, 0.6, 0.4))  # of the styles "red" and "green" of `painting_model`


@pytest.fixture(scope="session")
def painting_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two styles with every input: strength * stroke / 2 * its colour + (1 - strength) * image."""
    onnx = pytest.importorskip("onnx")
    axes = ["batch", 3, "height", "width"]
    shapes = {"image": axes, "strength": ["batch"], "stroke": ["batch"], "styles": ["batch", 2], "stylized": axes}
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, s) for name, s in shapes.items()]
    constants = {"palette": np.array(PALETTE, np.float32), "one": np.float32(1), "two": np.float32(2)}
    constants |= {"column": np.array([-1, 1, 1, 1], np.int64), "pixel": np.array([-1, 3, 1, 1], np.int64)}
    steps = [
        *(("MatMul", "styles palette", "rgb"), ("Reshape", "rgb pixel", "colour")),
        *(("Reshape", "strength column", "s"), ("Reshape", "stroke column", "k"), ("Div", "k two", "half")),
        *(("Mul", "s half", "much"), ("Mul", "much colour", "painted"), ("Sub", "one s", "rest")),
        *(("Mul", "rest image", "left"), ("Add", "painted left", "stylized")),
    ]
    nodes = [onnx.helper.make_node(kind, given.split(), [made]) for kind, given, made in steps]
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(nodes, "paint", values[:-1], values[-1:], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path_factory.mktemp("models") / "painting.onnx"
    recipe = bundle.Recipe(
        name="painting",
        method="multi",
        styles=[{"name": "red"}, {"name": "green"}],
        inputs={"strength": 1.0, "stroke": 1.0, "styles": [1.0, 0.0]},
    )
    bundle.write_onnx(path, model.SerializeToString(), recipe)
    return path


@pytest.fixture(scope="session")
def any_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that takes any style: strength * code + (1 - strength) * image; a code is a picture's mean colour."""
    onnx = pytest.importorskip("onnx")

    def graph_of(steps: list[tuple[str, str, str]], shapes: dict[str, list[Any]]) -> bytes:
        *given, made = (
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, s) for name, s in shapes.items()
        )
        constants = {"one": np.float32(1), "column": np.array([-1, 1, 1, 1]), "pixel": np.array([-1, 3, 1, 1])}
        constants |= {"sides": np.array([2, 3])}
        nodes = [onnx.helper.make_node(kind, names.split(), [out]) for kind, names, out in steps]
        for node in nodes:
            if node.op_type == "ReduceMean":
                node.attribute.append(onnx.helper.make_attribute("keepdims", 0))
        weights = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()]
        graph = onnx.helper.make_graph(nodes, "any", given, [made], weights)
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
        serialized: bytes = model.SerializeToString()
        return serialized

    axes = ["batch", 3, "height", "width"]
    paint = [
        *(("Reshape", "style_code pixel", "colour"), ("Reshape", "strength column", "s"), ("Sub", "one s", "rest")),
        *(("Mul", "s colour", "painted"), ("Mul", "rest image", "left"), ("Add", "painted left", "stylized")),
    ]
    shapes = {"image": axes, "style_code": ["batch", 3], "strength": ["batch"], "stylized": axes}
    encode = graph_of([("ReduceMean", "image sides", "style_code")], {"image": axes, "style_code": ["batch", 3]})
    path = tmp_path_factory.mktemp("models") / "any.onnx"
    recipe = bundle.Recipe(name="any", method="adain", inputs={"style_code": 3, "strength": 1.0})
    bundle.write_onnx(path, graph_of(paint, shapes), recipe, encoder=encode)
    return path


@pytest.fixture(scope="session")
def johnson_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Johnson network with random weights."""
    torch = pytest.importorskip("torch")
    from fst import nets
    from fst.export import model

    torch.manual_seed(0)
    net = nets.build({"name": "johnson", "width": 4, "blocks": 1})
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    model.write(path, net, bundle.Recipe(name="small", net=nets.recipe_of(net)))
    return path


@pytest.fixture(scope="session")
def diverse_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights that paints a photo in many ways."""
    torch = pytest.importorskip("torch")
    from fst import nets
    from fst.export import model

    torch.manual_seed(0)
    net = nets.build({"name": "conditional", "net": {"name": "fast", "width": 4, "blocks": 1}, "noise": 16})
    path = tmp_path_factory.mktemp("models") / "many.onnx"
    recipe = bundle.Recipe(name="many", method="diverse", net=nets.recipe_of(net), inputs=nets.inputs_of(net))
    model.write(path, net, recipe)
    return path
