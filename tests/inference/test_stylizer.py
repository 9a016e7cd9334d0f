"""The Stylizer against onnx graphs whose result is known, and against onnxruntime called by hand."""

import dataclasses
import os
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import fst
from fst import bundle, images
from fst.errors import FstError, UsageError
from fst.inference import memory, stylizer
from fst.inference.stylizer import Stylizer

PALETTE = ((0.9, 0.1, 0.2), (0.1, 0.6, 0.4))  # of painting_model


def photo(height=40, width=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(17, 31), (70, 101), (16, 16), (5, 3), (1, 1), (64, 48)])
def test_size_is_kept_and_values_are_the_graphs(inverting_model, height, width):
    pixels = photo(height, width)
    restyled = Stylizer(inverting_model).repaint(pixels)
    assert restyled.dtype == np.uint8
    assert np.array_equal(restyled, 255 - pixels)


def test_agrees_with_onnxruntime_called_by_hand(johnson_model):
    pixels = photo(37, 50)
    session = onnxruntime.InferenceSession(str(johnson_model), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"image": pixels.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)})
    got = Stylizer(johnson_model)(pixels)
    assert np.abs(got.astype(float) - wanted[0].transpose(1, 2, 0) * 255).max() <= 0.5 + 1e-3


def test_same_type_out_as_in(inverting_model):
    stylizer, pixels = Stylizer(inverting_model), photo()
    for dtype in (np.float32, np.float64, np.float16):
        floats = (pixels / 255).astype(dtype)
        out = stylizer(floats)
        assert out.dtype == dtype
        assert np.abs(out.astype(float) - (1 - floats.astype(float))).max() < 2e-3
    picture = stylizer(Image.fromarray(pixels))
    assert isinstance(picture, Image.Image)
    assert np.array_equal(np.asarray(picture), 255 - pixels)


def test_transparency_goes_along(inverting_model):
    pixels, alpha = photo(), photo(seed=1)[..., 0]
    out = Stylizer(inverting_model)(Image.fromarray(np.dstack([pixels, alpha])))
    assert out.mode == "RGBA"
    assert np.array_equal(np.asarray(out)[..., 3], alpha)


def test_keep_colors_keeps_chroma(inverting_model):
    pixels = np.full((32, 32, 3), (200, 100, 60), np.uint8)
    out = Stylizer(inverting_model, keep_colors=True)(pixels)[0, 0].astype(int)
    assert out[0] - out[2] == 200 - 60
    assert out[1] - out[2] == 100 - 60
    assert abs(int(out @ [299, 587, 114] / 1000) - (255 - 125)) <= 2


def painted(pixels, *, strength=1.0, stroke=1.0, styles=(1.0, 0.0)):
    """What `painting_model` makes of (H, W, 3) uint8, in float64."""
    colour = np.asarray(styles) @ np.array(PALETTE)
    return 255 * (strength * stroke / 2 * colour) + (1 - strength) * pixels


@pytest.mark.parametrize(
    ("wishes", "meant"),
    [
        ({}, {}),
        ({"strength": 0.0}, {"strength": 0.0}),
        ({"strength": 0.25, "stroke": 1.5}, {"strength": 0.25, "stroke": 1.5}),
        ({"styles": "green"}, {"styles": (0, 1)}),
        ({"styles": {"green": 0.3, "red": 0.7}, "strength": 0.5}, {"styles": (0.7, 0.3), "strength": 0.5}),
        ({"styles": [0.1, 0.9], "stroke": None}, {"styles": (0.1, 0.9)}),
    ],
)
def test_wishes_reach_the_graph(painting_model, wishes, meant):
    pixels = photo(5, 30)  # padded on the way
    wanted = painted(pixels, **meant)
    made = Stylizer(painting_model)
    assert np.abs(made.repaint(pixels, **wishes) - wanted).max() <= 0.501
    assert np.abs(made(pixels / 255.0, **wishes) * 255 - wanted).max() < 1e-3
    assert np.abs(np.asarray(made(Image.fromarray(pixels), **wishes)) - wanted).max() <= 0.501


def test_wishes_hold_for_every_picture_of_a_batch(painting_model):
    pixels = np.stack([photo(seed=seed) for seed in range(3)])
    batch = (pixels / 255).astype(np.float32).transpose(0, 3, 1, 2)
    got = Stylizer(painting_model)._run(batch, frugal=False, strength=0.25, styles="green")
    wanted = painted(pixels, strength=0.25, styles=(0, 1)).transpose(0, 3, 1, 2) / 255
    assert np.abs(got - wanted).max() < 1e-5


