"""fst.images and fst.files against numbers worked out without them."""

import contextlib
import errno
import io
import itertools
import os
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image, ImageCms

from fst import images
from fst.errors import FstError
from fst.files import whole_file
from fst.images import ImageError, Picture

RNG = np.random.default_rng(7)

# ICC colorants: CIE XYZ of the primaries, adapted to D50 (one column each for red, green, blue).
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
D50 = np.array([0.9642, 1.0, 0.8249])

SRGB_CURVE = struct.pack(
    ">4s4xH2x5i", b"para", 3, *(round(v * 65536) for v in (2.4, 0.947867, 0.052133, 0.077399, 0.04045))
)
LINEAR = struct.pack(">4s4xI", b"curv", 0)


def linear(encoded: np.ndarray) -> np.typing.NDArray[np.float64]:
    """Undo the sRGB curve (IEC 61966-2-1), both in [0, 1]."""
    encoded = np.asarray(encoded, np.float64)
    return np.asarray(np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4))


def srgb_of_xyz(xyz: np.ndarray) -> np.ndarray:
    """D50 XYZ (..., 3) -> 8-bit sRGB, clipped."""
    light: np.typing.NDArray[np.float64] = np.clip(np.asarray(xyz) @ np.linalg.inv(SRGB).T, 0, 1)
    return np.asarray(np.round(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)))


def icc(space: bytes, tags: dict[bytes, bytes], *, connection: bytes = b"XYZ ", device: bytes = b"mntr") -> bytes:
    """Put an ICC version 2 profile together."""
    at, directory, body = 132 + 12 * len(tags), b"", b""
    for tag, data in tags.items():
        data += b"\0" * (-len(data) % 4)
        directory += struct.pack(">4sII", tag, at + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s12x4s", at + len(body), b"test", 0x02400000, device, space, connection, b"acsp")
    head += b"\0" * 28 + struct.pack(">3i", *(round(v * 65536) for v in D50))
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + directory + body


def rgb_profile(colorants: np.ndarray, curve: bytes = SRGB_CURVE) -> bytes:
    xyz = {
        b"%cXYZ" % c: struct.pack(">4s4x3i", b"XYZ ", *(round(v * 65536) for v in column))
        for c, column in zip(b"rgb", colorants.T, strict=True)
    }
    return icc(b"RGB ", {**xyz, **{b"%cTRC" % c: curve for c in b"rgb"}})


def file_of(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    file.seek(0)
    return file


def noise(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x / width, 255 * y / height, 255 * (x + y) / (width + height)], -1).astype(np.uint8)


# Numbers


def test_all_256_values_survive_the_round_trip() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3).copy()
    pixels[..., 1] = 255 - pixels[..., 1]
    array = images.to_float(pixels)
    assert array.dtype == np.float32
    assert array.shape == (1, 3, 16, 16)
    assert array.flags.c_contiguous
    assert_array_equal(array[0], (np.moveaxis(pixels, -1, 0) / 255.0).astype(np.float32))
    assert_array_equal(images.to_uint8(array), pixels)
    assert_array_equal(images.to_uint8(array[0]), pixels)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (16, 5), (33, 7)])
def test_to_uint8_rounds_and_clips(dtype: type, height: int, width: int) -> None:
    array: np.ndarray = RNG.uniform(-0.3, 1.3, (1, 3, height, width)).astype(dtype)
    expected = np.clip(np.rint(array[0].astype(np.float64) * 255), 0, 255).transpose(1, 2, 0)
    got = images.to_uint8(array)
    assert got.dtype == np.uint8
    assert_array_equal(got, expected)


