"""How much memory an optimisation takes. No torch, for the help."""

_BASE_BYTES = 450e6  # interpreter, torch and VGG-19 to relu3_4
# Measured, to relu3_4: of the picture, with what backward needs, and of a style, which is seen in float32 once.
_BYTES_PER_PIXEL = {"bfloat16": 2600, "float32": 4200, "style": 1600}


def needed_bytes(pixels: int, style_pixels: int, *, bfloat16: bool) -> float:
    """Memory for a picture of so many pixels and styles of which the largest is seen with so many."""
    of_picture = pixels * _BYTES_PER_PIXEL["bfloat16" if bfloat16 else "float32"]
    return _BASE_BYTES + max(of_picture, style_pixels * _BYTES_PER_PIXEL["style"])
