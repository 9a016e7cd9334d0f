"""fst.training.styles: where a style's picture is looked for, and at which sizes it is opened."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fst.download import DownloadError
from fst.errors import FstError, UsageError
from fst.paths import cache_folder, carried
from fst.training.styles import Style, named_style, style_name


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")


def save(path: Path, *, size: tuple[int, int] = (64, 48), value: int = 0) -> Path:
    """A picture whose left half is of grey level `value` and whose right half is white."""
    picture = Image.new("RGB", size, (value,) * 3)
    picture.paste((255, 255, 255), (size[0] // 2, 0, *size))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def test_where_a_picture_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path first, then what fst carries, then FST_STYLES: by the file's name, then by the style's with any suffix."""
    styles = tmp_path / "my styles"
    by_style = save(styles / "dots.png")
    monkeypatch.setenv("FST_STYLES", str(styles))
    style = Style(image="pointillism_2.jpg", name="dots")
    assert style.find() == by_style
    by_file = save(styles / "pointillism_2.jpg")
    assert style.find() == by_file
    here = save(Path.cwd() / "pointillism_2.jpg")
    assert style.find().resolve() == here.resolve()
    own = carried("conf") / "style" / "pictures" / "woodcut.jpg"
    assert Style(image="pictures/woodcut.jpg").find() == own
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Style(image="~/my styles/dots.png").find() == by_style


def refusal(**settings: Any) -> str:
    with pytest.raises(UsageError) as caught:
        Style(**settings).pictures()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pictures_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(image="wave.jpg") == (
        "the picture wave.jpg is not here: put it into a folder and set FST_STYLES to it, or give its path as"
        " style.image=FILE"
    )
    monkeypatch.setenv("FST_STYLES", str(tmp_path))
    assert f"put it into {tmp_path} (FST_STYLES), or give its path" in refusal(image="wave.jpg", name="wave")
    assert refusal(image="art/wave.jpg") == "style.image=art/wave.jpg: no such file"
    assert "a folder; name a picture file in it" in refusal(image=str(tmp_path))
    assert "choose style=NAME" in refusal()
    assert "choose style=NAME" in refusal(image="")
    (tmp_path / "text.jpg").write_text("text")
    with pytest.raises(FstError, match=r"text\.jpg: is no picture"):
        Style(image=str(tmp_path / "text.jpg")).pictures()


def test_the_hash_of_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    digits = hashlib.sha256(path.read_bytes()).hexdigest()
    style = Style(image=str(path), sha256=digits)
    assert style.find() == path
    said = refusal(image=str(path), sha256="0" * 64, name="wave")
    assert f"{path} is not the picture of style 'wave': its SHA-256 does not begin with 000" in said
    assert "style.sha256=null" in said
    assert "'xyz' is no sha256" in refusal(image=str(path), sha256="xyz")


def test_the_recipe_outlives_the_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    digits = hashlib.sha256(path.read_bytes()).hexdigest()
    style = Style(image=str(path), title="A", year=1889, size_px=(32, 64), crop=[0, 0, 1, 1])
    style.pictures()
    path.unlink()
    assert style.recipe() == {
        "name": "a", "title": "A", "artist": None, "year": 1889, "license": None, "size_px": [32, 64],
        "crop": [0, 0, 1, 1], "sha256": digits,
    }  # fmt: skip


def test_one_picture_for_each_size(tmp_path: Path) -> None:
    small, large = Style(image=str(save(tmp_path / "a.png", size=(200, 100))), size_px=[64, 400]).pictures()
    assert (small.shape, large.shape) == ((1, 3, 32, 64), (1, 3, 200, 400))
    for picture in (small, large):
        assert picture.dtype == torch.float32
        half = picture.shape[-1] // 2
        assert picture[..., : half - 8].max() < 0.02
        assert picture[..., half + 8 :].min() > 0.98
    assert Style(image=str(tmp_path / "a.png"), size_px=64).pictures()[0].shape == (1, 3, 32, 64)


def test_the_crop_is_taken_first(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", size=(200, 100))
    (left,) = Style(image=str(path), size_px=64, crop=[0, 0, 0.5, 0.5]).pictures()
    assert left.shape == (1, 3, 32, 64)
    assert left.max() == 0
    (right,) = Style(image=str(path), size_px=64, crop=(0.5, 0, 1, 1)).pictures()
    assert right.shape == (1, 3, 64, 64)
    assert right.min() == 1
    assert "of [0, 0, 0.05, 1] is 10x100 px: too small to learn a style from" in refusal(
        image=str(path), crop=[0, 0, 0.05, 1]
    )


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 40), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    (picture,) = Style(image=str(tmp_path / "clear.png"), size_px=40).pictures()
    assert picture.min() == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"size_px": 16}, "style.size_px must be at least 32 pixels"),
        ({"size_px": []}, "style.size_px"),
        ({"size_px": [256, 8]}, "not [256, 8]"),
        ({"size_px": "large"}, "style.size_px"),
        ({"size_px": 256.5}, "style.size_px"),
        ({"crop": [0, 0, 1]}, "style.crop is [left, top, right, bottom]"),
        ({"crop": [0.5, 0, 0.5, 1]}, "style.crop"),
        ({"crop": [0, 0, 2, 1]}, "style.crop"),
        ({"crop": ["a", "b", "c", "d"]}, "style.crop"),
        ({"crop": 0.5}, "style.crop"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], says: str) -> None:
    assert says in refusal(image="a.jpg", **settings)


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("Starry Night", None, "Starry_Night"),
        (None, "/art/my wave.v2.jpg", "my_wave.v2"),
        (None, "https://example.org/art/wave.png?size=large/x.gif", "wave"),
        ("../../etc/passwd", None, "etc_passwd"),
        ("...", None, "style"),
        (None, None, "style"),
        ("凱風快晴", None, "凱風快晴"),
        (1889, None, "1889"),
        ("a\nb\0c", None, "a_b_c"),
        ("x" * 300, None, "x" * 100),
    ],
)
def test_names_are_safe_as_file_names(name: Any, image: str | None, expected: str) -> None:
    assert style_name(name, image) == expected
    assert Path(expected).name == expected