def test_to_uint8_of_what_no_network_should_give() -> None:
    array = np.array([np.nan, np.inf, -np.inf], np.float32).reshape(1, 3, 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images.to_uint8(array).tolist() == [[[0, 255, 0]]]


@pytest.mark.parametrize("wrong", [np.zeros((2, 3, 4, 4), np.float32), np.zeros((4, 4, 3), np.float32)])
def test_to_uint8_refuses_other_shapes(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(1, 3, H, W\)"):
        images.to_uint8(wrong)


def test_uint8_and_float_are_not_mixed_up() -> None:
    with pytest.raises(ValueError, match="uint8"):
        images.to_uint8(np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="float32"):
        images.to_float(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"\(4, 4, 4\)"):
        images.to_float(np.zeros((4, 4, 4), np.uint8))


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((4000, 3000), 1000, (1000, 750)),
        ((3000, 4000), 1000, (750, 1000)),
        ((1000, 500), 1000, (1000, 500)),
        ((10, 20), 1000, (10, 20)),
        ((100_000, 3), 100, (100, 1)),
        ((999, 333), 100, (100, 33)),
        ((3, 2), 2, (2, 1)),
        ((5, 5), 1, (1, 1)),
        ((101, 67), 100, (100, 66)),  # 66.34
        ((101, 68), 100, (100, 67)),  # 67.33
        ((1000, 667), 500, (500, 334)),  # 333.5 goes up
    ],
)
def test_fit_within(size: tuple[int, int], max_side: int, expected: tuple[int, int]) -> None:
    assert images.fit_within(size, max_side) == expected


def test_fit_within_nothing() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        images.fit_within((10, 10), 0)


def test_resize_keeps_ramps_and_flat_colors() -> None:
    flat = np.full((40, 60, 3), (10, 100, 200), np.uint8)
    assert_array_equal(images.resize(flat, (17, 5)), np.full((5, 17, 3), (10, 100, 200)))
    ramp = np.tile(np.arange(0, 256, 2, dtype=np.uint8), (8, 1))  # (8, 128), a mask
    half = images.resize(ramp, (64, 4)).astype(int)
    assert_allclose(half[:, 2:-2], np.tile((ramp[0, ::2] / 2 + ramp[0, 1::2] / 2)[2:-2], (4, 1)), atol=1)
    assert images.resize(flat, (60, 40)) is flat


