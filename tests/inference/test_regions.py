"""Several styles in one picture, against their blend in float64."""

import json

import numpy as np
import pytest
from PIL import Image

from fst import images
from fst.cli import main
from fst.errors import UsageError
from fst.inference import memory
from fst.inference.regions import Regions, read_mask, shares
from fst.inference.stylizer import Stylizer

COLOURS = ((200, 40, 20), (20, 160, 60), (30, 50, 220))


def photo(height=40, width=56):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask(height=40, width=56, seed=0, most=256):
    return np.random.default_rng(seed).integers(0, most, (height, width), dtype=np.uint8)


def style(number):
    return np.full((20, 20, 3), COLOURS[number], np.uint8)


def test_shares_of_masks_that_overlap_sum_to_1_and_no_more():
    masks = [mask(seed=seed) for seed in range(3)]
    each = np.stack(masks).astype(float) / 255
    got = shares(masks, (56, 40))
    np.testing.assert_allclose(got, each / np.maximum(1, each.sum(0)), atol=1e-6)
    assert got.sum(0).max() <= 1 + 1e-6
    assert (got.sum(0) < 0.9).any()


def test_a_mask_that_is_resized_has_no_halo():
    """From black to white there is nothing beyond either: a filter that rings would leave some."""
    edge = np.zeros((30, 30), np.uint8)
    edge[:, 15:] = 255
    for width in (300, 7):
        row = shares([edge], (width, 40))[0, 20]
        assert (np.diff(row) >= 0).all()
        assert row[0] == 0
        assert row[-1] == 1


