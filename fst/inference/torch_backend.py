"""Repaint pictures with torch: for an NVIDIA GPU, or for a network that is no .onnx file yet.

It takes a network, whoever made it (`fst.export.model.read` does), for inference knows no networks.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fst import bundle
from fst.errors import FstError, UsageError
from fst.inference.stylizer import Arrays, Floats, Stylizer

if TYPE_CHECKING:
    import torch

_MOST_GRAPHS = 4  # each keeps the memory of its size


class TorchStylizer(Stylizer):
    """A network of torch, ready to repaint pictures; it is called as a Stylizer is.

    On the processor it runs as it is, in float32. On CUDA it runs under bfloat16 autocast (float16 before Ampere), in
    channels_last, from a CUDA graph for each of the last few sizes.

    Args:
        net: (B, 3, H, W) float32 RGB in [0, 1], and the recipe's further inputs by keyword -> the same. It is moved to
            the device, and to channels_last.
        recipe: of the network.
        path: the file that it came from.
        style: the one that is usual, of a network of several; None takes the first.
        device: "cpu" or "cuda"; None takes CUDA where there is one.
        keep_colors, max_side, threads, memory_bytes, style_size: see Stylizer.

    Raises:
        UsageError: a wrong argument, or a device that is not there.
    """

    def __init__(
        self,
        net: "torch.nn.Module",
        recipe: bundle.Recipe,
        *,
        path: str | Path = "",
        style: str | None = None,
        device: str | None = None,
        keep_colors: bool = False,
        max_side: int | None = None,
        threads: int | None = None,
        memory_bytes: float | None = None,
        style_size: int = 512,
    ) -> None:
        import torch

        self._configure(keep_colors, max_side, threads, memory_bytes, style_size)
        self.provider = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if self.provider not in ("cpu", "cuda"):
            raise UsageError(f"torch has no provider {self.provider!r} here; it has cpu and cuda")
        if self.provider == "cuda" and not torch.cuda.is_available():
            raise UsageError("torch finds no CUDA device here; use cpu")
        self.path = Path(path)
        self._describe(recipe, style)
        torch.set_num_threads(self.threads)
        self._net = net.to(self.provider)
        for weight in self._net.parameters():
            weight.requires_grad_(False)
            if self.provider == "cuda" and weight.ndim == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
        self._graphs: OrderedDict[tuple[int, ...], Callable[..., torch.Tensor]] = OrderedDict()

    def _paint(self, given: Arrays, *, frugal: bool) -> np.ndarray[Any, Any]:
        import torch

        with torch.inference_mode():
            try:
                tensors = {name: torch.from_numpy(np.ascontiguousarray(each)) for name, each in given.items()}
                paint = self._net if self.provider == "cpu" else self._on_cuda
                stylized = paint(tensors.pop("image"), **tensors)
            except RuntimeError as error:  # out of memory among them
                reason, (height, width) = str(error).splitlines()[0], given["image"].shape[-2:]
                raise FstError(
                    f"torch could not paint {width}x{height} pixels ({reason}); try a smaller size"
                ) from error
            painted: np.ndarray[Any, Any] = stylized.float().cpu().numpy()
            return painted

    def _encode(self, image: Floats) -> Floats:
        import torch

        with torch.inference_mode():
            code: Floats = self._net.encode(torch.from_numpy(image).to(self.provider)).cpu().numpy()  # type: ignore[operator]
            return code

    def _on_cuda(self, image: "torch.Tensor", **further: "torch.Tensor") -> "torch.Tensor":
        size = tuple(image.shape)
        if size not in self._graphs:
            while len(self._graphs) >= _MOST_GRAPHS:
                self._graphs.popitem(last=False)
            self._graphs[size] = self._capture(size, {name: each.cuda() for name, each in further.items()})
        self._graphs.move_to_end(size)
        return self._graphs[size](image, **further)

    def _capture(self, size: tuple[int, ...], further: "dict[str, torch.Tensor]") -> "Callable[..., torch.Tensor]":
        """The network for pictures of one size (B, 3, H, W), launched as a whole."""
        import torch

        dtype = torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
        given = torch.empty(size, device="cuda").contiguous(memory_format=torch.channels_last)

        def paint() -> torch.Tensor:
            # The cache of cast weights would lie in memory that the graph does not own.
            with torch.autocast("cuda", dtype, cache_enabled=False):
                painted: torch.Tensor = self._net(given, **further)
                return painted

        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # cuDNN chooses its algorithms before the capture
            for _ in range(3):
                paint()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            painted = paint()

        def replay(image: torch.Tensor, **now: torch.Tensor) -> torch.Tensor:
            given.copy_(image)
            for name, value in now.items():
                further[name].copy_(value)
            graph.replay()
            return painted

        return replay