def test_keep_colors_against_the_jpeg_matrix() -> None:
    stylized, photo = noise(20, 30), (noise(20, 30) // 4 + 96).astype(np.uint8)
    luma = stylized @ np.array([0.299, 0.587, 0.114])
    red, green, blue = np.moveaxis(photo.astype(np.float64), -1, 0)
    cb = -0.168736 * red - 0.331264 * green + 0.5 * blue
    cr = 0.5 * red - 0.418688 * green - 0.081312 * blue
    expected = np.stack([luma + 1.402 * cr, luma - 0.344136 * cb - 0.714136 * cr, luma + 1.772 * cb], -1)
    assert_allclose(images.keep_colors(stylized, photo), np.clip(expected, 0, 255), atol=1.01)
    assert_array_equal(images.keep_colors(photo, photo), photo)


def test_keep_colors_refuses_two_sizes() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        images.keep_colors(noise(4, 4), noise(4, 5))


# Orientation

UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_orientation(kind: str, tag: int, tmp_path: Path) -> None:
    stored = np.dstack((noise(3, 5), RNG.integers(1, 256, (3, 5), dtype=np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = tag
    lossless = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    picture = images.read(file_of(Image.fromarray(stored), kind, exif=exif, **lossless))
    upright = UPRIGHT[tag](stored)
    assert picture.size == ((3, 5) if tag > 4 else (5, 3))
    assert picture.alpha is not None
    assert_array_equal(np.dstack((picture.pixels, picture.alpha)), upright)
    images.write(tmp_path / "out.png", picture)
    with Image.open(tmp_path / "out.png") as again:
        assert again.getexif().get(0x0112, 1) == 1
        assert_array_equal(np.asarray(again), upright)


def test_orientation_of_a_jpeg_and_of_a_pillow_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = smooth(32, 48)
    Image.fromarray(stored).save(tmp_path / "photo.jpg", quality=100, subsampling=0, exif=exif)
    upright = np.rot90(stored, -1).astype(int)
    assert_allclose(images.read(tmp_path / "photo.jpg").pixels, upright, atol=3)
    rgb = images.read_rgb(tmp_path / "photo.jpg")
    assert_allclose(np.asarray(rgb), upright, atol=3)
    assert rgb.getexif().get(0x0112, 1) == 1  # turning it once more would be wrong
    with Image.open(tmp_path / "photo.jpg") as image:
        assert_allclose(images.from_pil(image).pixels, upright, atol=3)
        assert image.size == (48, 32)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff"]
)
def test_broken_exif_is_ignored(exif: bytes) -> None:
    assert images.read(file_of(Image.fromarray(smooth(8, 12)), "JPEG", exif=exif)).size == (12, 8)


@pytest.mark.parametrize("tag", [0, 9, 65535])
def test_unknown_orientation_is_ignored(tag: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    assert images.read(file_of(Image.fromarray(smooth(8, 12)), "JPEG", exif=exif)).size == (12, 8)


# Colour


def test_display_p3_becomes_srgb() -> None:
    p3 = np.array([[[200, 100, 50], [128, 128, 128], [90, 160, 120], [255, 255, 255], [60, 60, 180]]], np.uint8)
    expected = srgb_of_xyz(linear(p3 / 255) @ DISPLAY_P3.T)
    assert np.abs(expected - p3).max() > 10  # the test can see a profile that is not applied
    picture = images.read(file_of(Image.fromarray(p3), "PNG", icc_profile=rgb_profile(DISPLAY_P3)))
    assert_allclose(picture.pixels, expected, atol=1)
    assert picture.icc_profile is not None
    assert ImageCms.getProfileDescription(io.BytesIO(picture.icc_profile)).startswith("sRGB")
    assert picture.icc_profile[24:36] == struct.pack(">6H", 2000, 1, 1, 0, 0, 0)


def test_linear_profile_with_the_primaries_of_srgb() -> None:
    values = np.array([[[10, 60, 200]]], np.uint8)
    picture = images.read(file_of(Image.fromarray(values), "PNG", icc_profile=rgb_profile(SRGB, LINEAR)))
    assert_allclose(picture.pixels, srgb_of_xyz(values / 255 @ SRGB.T), atol=1)


def test_srgb_is_left_alone_and_embedded_again(tmp_path: Path) -> None:
    pixels, profile = noise(4, 4), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = images.read(file_of(Image.fromarray(pixels), "PNG", icc_profile=profile))
    assert_array_equal(picture.pixels, pixels)
    assert picture.icc_profile == profile
    for suffix in (".png", ".jpg", ".webp", ".tif"):
        images.write(tmp_path / f"out{suffix}", picture)
        with Image.open(tmp_path / f"out{suffix}") as again:
            assert again.info["icc_profile"] == profile


def test_srgb_by_hps_table_and_under_another_name() -> None:
    """HP's profile, the commonest, spells the curve as a table of 1024; ours lacks its name and is known by content."""
    table = np.round(65535 * linear(np.arange(1024) / 1023)).astype(">u2")
    assert table[:6].tolist() == [0, 5, 10, 15, 20, 25]  # as HP's begins
    profile = rgb_profile(SRGB, struct.pack(">4s4xI", b"curv", 1024) + table.tobytes())
    pixels = noise(4, 4)
    picture = images.read(file_of(Image.fromarray(pixels), "PNG", icc_profile=profile))
    assert_array_equal(picture.pixels, pixels)
    assert picture.icc_profile == profile


def test_grey_profile() -> None:
    profile = icc(b"GRAY", {b"wtpt": struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061), b"kTRC": LINEAR})
    values = np.array([[0, 13, 55, 128, 255]], np.uint8)
    expected = srgb_of_xyz((values / 255)[..., None] * D50)
    opaque = images.read(file_of(Image.fromarray(values), "PNG", icc_profile=profile))
    assert_allclose(opaque.pixels, expected, atol=1)
    clear = Image.merge("LA", (Image.fromarray(values), Image.new("L", (5, 1), 77)))
    picture = images.read(file_of(clear, "PNG", icc_profile=profile))
    assert_allclose(picture.pixels, expected, atol=1)
    assert picture.alpha is not None
    assert set(picture.alpha.flat) == {77}


@pytest.mark.parametrize(
    "profile", [b"junk", b"\0" * 200, rgb_profile(DISPLAY_P3)[:150], icc(b"CMYK", {}), icc(b"GRAY", {})]
)
def test_broken_or_unfit_profile_is_ignored(profile: bytes) -> None:
    pixels = noise(4, 4)
    picture = images.read(file_of(Image.fromarray(pixels), "PNG", icc_profile=profile))
    assert_array_equal(picture.pixels, pixels)
    assert picture.icc_profile is None


def test_cmyk_jpeg_without_a_profile() -> None:
    inks = np.array([[0, 0, 0, 0], [255, 0, 0, 0], [0, 255, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255], [0, 0, 0, 128]])
    patches = np.repeat(np.repeat(inks[None].astype(np.uint8), 16, 0), 16, 1)  # (16, 96, 4)
    picture = images.read(file_of(Image.fromarray(patches, "CMYK"), "JPEG", quality=100, subsampling=0))
    expected = (255 - inks[:, :3]) * (255 - inks[:, 3:]) / 255
    assert_allclose(picture.pixels[8, 8::16], expected, atol=2)
    assert picture.icc_profile is None


def test_cmyk_jpeg_with_a_profile() -> None:
    """A profile made here: a table of two points an ink, Lab = (paper + the steps of the inks) × (1 - black)."""
    paper, steps = np.array([100, 0, 0]), np.array([[-40, -37, -50], [-40, 74, -3], [-11, -5, 93]])
    corners = np.array(list(itertools.product((0, 1), repeat=4)))
    table = (paper + corners[:, :3] @ steps) * (1 - corners[:, 3:])
    table = np.round([2.55, 1, 1] * table + [0, 128, 128]).astype(np.uint8)
    same = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).flat)
    lut = b"mft1" + bytes([0, 0, 0, 0, 4, 3, 2, 0]) + matrix + same * 4 + table.tobytes() + same * 3
    profile = icc(b"CMYK", {b"A2B0": lut}, connection=b"Lab ", device=b"prtr")
    inks = np.array([[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 102], [102, 0, 0, 0], [0, 102, 0, 0], [0, 0, 51, 0]])
    lab = (paper + inks[:, :3] / 255 @ steps) * (1 - inks[:, 3:] / 255)
    y = (lab[:, 0] + 16) / 116
    f = np.stack([y + lab[:, 1] / 500, y, y - lab[:, 2] / 200], -1)
    expected = srgb_of_xyz(D50 * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)))
    patches = np.repeat(np.repeat(inks[None].astype(np.uint8), 16, 0), 16, 1)
    image = Image.fromarray(patches, "CMYK")
    picture = images.read(file_of(image, "JPEG", quality=100, subsampling=0, icc_profile=profile))
    assert_allclose(picture.pixels[8, 8::16], expected, atol=3)
    assert picture.icc_profile is not None


