"""`fst gallery`: what the page shows is what the models paint, and its sliders say what is between."""

import io
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fst import Stylizer, bundle, images
from fst.cli import main
from fst.errors import UsageError
from fst.evaluation import gallery
from fst.evaluation.paintings import bundled_photos

Capture = pytest.CaptureFixture[str]
ReadPage = Callable[[Path], Any]


class Figures(HTMLParser):
    """The figures of a page: their layers {strength: file}, the photo's file, the labels of their sliders."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.found: list[dict[str, Any]] = []
        self.feed((folder / "index.html").read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: str(value) for name, value in attributes}
        if tag == "figure":
            self.found.append({"layers": {}, "sliders": [], "caption": ""})
        elif tag == "img" and "data-strength" in values:
            self.found[-1]["layers"][float(values["data-strength"])] = values["src"]
        elif tag == "img" and values.get("class") == "before":
            self.found[-1]["photo"] = values["src"]
        elif tag == "input":
            assert values["type"] == "range"
            self.found[-1]["sliders"].append(values["aria-label"])

    def handle_data(self, data: str) -> None:
        if self.found and self.lasttag == "figcaption" and data.strip():
            self.found[-1]["caption"] = data


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Callable[..., Image.Image]) -> Path:
    """A folder to work in, with two photos in `photos`."""
    (tmp_path / "photos").mkdir()
    photo(1, 96, 64).save(tmp_path / "photos" / "a <1>.png")
    photo(2, 40, 50).save(tmp_path / "photos" / "b.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kept(pixels: np.ndarray) -> np.ndarray:
    """The pixels after JPEG of quality 90, of full resolution in colour, too."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90, subsampling=0)
    return np.asarray(Image.open(file))


def pixels_of(place: Path) -> np.ndarray:
    return np.asarray(Image.open(place))


