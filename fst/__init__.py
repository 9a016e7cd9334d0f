"""Fast style transfer: learn a picture's style once, repaint any photo in milliseconds."""

from typing import TYPE_CHECKING, Any

from fst.version import __version__

if TYPE_CHECKING:
    from fst.inference.stylizer import Stylizer

__all__ = ["Stylizer", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Stylizer":  # on first use, so that `import fst` stays instant
        from fst.inference.stylizer import Stylizer

        return Stylizer
    raise AttributeError(f"module 'fst' has no attribute {name!r}")