# Modes


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    values = np.array([[0, 1, 128, 129, 257, 4369, 32768, 65406, 65407, 65535]], np.uint16)
    expected = np.rint(values / 257.0)[..., None].repeat(3, -1)
    image = Image.fromarray(values)
    for kind in ("PNG", "TIFF"):
        assert_array_equal(images.read(file_of(image, kind)).pixels, expected)
    assert_array_equal(images.from_pil(image).pixels, expected)
    assert_array_equal(images.from_pil(Image.fromarray(values.astype(np.int32))).pixels, expected)
    big_endian = Image.frombytes("I;16B", (10, 1), values.astype(">u2").tobytes())
    assert_array_equal(images.from_pil(big_endian).pixels, expected)
    white_is_zero = images.read(file_of(image, "TIFF", tiffinfo={262: 0}))
    assert_array_equal(white_is_zero.pixels, 255 - expected)


def png(width: int, height: int, depth: int, color: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> io.BytesIO:
    """Write a PNG by hand, for kinds that Pillow does not write."""
    head = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    file = b"\x89PNG\r\n\x1a\n"
    for name, data in (head, *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        file += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return io.BytesIO(file)


def test_16_bit_rgb_and_16_bit_transparent_grey() -> None:
    rgb = png(2, 1, 16, 2, b"\0" + struct.pack(">6H", 0, 65535, 0x8000, 0x1234, 0xFEDC, 0x0100))
    assert_allclose(images.read(rgb).pixels, [[[0, 255, 128], [18, 254, 1]]], atol=1)
    keyed = png(3, 1, 16, 0, b"\0" + struct.pack(">3H", 40000, 40001, 5), (b"tRNS", struct.pack(">H", 40000)))
    picture = images.read(keyed)
    assert picture.alpha is not None
    assert picture.alpha.tolist() == [[0, 255, 255]]
    opaque = png(1, 1, 16, 0, b"\0" + struct.pack(">H", 7), (b"tRNS", struct.pack(">H", 40000)))
    assert images.read(opaque).alpha is None


def test_12_bit_tiff() -> None:
    packed = bytes([0x00, 0x0F, 0xFF, 0x80, 0x00, 0x00])  # 0, 4095, 2048, 0
    tags = [
        (256, 4, 4),
        (257, 4, 1),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, 1),
        (279, 4, 6),
    ]
    entries = b"".join(struct.pack("<HHI", tag, kind, 1) + struct.pack("<I", value) for tag, kind, value in tags)
    file = struct.pack("<2sHI", b"II", 42, 14) + packed + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
    assert images.read(io.BytesIO(file)).pixels[0, :, 0].tolist() == [0, 255, 128, 0]


def test_grey_levels_of_unknown_scale_are_refused() -> None:
    for values in (np.array([[-1, 5]], np.int32), np.array([[0, 70000]], np.int32)):
        with pytest.raises(ImageError, match="grey levels"):
            images.from_pil(Image.fromarray(values))
    with pytest.raises(ImageError, match="floating-point"):
        images.read(file_of(Image.fromarray(np.array([[0.5, 2.0]], np.float32)), "TIFF"))


def test_grey_bilevel_and_palette() -> None:
    grey = np.array([[0, 100, 255]], np.uint8)
    assert_array_equal(images.read(file_of(Image.fromarray(grey), "PNG")).pixels, grey[..., None].repeat(3, -1))
    bits = Image.fromarray(np.array([[True, False, True]]))
    assert images.read(file_of(bits, "PNG")).pixels[0, :, 1].tolist() == [255, 0, 255]
    palette = Image.new("P", (3, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0, 10, 20, 30])
    palette.putdata([0, 1, 2])
    picture = images.read(file_of(palette, "PNG"))
    assert picture.pixels.tolist() == [[[255, 0, 0], [0, 255, 0], [10, 20, 30]]]
    assert picture.alpha is None
    for transparency, alpha in ((1, [255, 0, 255]), (b"\x40\xff\x80", [64, 255, 128])):
        picture = images.read(file_of(palette, "PNG", transparency=transparency))
        assert picture.pixels.tolist() == [[[255, 0, 0], [0, 255, 0], [10, 20, 30]]]
        assert picture.alpha is not None
        assert picture.alpha.tolist() == [alpha]


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    for kind in ("GIF", "PNG", "WEBP"):
        lossless = {"lossless": True} if kind == "WEBP" else {}
        file = file_of(frames[0], kind, save_all=True, append_images=frames[1:], **lossless)
        assert images.read(file).pixels[0, 0].tolist() == [255, 0, 0]


def test_an_opaque_alpha_is_none() -> None:
    assert images.from_pil(Image.new("RGBA", (3, 2), (1, 2, 3, 255))).alpha is None


def test_from_pil_leaves_the_image_alone() -> None:
    image = Image.new("RGBA", (3, 2), (10, 20, 30, 40))
    image.info["icc_profile"] = rgb_profile(DISPLAY_P3)
    before = (image.mode, image.tobytes(), dict(image.info))
    picture = images.from_pil(image)
    assert (image.mode, image.tobytes(), dict(image.info)) == before
    picture.pixels[:] = 0  # the caller's to change
    assert image.tobytes() == before[1]


# Writing


@pytest.mark.parametrize("suffix", [".png", ".tif", ".TIFF", ".webp"])
def test_alpha_is_kept(suffix: str, tmp_path: Path) -> None:
    alpha = np.array([[0, 1, 128, 255] * 4] * 16, np.uint8)
    picture = Picture(np.full((16, 16, 3), (200, 100, 50), np.uint8), alpha)
    images.write(tmp_path / f"out{suffix}", picture, quality=100)
    again = images.read(tmp_path / f"out{suffix}")
    assert again.alpha is not None
    assert_array_equal(again.alpha, alpha)
    seen = alpha > 0
    assert_allclose(again.pixels[seen], picture.pixels[seen], atol=0 if suffix != ".webp" else 3)


@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_alpha_is_laid_on_white(suffix: str, tmp_path: Path) -> None:
    alpha = np.repeat(np.array([0, 64, 255], np.uint8), 16)[None].repeat(16, 0)
    color = np.array([200, 100, 50])
    images.write(tmp_path / f"out{suffix}", Picture(np.full((16, 48, 3), color, np.uint8), alpha))
    share = alpha[..., None] / 255
    assert_allclose(images.read(tmp_path / f"out{suffix}").pixels, share * color + (1 - share) * 255, atol=3)
    images.write(tmp_path / "clear.png", Picture(np.full((16, 48, 3), color, np.uint8), alpha))
    assert_allclose(np.asarray(images.read_rgb(tmp_path / "clear.png")), share * color + (1 - share) * 255, atol=1)


@pytest.mark.parametrize("suffix", images.WRITABLE_SUFFIXES)
def test_what_is_written_reads_back(suffix: str, tmp_path: Path) -> None:
    pixels = smooth(40, 56)
    images.write(tmp_path / f"out{suffix}", pixels)
    exact = suffix in (".png", ".tif", ".tiff", ".bmp")
    assert_allclose(images.read(tmp_path / f"out{suffix}").pixels, pixels, atol=0 if exact else 8)
    assert (tmp_path / f"out{suffix}").read_bytes() == images.encode(pixels, f"x{suffix}")
    assert suffix in images.READABLE_SUFFIXES


def test_quality_is_used() -> None:
    pixels = noise(64, 64)
    for name in ("a.jpg", "a.webp"):
        sizes = [len(images.encode(pixels, name, quality=quality)) for quality in (20, 60, 95)]
        assert sizes == sorted(set(sizes))
    with pytest.raises(ValueError, match="1 to 100"):
        images.encode(pixels, "a.jpg", quality=0)


@pytest.mark.parametrize("name", ["out", "out.xyz", "out.gif", ".png", "out.png.txt"])
def test_unknown_suffix_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"\.jpg \.png"):
        images.write(tmp_path / name, noise(4, 4))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["wide.jpg", "wide.webp"])