def test_a_style_of_several_by_its_name(painting_model):
    green = Stylizer(f"{painting_model}:green")
    assert green.inputs()["styles"] == [0, 1]
    assert green.inputs(styles="red")["styles"] == [1, 0]
    with pytest.raises(UsageError, match="painting has no style 'gren': did you mean green or red"):
        Stylizer(f"{painting_model}:gren")


def test_what_a_model_cannot_do_is_said(painting_model, inverting_model):
    for wishes in ({"strength": 1.0}, {"stroke": 1.0}, {"styles": "red"}):
        with pytest.raises(UsageError, match=r"invert (was not trained with|has one style)"):
            Stylizer(inverting_model)(photo(), **wishes)
    with pytest.raises(UsageError, match="has one style"):
        Stylizer(f"{inverting_model}:wave")
    with pytest.raises(UsageError, match=r"stroke .* goes from 0.5 to 2, not 3"):
        Stylizer(painting_model)(photo(), stroke=3)


def test_a_recipe_that_does_not_fit_its_graph_is_refused(painting_model, tmp_path):
    recipe = bundle.Recipe(name="x", inputs={"strength": 1.0})
    bundle.write_onnx(tmp_path / "x.onnx", painting_model.read_bytes(), recipe)
    with pytest.raises(bundle.BundleError, match="its graph takes image, strength, stroke, styles, its recipe says"):
        Stylizer(tmp_path / "x.onnx")(photo())


def style_file(folder, name, colour, size=(40, 24)):
    images.write(folder / name, np.full((*size, 3), colour, np.uint8))
    return folder / name


RED, GREEN = (200, 40, 20), (20, 160, 60)


def test_a_style_from_a_picture_in_every_form(any_model, tmp_path):
    pixels, path = photo(), style_file(tmp_path, "red.png", RED)
    wanted = 0.25 * np.array(RED) + 0.75 * pixels
    made = Stylizer(any_model)
    array = images.read(path).pixels
    for style in (path, str(path), array, array / 255, Image.fromarray(array)):
        assert np.abs(made.repaint(pixels, style_image=style, strength=0.25) - wanted).max() <= 0.501
    np.save(tmp_path / "red.npy", made.encode(path))
    np.testing.assert_allclose(made.encode(path), np.array(RED) / 255, atol=1e-3)
    assert np.abs(made.repaint(pixels, style_image=tmp_path / "red.npy", strength=0.25) - wanted).max() <= 0.501


def test_transparency_of_a_style_is_white(any_model):
    half = np.dstack(
        [np.full((20, 20, 3), RED, np.uint8), np.repeat(np.array([0, 255], np.uint8), 200).reshape(20, 20)]
    )
    np.testing.assert_allclose(
        Stylizer(any_model).encode(Image.fromarray(half)) * 255, (np.array(RED) + 255) / 2, atol=1
    )


def test_several_style_pictures_are_mixed_by_their_codes(any_model, tmp_path):
    red, green = style_file(tmp_path, "red.png", RED), style_file(tmp_path, "green.png", GREEN)
    wanted = (0.7 * np.array(RED) + 0.3 * np.array(GREEN)) / 255
    made = Stylizer(any_model)
    for several in ({red: 0.7, green: 0.3}, [(red, 0.7), (images.read(green).pixels, 0.3)]):
        np.testing.assert_allclose(made.inputs(style_image=several)["style_code"], wanted, atol=1e-3)
    with pytest.raises(UsageError, match=r"sum to 1.2, not to 1: red.png=0.58,green.png=0.42 would"):
        made(photo(), style_image={red: 0.7, green: 0.5})


def test_a_style_is_encoded_once_however_it_comes(any_model, tmp_path, monkeypatch):
    made, count = Stylizer(any_model), []
    encode = made._encode
    monkeypatch.setattr(made, "_encode", lambda image: count.append(image.shape) or encode(image))
    red = style_file(tmp_path, "red.png", RED)
    for _ in range(3):
        made(photo(), style_image=red)
        made(photo(), style_image={red: 1.0})
        made(photo(), style_image=images.read(red).pixels)  # another form: its own entry
    assert count == [(1, 3, 512, 307)] * 2
    style_file(tmp_path, "red.png", GREEN)  # the same name, other content
    np.testing.assert_allclose(made.encode(red) * 255, GREEN, atol=0.1)
    assert len(count) == 3


