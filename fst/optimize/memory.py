"""How much memory an optimisation takes. No torch, for the help."""

_BASE_BYTES = 700e6  # interpreter, torch and VGG-19
# The largest measured with layers to relu3_4, and some on top: of the picture, with what backward needs and 20 steps of
# L-BFGS, and of a style, which is seen once in float32.
_BYTES_PER_PIXEL = {"bfloat16": 2700, "float32": 4000, "style": 900}


def needed_bytes(pixels: int, style_pixels: int, *, bfloat16: bool) -> float:
    """Memory for a picture of so many pixels and styles of which the largest is seen with so many."""
    of_picture = pixels * _BYTES_PER_PIXEL["bfloat16" if bfloat16 else "float32"]
    return _BASE_BYTES + max(of_picture, style_pixels * _BYTES_PER_PIXEL["style"])