def test_encoder_that_fails_leaves_the_old_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(ImageError, match=rf"{name}: cannot hold 70000 x 1 pixels"):
        images.write(tmp_path / name, np.zeros((1, 70_000, 3), np.uint8))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"old")]


def test_write_into_a_place_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    for name in ("file/out.png", "folder.png"):
        with pytest.raises(ImageError) as caught:
            images.write(tmp_path / name, noise(4, 4))
        assert str(caught.value).startswith(str(tmp_path / name))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder.png"]


# Whole files


def test_whole_file_makes_folders_and_follows_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "out.bin"
    before = os.umask(0o027)
    try:
        with whole_file(path) as part:
            assert part.parent == path.parent
            assert part.name.startswith(".")
            assert part.suffix == ".bin"
            assert not path.exists()
            part.write_bytes(b"data")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"data"
    assert os.name == "nt" or path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x"), OSError(errno.ECONNRESET, "reset")])
def test_whole_file_that_fails_changes_nothing(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")

    def work() -> None:
        with whole_file(path) as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(type(error)) as caught:
        work()
    assert caught.value is error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_whole_file_on_a_full_disk(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    says = r"out\.bin: cannot be written \(no space left on device\); free some space"
    with pytest.raises(FstError, match=says), whole_file(tmp_path / "out.bin"):
        raise full
    assert list(tmp_path.iterdir()) == []


def test_whole_file_blames_no_other_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"other\.bin"), whole_file(tmp_path / "out.bin"):
        (tmp_path / "other.bin").read_bytes()


def test_whole_file_refuses_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    worked = False
    for path in (tmp_path / "file" / "out.bin", tmp_path):
        with pytest.raises(FstError), whole_file(path):
            worked = True
    assert not worked


def test_whole_file_through_a_link_and_with_a_long_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.bin").symlink_to(tmp_path / "real" / "out.bin")
    with whole_file(tmp_path / "link.bin") as part:
        part.write_bytes(b"data")
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "real" / "out.bin").read_bytes() == b"data"
    long = tmp_path / ("ü" * 120 + ".bin")
    with whole_file(long) as part:
        part.write_bytes(b"data")
    assert long.read_bytes() == b"data"