@pytest.mark.parametrize(
    ("style_size", "size", "seen"), [(512, (24, 40), (307, 512)), (64, (300, 100), (64, 21)), (64, (16, 900), (16, 64))]
)
def test_a_style_is_seen_at_style_size(any_model, monkeypatch, style_size, size, seen):
    made, shapes = Stylizer(any_model, style_size=style_size), []
    monkeypatch.setattr(made, "_encode", lambda image: shapes.append(image.shape[2:]) or np.zeros((1, 3), np.float32))
    made.encode(photo(*size))
    assert shapes == [seen]


def test_style_pictures_that_cannot_be(any_model, inverting_model, tmp_path):
    made = Stylizer(any_model)
    (tmp_path / "text.png").write_text("no picture")
    np.save(tmp_path / "long.npy", np.zeros(4, np.float32))
    np.save(tmp_path / "nan.npy", np.full(3, np.nan))
    (tmp_path / "no.npy").write_bytes(b"nothing")
    for style, said in (
        (photo(1, 1), "the style's picture is 1x1 px: too small"),
        (style_file(tmp_path, "thin.png", RED, (300, 15)), "thin.png is 15x300 px: too small"),
        (tmp_path / "none.png", "none.png: no such picture"),
        (tmp_path, "a folder: name pictures in it"),
        (tmp_path / "text.png", "text.png: is no picture"),
        (tmp_path / "long.npy", "no code of this model, which is 3 finite numbers"),
        (tmp_path / "nan.npy", "no code of this model"),
        (tmp_path / "no.npy", "no code that np.save wrote"),
        (3, "is a file, a PIL image or a numpy array, not int"),
        (np.zeros((20, 20), np.uint8), "as an array is"),
    ):
        with pytest.raises(FstError, match=said) as caught:
            made(photo(), style_image=style)
        assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="any takes its style from a picture: --style-image PICTURE"):
        made(photo())
    with pytest.raises(UsageError, match="say the same"):
        made(photo(), style_image=photo(), style_code=np.zeros(3, np.float32))
    with pytest.raises(UsageError, match="invert takes no style from a picture: leave --style-image out"):
        Stylizer(inverting_model)(photo(), style_image=photo())
    with pytest.raises(UsageError, match="at 32 to 4096 pixels, not 8"):
        Stylizer(any_model, style_size=8)
    with pytest.raises(FstError, match=r"to see a style at 512x512 takes .* choose a smaller --style-size"):
        Stylizer(any_model, memory_bytes=1e6).encode(photo(20, 20))


def test_the_encoder_belongs_beside_its_model(any_model, tmp_path):
    model = tmp_path / "any.onnx"
    model.write_bytes(any_model.read_bytes())
    with pytest.raises(FstError, match=r"any\.encoder\.onnx is not there: it reads style pictures, and belongs beside"):
        Stylizer(model)(photo(), style_image=photo())
    encoder = bundle.read(bundle.encoder_of(any_model))
    bundle.write_onnx(bundle.encoder_of(model), encoder.graph, dataclasses.replace(encoder.recipe, steps=9))
    with pytest.raises(bundle.BundleError, match=r"is of another model than .*: take both files of one export"):
        Stylizer(model)(photo(), style_image=photo())
    with pytest.raises(UsageError, match=r"any\.encoder\.onnx reads style pictures for .*any\.onnx, beside which"):
        Stylizer(bundle.encoder_of(any_model))
    (tmp_path / "renamed.onnx").write_bytes(bundle.encoder_of(any_model).read_bytes())
    with pytest.raises(bundle.BundleError, match="its graph makes style_code, and not stylized"):
        Stylizer(tmp_path / "renamed.onnx")(photo())


def test_max_side(inverting_model):
    assert Stylizer(inverting_model, max_side=20)(photo(40, 80)).shape == (10, 20, 3)
    assert Stylizer(inverting_model, max_side=200)(photo(40, 80)).shape == (40, 80, 3)


def test_little_memory_makes_the_picture_smaller_and_says_so(inverting_model):
    size = (4000, 3000)
    needed = [memory.needed_bytes(size[0] * size[1], {}, frugal=frugal) for frugal in (False, True)]
    plenty = Stylizer(inverting_model, memory_bytes=needed[0] * 1.5).plan(size)
    assert plenty == (size, False, None)
    some = Stylizer(inverting_model, memory_bytes=needed[1] * 1.5).plan(size)
    assert some == (size, True, None)
    little = Stylizer(inverting_model, memory_bytes=1.5e9).plan(size)
    assert little.size[0] < 4000
    assert "4000x3000" in little.note
    assert memory.needed_bytes(little.size[0] * little.size[1], {}, frugal=True) <= 1.5e9
    assert little.size[0] / little.size[1] == pytest.approx(4 / 3, rel=1e-2)
    with pytest.raises(FstError, match="too little"):
        Stylizer(inverting_model, memory_bytes=1e6).plan(size)