def test_a_style_called_by_a_number(tmp_path: Path) -> None:
    """The command line reads style.image=1889 as a number."""
    save(Path.cwd() / "1889.png").rename(Path.cwd() / "1889")
    assert Style(image=1889).find() == Path("1889")  # type: ignore[arg-type]


def test_a_picture_from_the_web(web: Any) -> None:
    content = save(web.folder / "a b.png").read_bytes()
    style = Style(image=f"{web.url}/a b.png", sha256=hashlib.sha256(content).hexdigest(), size_px=64)
    assert style.pictures()[0].shape == (1, 3, 48, 64)
    assert style.find().read_bytes() == content
    assert style.find().parent == cache_folder() / "styles"
    assert style.label == "a_b"
    assert len(web.asked) == 1


def test_a_file_in_the_cache_that_is_another_is_fetched_again(web: Any) -> None:
    path, url = save(web.folder / "a.png"), f"{web.url}/a.png"
    Style(image=url).find()
    Style(image=url).find()
    assert len(web.asked) == 1
    save(path, value=9)
    digits = hashlib.sha256(path.read_bytes()).hexdigest()
    assert Style(image=url, sha256=digits).find().read_bytes() == path.read_bytes()


def test_what_the_web_gives_instead_of_a_picture(web: Any) -> None:
    (web.folder / "page.jpg").write_text("<html>sign in first</html>")
    assert refusal(image=f"{web.url}/page.jpg") == f"{web.url}/page.jpg is not a picture that can be read"
    assert list((cache_folder() / "styles").iterdir()) == []
    with pytest.raises(DownloadError, match="answered 404"):
        Style(image=f"{web.url}/none.jpg").find()
    save(web.folder / "a.png")
    with pytest.raises(DownloadError, match="did not give the file wanted"):
        Style(image=f"{web.url}/a.png", sha256="0" * 64).find()


@pytest.mark.parametrize(
    "address",
    [
        "file:///etc/passwd.png",
        "ftp://example.org/a.jpg",
        "http://example.org/a.jpg",
        "http://localhost.example.org/a.jpg",
        "http://127.0.0.1@example.org/a.jpg",
        "http://[bad/a.jpg",
    ],
)
def test_addresses_that_are_refused(address: str) -> None:
    assert refusal(image=address) == f"style.image={address}: give an https address or a file"


def test_pixels_are_those_of_the_file(tmp_path: Path) -> None:
    """At its own size nothing is resampled."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    (tmp_path / "noise.png").write_bytes(file.getvalue())
    (picture,) = Style(image=str(tmp_path / "noise.png"), size_px=50).pictures()
    np.testing.assert_allclose(picture[0].permute(1, 2, 0).numpy(), pixels / 255, atol=1e-6)


def test_a_stroke_multiplies_the_sizes(tmp_path: Path) -> None:
    style = Style(image=str(save(tmp_path / "a.png", size=(400, 300))), size_px=[64, 128])
    assert [p.shape[2:] for p in style.pictures(stroke=0.5)] == [(24, 32), (48, 64)]
    assert [p.shape[2:] for p in style.pictures(stroke=2)] == [(96, 128), (192, 256)]


def test_a_style_by_name_picture_or_keys(tmp_path: Path) -> None:
    path = save(tmp_path / "mine.png")
    wave = named_style("wave", size_px=300)
    assert (wave.label, wave.artist, wave.sizes) == ("wave", "Katsushika Hokusai", (300,))
    mine = named_style(str(path), size_px=300)
    assert (mine.label, mine.find()) == ("mine", path)
    assert named_style("https://example.org/a.jpg", size_px=300).label == "a"
    larger = named_style({"style": "wave", "size_px": 768, "name": "big_wave"}, size_px=300)
    assert (larger.label, larger.sizes, larger.year) == ("big_wave", (768,), 1831)
    assert named_style({"image": str(path), "license": "CC0"}, size_px=300).license == "CC0"


@pytest.mark.parametrize(
    ("which", "said"),
    [
        ("wav", "no style is called 'wav': did you mean wave?"),
        ({"style": "wav"}, "no style is called 'wav'"),
        ({"style": "wave", "sise_px": 3}, "styles: .*unexpected keyword argument 'sise_px'"),
        ({"name": "x"}, "no style picture"),
        ({"style": "wave", "size_px": 3}, "at least 32 pixels"),
    ],
)
def test_styles_that_cannot_be(which: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        named_style(which, size_px=300)