# Training's reader


@pytest.mark.parametrize(
    ("at_least", "size"),
    [
        (None, (640, 480)),
        (256, (640, 480)),
        (240, (320, 240)),
        (100, (160, 120)),
        (60, (80, 60)),
        (10, (80, 60)),
        (1000, (640, 480)),
    ],
)
def test_draft_keeps_at_least(at_least: int | None, size: tuple[int, int], tmp_path: Path) -> None:
    pixels = smooth(480, 640)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", quality=95)
    rgb = images.read_rgb(tmp_path / "photo.jpg", at_least=at_least)
    assert rgb.mode == "RGB"
    assert rgb.size == size
    factor = 640 // size[0]
    mean = pixels.reshape(size[1], factor, size[0], factor, 3).mean((1, 3))
    assert_allclose(np.asarray(rgb), mean, atol=6)


def test_draft_of_a_turned_photo_and_of_a_png(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.fromarray(smooth(401, 603)).save(tmp_path / "photo.jpg", exif=exif)
    assert images.read_rgb(tmp_path / "photo.jpg", at_least=200).size == (201, 302)
    Image.fromarray(smooth(40, 60)).save(tmp_path / "photo.png")
    assert images.read_rgb(tmp_path / "photo.png", at_least=10).size == (60, 40)


# Refusals


def refusal(source: Path | io.BytesIO, **options: int) -> str:
    with pytest.raises(ImageError) as caught:
        images.read(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{source}: " if isinstance(source, Path) else "the picture: ")
    return message


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    assert refusal(tmp_path / "photo.jpg").endswith("photo.jpg: no such file")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "empty.png").touch()
    assert "is empty" in refusal(tmp_path / "empty.png")
    (tmp_path / "text.jpg").write_text("these are words\n" * 40)
    assert "is no picture; give a JPEG" in refusal(tmp_path / "text.jpg")
    (tmp_path / "phone.HEIC").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert "is HEIC" in refusal(tmp_path / "phone.HEIC")
    assert "is no picture" in refusal(io.BytesIO(b"words"))
    refusal(tmp_path / ("x" * 400))
    refusal(tmp_path / "null\0byte")


def test_the_content_counts_not_the_suffix(tmp_path: Path) -> None:
    pixels = noise(4, 4)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", "PNG")
    assert_array_equal(images.read(tmp_path / "photo.jpg").pixels, pixels)


def test_eps_starts_no_other_program() -> None:
    file = file_of(Image.new("RGB", (4, 4)), "EPS")
    assert "EPS files are not read" in refusal(file)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    images.write(tmp_path / "photo.png", noise(4, 4))
    (tmp_path / "photo.png").chmod(0)
    assert "permission denied" in refusal(tmp_path / "photo.png")


KINDS = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM"]


@pytest.mark.parametrize("kind", KINDS)
def test_cut_and_corrupted_files(kind: str, tmp_path: Path) -> None:
    """Whatever is left of a file, it is a picture or one ImageError, and nothing is said on the way."""
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif, "icc_profile": rgb_profile(DISPLAY_P3)} if kind in KINDS[:4] else {}
    whole = file_of(Image.fromarray(noise(40, 50)), kind, **options).getvalue()
    assert "damaged or cut off" in refusal(io.BytesIO(whole[: len(whole) // 2])) or kind == "WEBP"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(60):
            broken = bytearray(whole[: RNG.integers(len(whole))] if RNG.random() < 0.4 else whole)
            for _ in range(3):
                if broken:
                    broken[RNG.integers(min(len(broken), 300))] = RNG.integers(256)
            with contextlib.suppress(ImageError):
                images.read(io.BytesIO(bytes(broken)), max_pixels=10**6)
    assert said == []


def test_bombs_are_refused_before_decoding(tmp_path: Path) -> None:
    start = time.perf_counter()
    assert "more pixels than can be read" in refusal(png(60_000, 60_000, 8, 2, b""))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        # Pillow would warn at this size; the file holds no pixels, so an attempt to decode it would fail otherwise.
        assert "has 10000 x 9000 pixels, 89,000,000 are allowed" in refusal(
            png(10_000, 9000, 8, 2, b""), max_pixels=89_000_000
        )
    assert said == []
    assert time.perf_counter() - start < 2
    assert "has 5 x 4 pixels, 19 are allowed" in refusal(file_of(Image.new("RGB", (5, 4)), "PNG"), max_pixels=19)
    assert images.read(file_of(Image.new("RGB", (5, 4)), "PNG"), max_pixels=20).size == (5, 4)


# Around


def test_find_pictures(tmp_path: Path) -> None:
    for name in (
        "b.JPG",
        "a.png",
        "sub/c.Webp",
        "sub/deep/d.tiff",
        "note.txt",
        ".hidden.png",
        ".git/e.png",
        "sub.png/f.gif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in images.find_pictures(tmp_path)]
    assert found == ["a.png", "b.JPG", "sub/c.Webp", "sub/deep/d.tiff", "sub.png/f.gif"]
    with pytest.raises(ImageError, match="missing: cannot be listed"):
        images.find_pictures(tmp_path / "missing")


def test_reading_in_threads_gives_the_same_pixels() -> None:
    pixels = noise(50, 60)
    data = file_of(Image.fromarray(pixels), "PNG", icc_profile=rgb_profile(DISPLAY_P3)).getvalue()
    expected = images.read(io.BytesIO(data)).pixels
    got: list[np.ndarray] = []

    def work() -> None:
        got.extend(images.read(io.BytesIO(data)).pixels for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 20
    assert all(np.array_equal(expected, other) for other in got)


def test_an_srgb_photo_costs_no_color_management_and_no_torch(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(smooth(8, 8)).save(tmp_path / "photo.jpg", icc_profile=profile)
    code = (
        "import sys; from fst import images; images.write(sys.argv[2], images.read(sys.argv[1])); "
        "print([m for m in ('PIL.ImageCms', 'torch', 'onnxruntime') if m in sys.modules])"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "photo.jpg"), str(tmp_path / "out.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
