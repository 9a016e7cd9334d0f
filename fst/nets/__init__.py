"""Picture-to-picture networks, and the one table that finds them by name."""

from collections.abc import Callable
from typing import Any

from torch import nn

from fst.errors import UsageError, nearest
from fst.inputs import Value
from fst.nets.adain import AdaINNet
from fst.nets.conditional import ConditionalNet
from fst.nets.fast import FastNet
from fst.nets.johnson import JohnsonNet

NETS: dict[str, type[nn.Module]] = {net.name: net for net in (JohnsonNet, FastNet, ConditionalNet, AdaINNet)}


def build(recipe: dict[str, Any], *, encoder: Callable[[dict[str, Any]], nn.Module] | None = None) -> nn.Module:
    """Build the network that a model file's `net` recipe describes: {"name": "johnson", "width": 32, ...}.

    A network inside another, as "net" among its settings, is built first, and so is an "encoder", by what is given for
    it. A table and not an import path, so that a model file cannot name code to run.

    Raises:
        UsageError: no such network, or settings that it does not have.
    """
    settings = dict(recipe)
    name = str(settings.pop("name", ""))
    if name not in NETS:
        raise UsageError(f"no network is called {name!r}: {nearest(name, NETS)}")
    try:
        if isinstance(settings.get("net"), dict):
            settings["net"] = build(settings["net"], encoder=encoder)
        if isinstance(settings.get("encoder"), dict) and encoder is not None:
            settings["encoder"] = encoder(settings["encoder"])
        return NETS[name](**settings)
    except (TypeError, ValueError, RuntimeError) as error:  # torch raises the last for sizes that no memory holds
        raise UsageError(f"network {name!r} cannot be built: {error}") from error


def recipe_of(net: nn.Module) -> dict[str, Any]:
    """The recipe from which `build` makes a network of the same make; the weights are not in it."""
    return {"name": net.name, **net.settings}  # type: ignore[dict-item]


def inputs_of(net: nn.Module) -> dict[str, Value]:
    """What a network may be told beside the photo, with neutral values; see fst/inputs.py. {} for one that has none.

    `net(image, **inputs)` takes them as tensors, (B,) or (B, K), and an input that is left out is neutral.
    """
    return dict(getattr(net, "inputs", {}))
