"""Cards: what a model file says of itself, in words, and no more than it says."""

import hashlib
import math
import shutil
from pathlib import Path

import pytest

from fst import bundle, card
from fst.bundle import Recipe
from fst.commands import stylize
from fst.inputs import KINDS


def rows(text: str) -> dict[str, str]:
    """The rows of a card's table; every line of it has two cells."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert lines[:2] == ["| | |", "| --- | --- |"]
    cells = [line.replace("\\|", "/").strip("| ").split(" | ") for line in lines[2:]]
    assert all(len(each) == 2 for each in cells)
    found = dict(cells)
    assert len(found) == len(cells)
    return found


def with_recipe(source: Path, target: Path, recipe: Recipe) -> bundle.Bundle:
    bundle.write_onnx(target, source.read_bytes(), recipe)
    return bundle.read(target)


def test_how_one_like_a_carried_model_is_made() -> None:
    for name, parts in (
        ("woodcut", "experiment=woodcut, then experiment=[woodcut,finish]"),
        ("multi", "experiment=multi_first, then experiment=multi"),
        ("any", "experiment=any"),
        ("starry_night_johnson", "experiment=starry_night_johnson_first, then experiment=starry_night_johnson"),
    ):
        assert card.made_by(name, bundle.read_recipe(bundle.shipped()[name])) == parts


def test_everything_a_recipe_knows(inverting_model: Path, tmp_path: Path) -> None:
    wave = {"name": "wave", "title": "The Wave", "artist": "Hokusai", "year": 1831, "license": "public domain"}
    recipe = Recipe(
        name="both",
        method="multi",
        net={"name": "conditional", "net": {"name": "fast", "width": 32, "blocks": 4}, "styles": 2, "adjustable": True,
             "noise": 0},
        styles=[wave | {"size_px": [512, 256], "crop": None}, {"name": "mine", "license": None, "size_px": [384]}],
        inputs={"strength": 1.0, "stroke": 1.0, "styles": [1.0, 0.0], "noise": 16},
        losses={"style_layers": {"relu1_1": 1.0, "relu2_1": 2.0}, "content_layers": {"relu3_2": 1.0},
                "content_weight": 0.1, "style_weight": 1.0, "tv_weight": 0.02},
        perceptual={"name": "vgg19", "padding": "replicate", "weights_sha256": "6eef850545a1ff4e49cd"},
        data={"source": "train", "photos": 1349, "size": 192, "start_size": 96, "batch_size": 4, "flip": True},
        steps=10_000,
        seed=3,
        metrics={"val/content": 0.87941, "val/style": 0.0261},
        license=None,
        fst_version="0.1.0",
        created="2026-11-22T14:58:24+00:00",
        extra={"init": {"name": "first", "steps": 2000}},
    )  # fmt: skip
    model = with_recipe(inverting_model, tmp_path / "a b.onnx", recipe)
    text = card.compose(model)
    assert text.startswith(
        "# both\n\nA network that repaints photos in 2 styles: `fst stylize photo.jpg --style 'a b.onnx':mine`.\n"
    )
    data = (tmp_path / "a b.onnx").read_bytes()
    assert rows(text) == {
        "method, net": "multi, fast (width 32, blocks 4), conditional (styles 2, adjustable)",
        "weights": "0.00 M",
        "style wave": "The Wave, Hokusai, 1831, public domain; seen at 512, 256 px",
        "style mine": "seen at 384 px",
        "`--strength`": "strength, 0 to 1: how much style (1)",
        "`--stroke`": "stroke, 0.5 to 2: size of the strokes, 1 as trained (1)",
        "`--mix`": "styles, 0 to 1: mix of the learnt styles (1, 0)",
        "`--variations`": "noise, 16 numbers: which of many results, drawn from a standard normal distribution",
        "training": "10,000 steps, after 2,000 of first, seed 3",
        "photos": "1,349 of train, 4 a step, crops of 96 to 192 px, flip",
        "losses": "content 0.1 at relu3_2, style 1 at relu1_1, relu2_1:2, total variation 0.02",
        "perceptual network": "vgg19, SHA-256 of its weights 6eef850545a1ff4e…, padding replicate",
        "scores at the end": "content 0.879, style 0.026",
        "licence": "not known",
        "`a b.onnx`": f"{len(data) / 1e6:.1f} MB, SHA-256 {hashlib.sha256(data).hexdigest()}",
        "made": "2026-11-22T14:58:24+00:00, fst 0.1.0",
    }
    assert text.endswith("\n\n## Limits\n\n- Nobody has described them yet.\n")


def test_an_empty_card_is_none(tmp_path: Path) -> None:
    """As the shell makes one, before `fst show NAME.onnx > NAME.md` begins."""
    (beside := tmp_path / "mine.md").touch()
    assert card.written(tmp_path / "mine.onnx") is None
    beside.write_text("# a card")
    assert card.written(tmp_path / "mine.onnx") == beside


def test_an_imported_model_says_little(inverting_model: Path, tmp_path: Path) -> None:
    recipe = Recipe(name="candy", net={"name": "johnson"}, data={"source": "imported from candy.pth"}, license="BSD")
    text = card.compose(with_recipe(inverting_model, tmp_path / "candy.onnx", recipe))
    assert "in a style that its file does not name: `fst stylize photo.jpg --style candy.onnx`" in text
    found = rows(text)
    assert list(found) == ["method, net", "weights", "photos", "licence", "`candy.onnx`", "made"]
    assert (found["photos"], found["licence"]) == ("imported from candy.pth", "BSD")


def test_a_model_of_any_style_has_two_files(any_model: Path, tmp_path: Path) -> None:
    text = card.compose(bundle.read(any_model))
    assert "in the style of any picture at once: `fst stylize photo.jpg --style any.onnx --style-image paint" in text
    found = rows(text)
    assert found["`--style-image`"] == "style_code, 3 numbers: any style, as the model's encoder says it"
    for path in (any_model, bundle.encoder_of(any_model)):
        assert found[f"`{path.name}`"].endswith(hashlib.sha256(path.read_bytes()).hexdigest())
    shutil.copy(any_model, tmp_path)  # its encoder stays behind
    assert [each.path.name for each in card.files(bundle.read(tmp_path / "any.onnx"))] == ["any.onnx"]


def test_no_text_breaks_the_table(inverting_model: Path, tmp_path: Path) -> None:
    odd = "a | b\n| c | d |\n\x1b[2J# e"
    style = {"name": odd, "title": odd, "size_px": "large", "crop": {"left": odd}}
    recipe = Recipe(
        name="odd|name",
        net={"name": odd, "net": {"width": odd}},
        styles=[style],
        losses={"style_weight": "much", "style_layers": [odd], "other": None},
        perceptual={"weights_sha256": 5},
        data={"photos": odd, "size": [1, 2.5], "batch_size": None},
        metrics={"val/total": None, "val/style": odd, "x": 1},
        license=odd,
        extra={"init": {"steps": odd}},
    )
    text = card.compose(with_recipe(inverting_model, tmp_path / "odd.onnx", recipe))
    assert rows(text)["licence"] == "a / b / c / d / [2J# e"
    assert "\x1b" not in text
    assert [line for line in text.splitlines() if line.startswith("#")] == ["# odd\\|name", "## Limits"]


def test_every_input_is_told_by_an_option_of_stylize() -> None:
    known = stylize.parser()._option_string_actions
    assert {kind.option for kind in KINDS.values()} <= set(known)


@pytest.mark.parametrize("name", ["johnson_model", "diverse_model", "any_model", *bundle.shipped()])
def test_weights_are_counted_as_onnx_counts_them(name: str, request: pytest.FixtureRequest) -> None:
    onnx = pytest.importorskip("onnx")
    path = bundle.shipped().get(name) or request.getfixturevalue(name)
    tensors = onnx.load(str(path)).graph.initializer
    no_weights = (onnx.TensorProto.INT64, onnx.TensorProto.BOOL)
    wanted = sum(math.prod(each.dims) for each in tensors if each.data_type not in no_weights)
    assert bundle.read(path).weights == wanted > 0
