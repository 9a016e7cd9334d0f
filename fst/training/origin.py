"""Where a run begins: with a new network, one that has learnt already, or a checkpoint."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fst import bundle, nets
from fst.errors import UsageError, nearest
from fst.export import model
from fst.nets.conditional import ConditionalNet
from fst.training.styles import Style


class Beginning(NamedTuple):
    """The network to train, recipes of the styles that it knows and that are not trained, and what it begins with."""

    net: nn.Module
    known: list[dict[str, Any]]
    origin: dict[str, Any] | None


def begin(
    make_net: Callable[[], nn.Module],
    styles: Sequence[Style],
    *,
    init: str | None,
    ckpt: str | None,
    add_style: bool,
    adjustable: bool,
    noise: int = 0,
) -> Beginning:
    """The network to train. The weights of `ckpt` are for the trainer to load.

    Args:
        make_net: makes the network that the configuration asks for.
        styles: to be learnt.
        init: a model to start from, or None. Of several styles each goes on with the one of its name, and one that is
            new with their mean; MODEL:STYLE is where all begin.
        ckpt: the checkpoint to go on from, or None.
        add_style: learn one more style for the model `init`, whose others stay as they are.
        adjustable: with the inputs strength and stroke.
        noise: length of the input noise; 0 for none.

    Raises:
        UsageError: `ckpt` or `init` is of another network than asked for, or one that no style can be added to.
    """
    net: nn.Module
    known: list[dict[str, Any]] = []
    origin: dict[str, Any] | None
    if add_style:
        net, known, origin = _with_room_for(styles[0], init, ckpt, adjustable=adjustable)
    else:
        net = make_net()
        origin = None
        if init and ckpt is None:
            net, origin = _started(net, styles, init, adjustable=adjustable, noise=noise)
        elif len(styles) > 1 or adjustable or noise:
            net = ConditionalNet(net=net, styles=len(styles), adjustable=adjustable, noise=noise)
    if ckpt is not None:
        origin = _check_checkpoint(ckpt, net)
    return Beginning(net, known, origin)


def _with_room_for(
    style: Style, init: str | None, ckpt: str | None, *, adjustable: bool
) -> tuple[ConditionalNet, list[dict[str, Any]], dict[str, Any]]:
    """The network of `init`, frozen but for one more style, its styles, and what it is; or that of the checkpoint."""
    net, recipe = model.read(Path(ckpt) if ckpt is not None else bundle.locate(str(init)))
    if not isinstance(net, ConditionalNet):
        raise UsageError(
            f"init={init} takes no further style: it was learnt neither with method=multi nor with adjustable=true"
        )
    if net.noise:
        raise UsageError(f"init={init} takes no further style: it was learnt with method=diverse")
    if adjustable and not net.adjustable:
        raise UsageError(f"init={init} is not adjustable, and no style of it can be: leave adjustable out")
    net.requires_grad_(False)
    if ckpt is not None:
        net.styles[-1].requires_grad_()
        return net, recipe.styles[:-1], recipe.extra["init"]
    if style.label in recipe.style_names:
        raise UsageError(f"init={init} has a style called {style.label!r}: add_style another")
    net.add_style()
    return net, recipe.styles, _origin(recipe)


def _origin(recipe: bundle.Recipe) -> dict[str, Any]:
    return {"name": recipe.name, "steps": recipe.steps, "created": recipe.created}


def _started(
    net: nn.Module, styles: Sequence[Style], init: str, *, adjustable: bool, noise: int
) -> tuple[nn.Module, dict[str, Any]]:
    """`net` as it is asked for, with what `init` has learnt, and what that is."""
    model_name, of_style = bundle.split_style(init)
    tensors, recipe = bundle.read_weights(bundle.locate(model_name))
    if of_style is not None and of_style not in recipe.style_names:
        raise UsageError(f"init={init}: no style of it is called {of_style!r}: {nearest(of_style, recipe.style_names)}")
    tables: dict[str, Tensor] = {}
    same_net = nets.recipe_of(net) == recipe.net.get("net", recipe.net)
    if same_net and "net" not in recipe.net:
        model.load(net, tensors, init)
    elif same_net and not recipe.net.get("noise"):
        source = nets.build(recipe.net)
        assert isinstance(source, ConditionalNet)
        model.load(source, tensors, init)
        names = recipe.style_names or [""]
        tables = {name: table.detach() for name, table in zip(names, source.styles, strict=True)}
        if of_style is not None:
            tables = {of_style: tables[of_style]}
        net.load_state_dict(source.unconditioned(_table(tables, styles[0].label)[0]))
    if len(styles) > 1 or adjustable or noise:
        net = ConditionalNet(net=net, styles=len(styles), adjustable=adjustable, noise=noise)
        for own, style in zip(net.styles, styles, strict=True):
            if tables:
                known = _table(tables, style.label)
                terms = min(len(known), len(own))
                with torch.no_grad():
                    own[:terms] = known[:terms]
    if not same_net or recipe.net.get("noise"):
        _start_from(net, tensors, recipe, init)
    return net, _origin(recipe)


def _table(tables: dict[str, Tensor], name: str) -> Tensor:
    """What a model of several styles knows of one, (terms, numbers); of one that is new to it the mean of them."""
    return tables[name] if name in tables else torch.stack(list(tables.values())).mean(0)


def _start_from(net: nn.Module, tensors: "bundle.Tensors", recipe: bundle.Recipe, source: str) -> None:
    """Copy the weights of a model file into the network, which must be of the same make."""
    own = nets.recipe_of(net)
    if recipe.net | {"transfer": None} != own | {"transfer": None}:  # by whatever transfer, the weights are the same
        inner, own_inner = recipe.net.get("net", recipe.net), own.get("net", own)
        theirs = " ".join(f"net.{key}={value}" for key, value in inner.items() if own_inner.get(key) != value)
        if noise := recipe.net.get("noise", 0):  # what can only go on as it is
            if (adjustable := recipe.net.get("adjustable", False)) != own.get("adjustable", False):
                theirs += f" adjustable={str(adjustable).lower()}"
            theirs += " method=diverse" if noise != own.get("noise", 0) else ""
        theirs = theirs.replace("net.name", "net").strip()
        raise UsageError(f"init={source} is another network than net asks for: set {theirs}")
    model.load(net, tensors, source)


def _check_checkpoint(path: str, net: nn.Module) -> dict[str, Any] | None:
    """What the checkpoint's run began with; UsageError where it is none, or not of a network of the same make."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        shapes = {name: value.shape for name, value in checkpoint["state_dict"].items()}
        recipe = bundle.Recipe.from_json(checkpoint[model.RECIPE_KEY])
    except Exception as error:
        raise UsageError(f"ckpt={path}: damaged, or not a checkpoint of fst train ({type(error).__name__})") from error
    if shapes != {f"net.{name}": value.shape for name, value in net.state_dict().items()}:
        raise UsageError(f"ckpt={path} is of another network than net asks for: go on with the settings it began with")
    return recipe.extra.get("init")