@pytest.mark.parametrize(("count", "masks"), [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_every_style_where_its_mask_is_white(any_model, count, masks):
    pixels, given = photo(), [mask(seed=seed, most=200) for seed in range(masks)]
    regions = Regions(Stylizer(any_model), [style(number) for number in range(count)], given)
    got = regions.restyle(images.Picture(pixels), **regions.inputs(strength=0.5)).pixels
    each = np.stack(given).astype(float) / 255
    each /= np.maximum(1, each.sum(0))
    rest = 1 - each.sum(0)
    painted = [0.5 * np.array(COLOURS[number]) + 0.5 * pixels for number in range(count)]
    layers = [*zip(each, painted, strict=False), (rest, painted[-1] if count > masks else pixels)]
    wanted = sum(share[..., None] * layer for share, layer in layers)
    assert np.abs(got - wanted).max() <= 1.01  # the layers are whole numbers, too


def test_transparency_and_smaller_results(any_model):
    alpha = mask(seed=5)
    made = Regions(Stylizer(any_model, max_side=28), [style(0), style(1)], [mask()])
    got = made.restyle(images.Picture(photo(), alpha), **made.inputs())
    assert got.size == (28, 20)
    assert np.array_equal(got.alpha, images.resize(alpha, (28, 20)))
    assert made.plan((56, 40)).note is None
    assert made.plan((112, 40)).note == "masks of 56x40 are resized to 28x10"


def test_no_style_anywhere_is_the_photo_made_smaller(any_model):
    alpha, black = mask(seed=5), np.zeros((40, 56), np.uint8)
    made = Regions(Stylizer(any_model, max_side=28), [style(0)], [black])
    got = made.restyle(images.Picture(photo(), alpha), **made.inputs())
    assert np.array_equal(got.pixels, images.resize(photo(), (28, 20)))
    assert np.array_equal(got.alpha, images.resize(alpha, (28, 20)))


def test_all_styles_are_painted_at_one_size_while_memory_shrinks(any_model, monkeypatch):
    stylizer = Stylizer(any_model)
    needed, least = (memory.needed_bytes(count, stylizer.recipe.net, frugal=True) for count in (40 * 56, 0))
    regions = Regions(stylizer, [style(0), style(1)], [mask()])
    free = iter(np.linspace((needed + least) / 2, least, 1000, endpoint=False) / 0.85)
    monkeypatch.setattr(memory, "available_bytes", lambda: next(free))
    plan = regions.plan((56, 40))
    assert plan.size[0] < 56
    assert regions.restyle(images.Picture(photo()), plan, **regions.inputs()).size == plan.size


def test_masks_are_grey_and_black_where_transparent(tmp_path):
    grey, alpha = mask(seed=1), mask(seed=2)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert np.array_equal(read_mask(tmp_path / "grey.png"), grey)
    Image.fromarray(np.dstack([grey, grey, grey, alpha])).save(tmp_path / "clear.png")
    wanted = grey.astype(float) * alpha / 255
    assert np.abs(read_mask(tmp_path / "clear.png") - wanted).max() <= 1


@pytest.mark.parametrize(("count", "masks"), [(1, 0), (1, 2), (3, 1)])
def test_as_many_masks_as_styles_or_one_fewer(any_model, count, masks):
    with pytest.raises(UsageError, match=f"{masks} masks go with {masks} style pictures, or with one more .* not with"):
        Regions(Stylizer(any_model), [style(0)] * count, [mask()] * masks)


@pytest.fixture
def files(tmp_path):
    images.write(tmp_path / "photo.png", photo())
    for number, name in enumerate(("a=b.png", "c,d.png")):
        images.write(tmp_path / name, style(number))
    left = np.zeros((20, 28), np.uint8)
    left[:, :14] = 255
    Image.fromarray(left).save(tmp_path / "left.png")
    return tmp_path


def stylize(files, any_model, *words):
    pictures = [str(files / word) if str(word).endswith(".png") else str(word) for word in words]
    return main(["stylize", str(files / "photo.png"), "-s", str(any_model), "-o", str(files / "out"), *pictures])


def test_the_command_mixes_and_masks(files, any_model, capsys):
    pixels, (one, other) = photo(), np.array(COLOURS[:2], float)
    for words, wanted in (
        (["--style-image", "a=b.png"], one),
        (["--style-image", "a=b.png", "c,d.png"], (one + other) / 2),
        (
            ["--style-image", "a=b.png", "--style-image", "c,d.png", "--style-weights", "0.7,0.3"],
            0.7 * one + 0.3 * other,
        ),
        (["--style-image", "a=b.png", "--strength", "0.5"], 0.5 * one + 0.5 * pixels),
    ):
        assert stylize(files, any_model, *words, "--overwrite") == 0
        assert np.abs(images.read(files / "out" / "photo.png").pixels - wanted).max() <= 0.51
    assert capsys.readouterr().err == ""
    words = ["--style-image", "a=b.png", "c,d.png", "--mask", "left.png", "--overwrite", "--json"]
    assert stylize(files, any_model, *words) == 0
    told = capsys.readouterr()
    assert told.err == f"fst: {files / 'photo.png'}: masks of 28x20 are resized to 56x40\n"
    assert json.loads(told.out)["inputs"] == {"strength": 1.0}
    assert json.loads(told.out)["style_images"] == [str(files / "a=b.png"), str(files / "c,d.png")]
    got = images.read(files / "out" / "photo.png").pixels
    assert np.abs(got[:, :26] - one).max() <= 1
    assert np.abs(got[:, 30:] - other).max() <= 1


def test_the_command_keeps_colours(files, any_model):
    assert stylize(files, any_model, "--style-image", "a=b.png", "--keep-colors") == 0
    got, pixels = images.read(files / "out" / "photo.png").pixels.astype(float), photo().astype(float)
    moved, inside = got - pixels, (got > 0).all(2) & (got < 255).all(2)
    assert np.ptp(moved[inside], axis=1).max() == 0  # one number for R, G and B
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(got[inside] @ luma - COLOURS[0] @ luma).max() < 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "any takes its style from a picture: --style-image PICTURE"),
        (["--mask", "left.png"], "--mask goes with --style-image PICTURE"),
        (["--style-size", "256"], "--style-size goes with --style-image"),
        (["--style-size", "9", "--style-image", "a=b.png"], "goes from 32 to 4096"),
        (["--style-image", "none.png"], "none.png: no such picture"),
        (["--style-image", "a=b.png", "--style-weights", "0.5,0.5"], "has 2 numbers and --style-image 1 pictures"),
        (["--style-image", "a=b.png", "c,d.png", "--style-weights", "1,1"], "sum to 2, not to 1"),
        (["--style-image", "a=b.png", "c,d.png", "--style-weights", "1;0"], "a number for each style picture"),
        (["--style-image", "a=b.png", "--style-weights", "1", "--mask", "left.png"], "choose one"),
        (["--style-image", "a=b.png", "--mask", "left.png", "left.png"], "2 masks go with 2 style pictures, or with"),
        (["--style-image", "a=b.png", "--strength", "2"], "goes from 0 to 1, not 2"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(files, any_model, capsys, words, said):
    assert stylize(files, any_model, *words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (files / "out").exists()


def test_a_model_of_one_style_takes_none_from_a_picture(files, inverting_model, capsys):
    assert stylize(files, inverting_model, "--style-image", "a=b.png") == 2
    assert "invert takes no style from a picture: leave --style-image out" in capsys.readouterr().err
