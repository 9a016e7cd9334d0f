"""`fst eval` and `fst compare` as people use them and misuse them, with the shipped model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fst import images
from fst.bundle import Recipe, write_onnx
from fst.cli import main
from fst.errors import FstError
from fst.evaluation.scores import Judge
from fst.inference.stylizer import Plan, Stylizer

Capture = pytest.CaptureFixture[str]
ReadPage = Callable[[Path], Any]


@pytest.fixture
def there(tmp_path: Path, photo: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with photos/a <1>.jpg and b.png, and style.png."""
    (tmp_path / "photos").mkdir()
    photo(0, 96, 64).save(tmp_path / "photos" / "a <1>.jpg", quality=95)
    photo(1, 60, 80).save(tmp_path / "photos" / "b.png")
    photo(2, 70, 70).save(tmp_path / "style.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def floats(pixels: np.ndarray) -> Any:
    import torch

    return torch.from_numpy(images.to_float(pixels))


SCORED = ("--style-image", "style.png", "--style-size", "64")


def test_a_model_is_scored_and_shown(there: Path, read_page: ReadPage, capfd: Capture) -> None:
    words = ["eval", "starry_night", "--content", "photos", *SCORED, "--reference", "gatys:4", "-o", "out", "--json"]
    assert main(words) == 0
    told, complaints = capfd.readouterr()
    result = json.loads(told)
    assert complaints == ""
    assert result == json.loads((there / "out" / "results.json").read_text())
    assert result["perceptual"]["name"] == "lite"
    assert result["styles"] == [{"name": "style", "share": 1.0, "size_px": [64]}]
    assert [(Path(row["photo"]).name, row["width"], row["height"]) for row in result["photos"]] == [
        ("a <1>.jpg", 96, 64),
        ("b.png", 60, 80),
    ]

    judge, stylizer = Judge("lite"), Stylizer("starry_night")
    style = np.asarray(images.read_rgb("style.png").resize((64, 64), Image.Resampling.LANCZOS, reducing_gap=3.0))
    for row in result["photos"]:
        photo = images.read(row["photo"]).pixels
        wanted = judge.score(floats(photo), floats(stylizer.repaint(photo)), judge.target([floats(style)], [1.0]))
        assert {name: row[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)
        assert row["gatys_totals"][0] == pytest.approx(row["photo_style"], rel=1e-4)
        reached = [n for n, total in enumerate(row["gatys_totals"], 1) if total <= row["total"]]
        assert row["gatys_iterations"] == (reached[0] if reached else None)
        assert row["times_reference"] == pytest.approx(row["total"] / min(row["gatys_totals"]))
        assert row["milliseconds"] > 0
    for name in ("content", "style", "ssim"):
        assert result["median"][name] == pytest.approx(np.mean([row[name] for row in result["photos"]]))

    read = read_page(there / "out" / "index.html")
    assert read.missing(there / "out") == []
    assert len(read.alts) == 2 * 4
    assert "a <1>.jpg repainted by starry_night" in read.alts
    assert not {"script", "link"} & read.tags
    shown = next(row for row in read.rows if row[0].strip() == "median")
    assert f"{result['median']['style']:.4f}" in [cell.strip() for cell in shown]
    painted = images.read(there / "out" / "pictures" / "001_b_painted.jpg")
    assert np.abs(painted.pixels.astype(float) - stylizer.repaint(images.read("photos/b.png").pixels)).mean() < 4


def test_the_table_says_it_all(there: Path, capfd: Capture) -> None:
    assert main(["eval", "starry_night", "--content", "photos/b.png", "photos/bad.jpg", *SCORED]) == 2
    assert "photos/bad.jpg: no such file or folder" in capfd.readouterr().err
    (there / "photos" / "bad.jpg").write_text("no picture")
    assert main(["eval", "starry_night", "--content", "photos", *SCORED, "--max-side", "64"]) == 1
    told, complaints = capfd.readouterr()
    assert complaints.strip() == (
        "fst: photos/bad.jpg: is no picture; give a JPEG, PNG, WebP, TIFF, BMP, GIF or AVIF file"
    )
    lines = [line.split() for line in told.splitlines()]
    assert "seen by lite" in told
    assert ["photo", "content", "style", "photo's", "own", "share", "total", "tv", "SSIM", "ms"] in lines
    assert [line[0] for line in lines if line and line[0] in ("a", "b.png", "median")] == ["a", "b.png", "median"]
    assert sorted(path.name for path in there.iterdir()) == ["photos", "style.png"]


def test_strength_stroke_and_mix_reach_the_model(there: Path, painting_model: Path, capfd: Capture) -> None:
    of = [f"{painting_model}", "--content", "photos/b.png", *SCORED, "--json"]
    assert main(["eval", *of, "--strength", "0"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["settings"]["inputs"] == {"strength": 0.0, "stroke": 1.0, "styles": [1.0, 0.0]}
    assert result["median"]["content"] == 0
    assert result["median"]["ssim"] == pytest.approx(1)
    assert main(["eval", f"{painting_model}:green", *of[1:], "--stroke", "2", "-o", "out"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert result["settings"]["inputs"] == {"strength": 1.0, "stroke": 2.0, "styles": [0.0, 1.0]}
    assert result["styles"][0]["size_px"] == [128]
    painted = images.read(there / "out" / "pictures" / "000_b_painted.jpg").pixels
    assert np.abs(painted - 255 * np.array([0.1, 0.6, 0.4])).max() <= 2


@pytest.fixture
def noisy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose graph is image / 2 + 0.25 + 0.06 * noise, a colour of three numbers."""
    onnx = pytest.importorskip("onnx")
    axes = ["batch", 3, "height", "width"]
    shapes = {"image": axes, "noise": ["batch", 3], "stylized": axes}
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, s) for name, s in shapes.items()]
    constants = {"half": np.float32(0.5), "quarter": np.float32(0.25), "little": np.float32(0.06)}
    constants |= {"pixel": np.array([-1, 3, 1, 1], np.int64)}
    steps = [("Reshape", "noise pixel", "n"), ("Mul", "n little", "m"), ("Mul", "image half", "h")]
    steps += [("Add", "h quarter", "q"), ("Add", "q m", "stylized")]
    nodes = [onnx.helper.make_node(kind, given.split(), [made]) for kind, given, made in steps]
    weights = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = onnx.helper.make_graph(nodes, "noisy", values[:-1], values[-1:], weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path_factory.mktemp("models") / "noisy.onnx"
    write_onnx(path, model.SerializeToString(), Recipe(name="noisy", inputs={"noise": 3}))
    return path


def test_variations_and_how_much_they_differ(
    there: Path, noisy_model: Path, read_page: ReadPage, capfd: Capture
) -> None:
    words = ["eval", str(noisy_model), "--content", "photos", *SCORED, "--seed", "5", "--json"]
    assert main([*words, "--variations", "3", "-o", "out"]) == 0
    result = json.loads(capfd.readouterr().out)
    drawn = [0.06 * np.random.default_rng([5, number]).standard_normal(3) for number in range(3)]
    wanted = np.mean([np.abs(drawn[a] - drawn[b]).mean() for a, b in ((0, 1), (0, 2), (1, 2))])
    for row in result["photos"]:
        assert row["pixel_distance"] == pytest.approx(wanted, abs=0.5 / 255)
        assert 0 < row["perceptual_distance"] < 0.5
    assert result["mean"]["pixel_distance"] == pytest.approx(wanted, abs=0.5 / 255)
    read = read_page(there / "out" / "index.html")
    assert read.missing(there / "out") == []
    assert sum("variation" in alt for alt in read.alts) == 6
    photo = images.read("photos/b.png").pixels / 255
    for number, noise in enumerate(drawn, 1):
        painted = images.read(there / "out" / "pictures" / f"001_b_painted_{number}.jpg").pixels / 255
        assert np.abs((painted - (photo / 2 + 0.25 + noise)).mean((0, 1))).max() < 0.01
    assert main(words) == 0  # without noise
    assert "pixel_distance" not in json.loads(capfd.readouterr().out)["median"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["eval", "starry_night"], "--content"),
        (["eval", "starry_night", "--content", "photos", "--variations", "2"], "paints a photo in one way only"),
        (["eval", "starry_night", "--content", "photos", "--diversity", "0.5"], "--diversity goes with --variations N"),
        (["eval", "--content", "photos"], "MODEL"),
        (["eval", "stary_night", "--content", "photos"], "did you mean starry_night or"),
        (["eval", "starry_night:wave", "--content", "photos"], "starry_night has one style"),
        (["eval", "{painting}:blue", "--content", "photos"], "painting has no style 'blue'"),
        (["eval", "{painting}:red", "--content", "photos", "--mix", "red=1"], "leave :red or --mix out"),
        (["eval", "{painting}", "--content", "photos"], "the picture that painting learnt as 'red' is not here"),
        (["eval", "{painting}", "--content", "photos", "--mix", "red=1,green=1"], "sum to 2, not to 1"),
        (["eval", "starry_night", "--content", "none", *SCORED], "none: no such file or folder"),
        (["eval", "starry_night", "--content", "empty", *SCORED], "empty: no pictures in it"),
        (["eval", "starry_night", "--content", "photos"], "the folder that FST_STYLES names, or add --style-image"),
        (["eval", "starry_night", "--content", "photos", "--style-image", "none.jpg"], "none.jpg: no such file"),
        (["eval", "starry_night", "--content", "photos", "--style-image", "dot.png"], "dot.png is 1x1 px: too small"),
        (["eval", "starry_night", "--content", "photos", "--style-size", "9"], "--style-size: must be at least 32"),
        (["eval", "starry_night", "--content", "photos", "--reference", "gatys"], "--reference: is gatys:ITER"),
        (["eval", "starry_night", "--content", "photos", "--reference", "gatys:0"], "--reference: is gatys:ITER"),
        (["eval", "starry_night", "--content", "photos", "--reference", "adain:9"], "--reference: is gatys:ITER"),
        (
            ["eval", "starry_night_johnson", "--content", "photos", "--strength", "1", *SCORED],
            "not trained with strength",
        ),
        (["eval", "starry_night", "--content", "photos", "--variations", "1"], "--variations: must be at least 2"),
        (["eval", "starry_night", "--content", "photos", "--variations", "2", *SCORED], "in one way only"),
        (["eval", "starry_night", "--content", "photos", "--perceptual", "vgg16"], "--perceptual"),
        (["eval", "starry_night", "--content", "photos", "-o", "style.png"], "-o style.png is a file: give a folder"),
        (["eval", "starry_night", "--content", "photos", "-o", "taken"], "taken/results.json exists: --overwrite"),
        (["compare", "--content", "photos"], "MODEL"),
        (["compare", "starry_night", "stary_night", "--content", "photos"], "did you mean starry_night or"),
        (["compare", "starry_night", "--content", "none"], "none: no such file or folder"),
        (["compare", "starry_night", "--content", "photos", "-o", "taken"], "taken/results.json exists: --overwrite"),
        (["compare", "starry_night", "--content", "photos", "--padding", "zeros"], "say how --scores are taken"),
        (["compare", "starry_night", "--content", "photos", "--perceptual", "lite"], "taken: add --scores"),
        (["compare", "starry_night", "--content", "photos", "--style-image", "style.png"], "taken: add --scores"),
    ],
)
def test_misuse_is_one_line(there: Path, painting_model: Path, capfd: Capture, words: list[str], says: str) -> None:
    (there / "empty").mkdir()
    (there / "taken").mkdir()
    (there / "taken" / "results.json").touch()
    Image.new("RGB", (1, 1)).save("dot.png")
    before = sorted(there.rglob("*"))
    assert main([word.replace("{painting}", str(painting_model)) for word in words]) == 2
    complaint = capfd.readouterr().err.strip()
    assert complaint.startswith("fst: ")
    assert "\n" not in complaint
    assert says in complaint
    assert sorted(there.rglob("*")) == before


def test_models_side_by_side(
    there: Path, inverting_model: Path, painting_model: Path, read_page: ReadPage, capfd: Capture
) -> None:
    models = [str(inverting_model), f"{painting_model}:red", f"{painting_model}:green"]
    assert main(["compare", *models, "--content", "photos", "--max-side", "48"]) == 0
    told, complaints = capfd.readouterr()
    assert complaints == ""
    assert told.splitlines()[-1] == "comparison/index.html"
    read = read_page(there / "comparison" / "index.html")
    assert read.missing(there / "comparison") == []
    assert read.alts == [
        text
        for name in ("a <1>.jpg", "b.png")
        for text in (f"the photo {name}", *(f"{name} repainted by {model}" for model in models))
    ]
    assert ["", "photo", *models] in [[cell.strip() for cell in row] for row in read.rows]
    photo, inverted, red, green = (
        images.read(there / "comparison" / "pictures" / f"000_a__1{end}.jpg").pixels.astype(float)
        for end in ("", "__1", "__2", "__3")
    )
    assert photo.shape == (32, 48, 3)
    assert np.abs(photo + inverted - 255).mean() < 3
    assert np.abs(red - 255 * np.array([0.9, 0.1, 0.2]) / 2).max() <= 3
    assert np.abs(green - 255 * np.array([0.1, 0.6, 0.4]) / 2).max() <= 3
    assert main(["compare", *models, "--content", "photos"]) == 2
    assert main(["compare", *models, "--content", ".", "--max-side", "48", "--overwrite", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert [Path(row["photo"]).name for row in result["models"][0]["photos"]] == ["a <1>.jpg", "b.png", "style.png"]
    assert list(result["models"][0]["median"]) == ["milliseconds"]


def test_a_photo_that_only_the_second_model_cannot_paint_is_said(
    there: Path,
    inverting_model: Path,
    painting_model: Path,
    read_page: ReadPage,
    monkeypatch: pytest.MonkeyPatch,
    capfd: Capture,
) -> None:
    plan = Stylizer.plan

    def refusing(stylizer: Stylizer, size: tuple[int, int]) -> Plan:
        if stylizer.path == painting_model:
            raise FstError("too little memory for this one")
        return plan(stylizer, size)

    monkeypatch.setattr(Stylizer, "plan", refusing)
    models = [str(inverting_model), str(painting_model)]
    assert main(["compare", *models, "--content", "photos", "--max-side", "48"]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines == [
        f"fst: {path} by {models[1]}: too little memory for this one" for path in sorted(Path("photos").iterdir())
    ]
    read = read_page(there / "comparison" / "index.html")
    assert "the photo b.png" in read.alts
    assert f"b.png repainted by {models[0]}" in read.alts
    assert any(row[-1].strip() == "too little memory for this one" for row in read.rows if row)


def test_models_are_scored_where_their_style_is_to_be_had(there: Path, inverting_model: Path, capfd: Capture) -> None:
    words = ["compare", "starry_night", str(inverting_model), "--content", "photos/b.png", "--scores", "--json"]
    assert main([*words, "-o", "none"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert [list(model["median"]) for model in result["models"]] == [["milliseconds"]] * 2
    assert sum("no scores of" in note for note in result["notes"]) == 2
    assert main([*words, "-o", "both", *SCORED]) == 0
    both = json.loads(capfd.readouterr().out)
    assert main(["eval", "starry_night", "--content", "photos/b.png", *SCORED, "--json"]) == 0
    alone = json.loads(capfd.readouterr().out)["median"]
    first, second = (model["median"] for model in both["models"])
    assert {**first, "milliseconds": 0} == {**alone, "milliseconds": 0}
    assert second["style"] != first["style"]
    text = (there / "both" / "index.html").read_text()
    assert f"style {first['style']:.4f}" in text
    assert "seen by lite" in text