def test_what_a_picture_takes_grows_with_pixels_and_width():
    assert memory.needed_bytes(2_000_000, {"width": 32}, frugal=False) > memory.needed_bytes(
        1_000_000, {"width": 32}, frugal=False
    )
    assert memory.needed_bytes(1_000_000, {"width": 64}, frugal=True) > memory.needed_bytes(
        1_000_000, {"width": 32}, frugal=True
    )
    assert 0 < memory.available_bytes() < 1e15


def test_known_networks_take_what_was_measured_and_unknown_ones_as_johnson():
    johnson, fast, other = (
        memory.needed_bytes(10**6, {"name": name}, frugal=False) for name in ("johnson", "fast", "other")
    )
    assert other == johnson > 3 * fast


@pytest.mark.slow
@pytest.mark.parametrize("frugal", [False, True])
def test_a_picture_takes_no_more_memory_than_is_said(frugal):
    """In a process of its own: the shipped Johnson network at 0.4 megapixels."""
    if sys.platform != "linux":
        pytest.skip("needs /proc/self/status")
    code = (
        "import re, numpy as np\n"
        "from fst import Stylizer\n"
        "from fst.inference import memory\n"
        "s = Stylizer('starry_night')\n"
        f"needed = [memory.needed_bytes(512 * 768, s.recipe.net, frugal=f) / 0.85 for f in (False, True)][{frugal:d}]\n"
        "s.memory_bytes = needed + 1\n"
        f"assert s.plan((768, 512)).frugal is {frugal}\n"
        "s(np.random.default_rng(0).integers(0, 256, (512, 768, 3), dtype=np.uint8))\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]\n"  # ru_maxrss is the parent's, too
        "print(int(peak) * 1024 / (0.85 * needed))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0.6 < float(done.stdout) <= 1


def test_providers(inverting_model):
    present = onnxruntime.get_available_providers()
    assert Stylizer(inverting_model, provider="cpu")(photo()).shape == (40, 56, 3)
    for name in ("tensorrt", "cuda", "coreml", "directml"):
        if stylizer.PROVIDERS[name] not in present:
            with pytest.raises(UsageError, match=rf"no provider '{name}' here; it has .*cpu"):
                Stylizer(inverting_model, provider=name)
    everything = list(reversed(stylizer.PROVIDERS.values()))
    assert stylizer._best(everything) == "cuda"
    assert stylizer._best(["CPUExecutionProvider", "DmlExecutionProvider"]) == "directml"
    assert stylizer._best(["TensorrtExecutionProvider", "CPUExecutionProvider"]) == "cpu"


def test_cores_are_those_that_this_process_may_use():
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("needs sched_getaffinity")
    allowed = os.sched_getaffinity(0)
    assert 1 <= stylizer._cores() <= len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert stylizer._cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), int)])
def test_other_arrays_are_refused(inverting_model, wrong):
    with pytest.raises(UsageError, match="array"):
        Stylizer(inverting_model)(wrong)


def test_other_things_are_refused(inverting_model):
    with pytest.raises(UsageError, match="not str"):
        Stylizer(inverting_model)("photo.jpg")
    with pytest.raises(UsageError, match="longest side"):
        Stylizer(inverting_model, max_side=0)


def test_a_whole_bundle_that_is_no_network_is_refused(tmp_path):
    bundle.write_onnx(tmp_path / "x.onnx", b"\x08\x08\x3a\x02\x12\x00", bundle.Recipe(name="x"))
    with pytest.raises(bundle.BundleError, match="onnxruntime cannot run it"):
        Stylizer(tmp_path / "x.onnx")(photo())


def test_the_package_gives_the_stylizer_and_shipped_styles_work():
    assert fst.Stylizer is Stylizer
    for name, path in bundle.shipped().items():
        style = {"style_image": photo(64, 48)} if bundle.encoder_of(path).is_file() else {}
        out = fst.Stylizer(name)(images.resize(photo(16, 16), (96, 64)), **style)
        assert out.shape == (64, 96, 3)
        assert out.std() > 10  # a picture, not a blank