def test_pictures_are_what_the_models_paint(
    there: Path, painting_model: Path, read_page: ReadPage, capfd: Capture
) -> None:
    models = [str(painting_model), "starry_night_johnson"]
    assert main(["gallery", "--style", *models, "--content", "photos", "--max-side", "48", "-o", "g"]) == 0
    told, complaints = capfd.readouterr()
    assert (told.splitlines()[-1], complaints) == ("g/index.html", "")
    read = read_page(there / "g" / "index.html")
    assert read.missing(there / "g") == []
    assert {"painting:red", "painting:green", "starry_night_johnson"} <= set(read.texts)
    figures = Figures(there / "g").found
    assert len(figures) == 6
    shown = {place for figure in figures for place in (figure["photo"], *figure["layers"].values())}
    assert shown == {f"pictures/{path.name}" for path in (there / "g" / "pictures").iterdir()}

    photos = [np.asarray(Image.open(path).convert("RGB")) for path in sorted((there / "photos").iterdir())]
    photos = [images.resize(each, images.fit_within(each.shape[1::-1], 48)) for each in photos]
    told_more = [(Stylizer(painting_model), {"styles": "red"}), (Stylizer(painting_model), {"styles": "green"})]
    for number, figure in enumerate(figures):
        pixels = photos[number % 2]
        height, width = pixels.shape[:2]
        assert re.fullmatch(rf"(a <1>|b)\.png, {width}x{height}, \d+ ms", figure["caption"])
        np.testing.assert_array_equal(pixels_of(there / "g" / figure["photo"]), kept(pixels))
        if number >= 4:  # that network has no strength
            (place,) = figure["layers"].values()
            np.testing.assert_array_equal(
                pixels_of(there / "g" / place), kept(Stylizer("starry_night_johnson")(pixels))
            )
            assert len(figure["sliders"]) == 1
            continue
        stylizer, wishes = told_more[number // 2]
        assert list(figure["layers"]) == [0.0, 0.25, 0.5, 0.75, 1.0]
        for strength, place in figure["layers"].items():
            painted = stylizer(pixels, strength=strength, **wishes)
            np.testing.assert_array_equal(pixels_of(there / "g" / place), kept(painted))
        assert figure["layers"][0.0] == figure["photo"]  # where the network gives the photo back, it is kept once
        assert len(figure["sliders"]) == 2


def test_the_page_stands_alone(there: Path, painting_model: Path, read_page: ReadPage) -> None:
    assert main(["gallery", "--style", str(painting_model), "--content", "photos", "--max-side", "32"]) == 0
    read = read_page(there / "gallery" / "index.html")
    assert read.alts == [
        text
        for style in ("red", "green")
        for name in ("a <1>.png", "b.png")
        for text in (*[""] * 4, f"{name} repainted by painting:{style}", f"the photo {name}")
    ]
    text = (there / "gallery" / "index.html").read_text(encoding="utf-8")
    assert "://" not in text
    assert all(word in text for word in ("prefers-color-scheme: dark", "focus-visible", "width=device-width"))
    assert len(set(read.ids)) == len(read.ids) == 2
    shutil.move("gallery", "sent")
    assert read_page(there / "sent" / "index.html").missing(there / "sent") == []


def test_the_sliders_blend_neighbours_and_uncover_the_photo(there: Path, painting_model: Path) -> None:
    """The script itself, run by Node on the few elements that it asks for."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs node, to run the page's script")
    assert main(["gallery", "--style", f"{painting_model}:red", "--content", "photos/b.png", "--max-side", "32"]) == 0
    text = (there / "gallery" / "index.html").read_text(encoding="utf-8")
    strengths = re.findall(r'data-strength="([\d.]+)"', text)
    (there / "page.js").write_text(
        f"""
const slider = value => ({{ value, heard: [], addEventListener(_, call) {{ this.heard.push(call) }} }});
const layers = {json.dumps(strengths)}.map(strength => ({{ dataset: {{ strength }}, style: {{}} }}));
const view = {{ style: {{ setProperty(name, value) {{ this[name] = value }} }}, querySelectorAll: () => layers }};
const parts = {{ ".view": view, ".split": slider("50"), ".strength input": slider("1"), ".strength span": {{}} }};
globalThis.document = {{ querySelectorAll: () => [{{ querySelector: name => parts[name] }}] }};
{text.partition("<script>")[2].partition("</script>")[0]}
const rows = [];
for (const value of ["0", "0.1", "0.25", "0.6", "0.99", "1"]) {{
  for (const name of [".split", ".strength input"]) {{
    parts[name].value = name === ".split" ? String(100 * value) : value;
    parts[name].heard.forEach(call => call());
  }}
  const shown = parts[".strength span"].textContent;
  rows.push([Number(value), view.style["--at"], shown, layers.map(layer => layer.style.opacity ?? 1)]);
}}
console.log(JSON.stringify(rows));
"""
    )
    done = subprocess.run([node, "page.js"], capture_output=True, text=True, check=True)
    levels = np.array([200.0, 120, 80, 50, 10])  # what the layers would show
    for value, at, says, opacities in json.loads(done.stdout):
        seen = 0.0
        for level, opacity in zip(levels, opacities, strict=True):
            seen = opacity * level + (1 - opacity) * seen
        assert seen == pytest.approx(np.interp(value, [float(each) for each in strengths], levels))
        assert (float(at.removesuffix("%")), says) == (pytest.approx(100 * value), f"{value:.2f}")


def test_any_style_needs_its_pictures(there: Path, any_model: Path, inverting_model: Path, capfd: Capture) -> None:
    Image.new("RGB", (30, 20), (200, 40, 90)).save("red.png")
    Image.new("RGB", (30, 20), (20, 140, 90)).save("green.png")
    words = [
        "gallery",
        "--content",
        "photos/b.png",
        "--max-side",
        "32",
        "--style",
        str(inverting_model),
        str(any_model),
    ]
    assert main([*words, "-o", "without"]) == 0
    complaint = capfd.readouterr().err
    assert complaint == f"fst: {any_model} is left out: it paints like any picture, see --style-image\n"
    assert len(Figures(there / "without").found) == 1
    assert main([*words, "-o", "with", "--style-image", "red.png", "--style-image", "green.png", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert [style["name"] for style in result["styles"]] == ["invert", "any, like red.png", "any, like green.png"]
    assert result == json.loads((there / "with" / "results.json").read_text())
    for figure, colour in zip(Figures(there / "with").found[1:], ((200, 40, 90), (20, 140, 90)), strict=True):
        assert np.abs(pixels_of(there / "with" / figure["layers"][1.0]).astype(int) - colour).max() <= 2


def test_a_model_of_many_results_shows_three(diverse_model: Path, photo: Callable[..., Image.Image]) -> None:
    exhibits = gallery.plan([str(diverse_model)], say=pytest.fail)
    assert [each.name for each in exhibits] == [f"many, variation {n}" for n in (1, 2, 3)]
    for number, each in enumerate(exhibits):
        noise = np.random.default_rng([0, number]).standard_normal(16).astype(np.float32)
        np.testing.assert_array_equal(each.wishes["noise"], noise)


def test_models_of_one_name_are_told_apart(there: Path, inverting_model: Path) -> None:
    other = there / "other" / inverting_model.name
    other.parent.mkdir()
    shutil.copy(inverting_model, other)
    names = [each.name for each in gallery.plan([str(inverting_model), str(other)], say=pytest.fail)]
    assert names == [f"{other.stem} (1: {inverting_model})", f"{other.stem} (2: {other})"]


def test_the_picture_that_was_learnt_is_shown(
    there: Path, inverting_model: Path, read_page: ReadPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found as fst eval finds it: by the style's name, and only if it is that same file."""
    own = "8848193c0251a0ab27b312ea494fe052cb9e12535c5964df1e267d4b340c0f63"
    woodcut = {"name": "woodcut", "title": "Woodcut", "year": 2026, "license": "Apache-2.0", "crop": [0, 0, 0.5, 1]}
    for name, digest in (("right", own), ("other", "0" * 64)):
        recipe = bundle.Recipe(name=name, styles=[woodcut | {"sha256": digest}])
        bundle.write_onnx(f"{name}.onnx", inverting_model.read_bytes(), recipe)
    words = ["gallery", "--content", "photos/b.png", "--max-side", "32", "--style", "right.onnx", "other.onnx"]
    assert main(words) == 0
    read = read_page(there / "gallery" / "index.html")
    assert read.alts.count("the picture of the style right") == 1
    assert "the picture of the style other" not in read.alts
    assert read.texts.count("Woodcut, 2026, Apache-2.0") == 2
    file = Path(bundle.__file__).parents[1] / "conf" / "style" / "pictures" / "woodcut.jpg"
    with Image.open(file) as whole:
        left = whole.convert("RGB").crop((0, 0, round(whole.width / 2), whole.height))
    left.thumbnail((320, 320), Image.Resampling.LANCZOS)
    shown = pixels_of(there / "gallery" / "pictures" / "style_1.jpg").astype(float)
    assert np.abs(shown - np.asarray(left)).mean() < 6  # thumbnails are made with another filter
    monkeypatch.setitem(sys.modules, "yaml", None)  # as without the training half
    assert gallery.plan(["right.onnx"], say=pytest.fail)[0].picture is None


def test_a_photo_that_cannot_be_read_is_left_out(there: Path, inverting_model: Path, capfd: Capture) -> None:
    (there / "photos" / "bad.png").write_text("no picture")
    assert main(["gallery", "--content", "photos", "--style", str(inverting_model), "--max-side", "32"]) == 1
    assert capfd.readouterr().err.count("bad.png: is no picture") == 1
    assert len(Figures(there / "gallery").found) == 2


def test_photos_of_scikit_image_make_up_for_none(
    there: Path, inverting_model: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("skimage")
    assert main(["gallery", "--style", str(inverting_model), "--max-side", "32", "--json"]) == 0
    names = [Path(row["photo"]).name for row in json.loads(capfd.readouterr().out)["styles"][0]["photos"]]
    assert names[:2] == ["astronaut.png", "chelsea.png"]
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(UsageError, match="no photos: name some, or pip install scikit-image"):
        bundled_photos()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--style", "stary_night"], "did you mean starry_night or"),
        (["--style", "starry_night:wave"], "has one style"),
        (["--style", "{painting}:blue"], "no style 'blue'"),
        (["--style", "any"], "nothing to show: name a style, or a picture with --style-image"),
        (["--style", "any", "--style-image", "none.jpg"], "none.jpg: no such picture"),
        (["--style", "{painting}", "--style-image", "photos/b.png"], "--style-image is for models that paint like any"),
        (["-o", "taken"], "taken/index.html exists: --overwrite replaces it"),
        (["-o", "photos/b.png"], "-o photos/b.png is a file: give a folder"),
        (["--max-side", "3"], "--max-side: must be at least 16 pixels"),
    ],
)
def test_misuse_is_one_line(there: Path, painting_model: Path, capfd: Capture, words: list[str], says: str) -> None:
    (there / "taken").mkdir()
    (there / "taken" / "index.html").touch()
    before = sorted(there.rglob("*"))
    given = [word.replace("{painting}", str(painting_model)) for word in words]
    assert main(["gallery", "--content", "photos", *given]) == 2
    complaint = capfd.readouterr().err.strip().splitlines()[-1]
    assert complaint.startswith("fst: ")
    assert says in complaint
    assert sorted(there.rglob("*")) == before
