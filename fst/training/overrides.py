"""Hydra's command line as people type it: paths with any letters, runs that go on, errors in one line."""

import difflib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fst.errors import FstError, UsageError, nearest, reason
from fst.paths import carried
from fst.perceptual.vgg import find_local_weights
from fst.training.styles import style_name

PATH_KEYS = (
    *("data.dir", "data.val_dir", "data.path", "style.image", "perceptual.weights", "ckpt", "init", "add_style"),
    *("hydra.run.dir", "hydra.sweep.dir"),
)
_NOT_TEXT = ("true", "false", "null", "inf", "nan")
_GROUPS = (
    "method",
    "style",
    "net",
    "perceptual",
    "loss",
    "data",
    "optimizer",
    "schedule",
    "trainer",
    "logger",
    "budget",
    "experiment",
)
_BASE = "multi"  # of the models that are carried
# What a budget leaves to be chosen, see fst/training/budget.py.
PLANNED = ("data.size", "data.start_size", "trainer.max_steps", "trainer.max_time")


def quote(value: object) -> str:
    """`value` as Hydra reads it back, as text and unchanged: quoted where it is more than a plain word."""
    text = str(value)
    if re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./-]*", text) and text.lower() not in _NOT_TEXT:
        return text
    # Hydra takes a backslash in quotes for itself, except in a row of them that ends at a quote.
    return "'" + re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), text) + "'"


def unquote(text: str) -> str:
    """What `quote` was given."""
    if len(text) < 2 or text[0] not in "\"'" or text[-1] != text[0]:
        return text
    mark = text[0]
    return re.sub(rf"(\\+)({mark}|$)", lambda found: found[1][: len(found[1]) // 2] + found[2], text[1:-1])


def quote_paths(argv: Sequence[str]) -> list[str]:
    """Quote the values of PATH_KEYS, so that spaces, commas, = signs and brackets in them reach us.

    In a sweep a comma separates values, unless a file or folder is called just so; values that are quoted already,
    `null` and interpolations are left alone. Of `styles`, what is there as a file or folder is quoted.
    """
    many = any(word in ("-m", "--multirun") for word in argv)
    quoted = []
    for word in argv:
        key, equals, value = word.partition("=")
        if equals and key.lstrip("+") in PATH_KEYS and not _is_hydras_own(value):
            value = os.path.expanduser(value)
            known = os.path.exists(value)  # a Path raises where a name is too long
            if known or not (many and ("," in value or "(" in value)):
                word = f"{key}={quote(value)}"
        elif key == "styles" and not _is_hydras_own(value):
            word = f"{key}={_quote_places(value)}"
        quoted.append(word)
    return quoted


def _quote_places(value: str) -> str:
    """A file or folder, or [a list] of them and of names: those that are there are quoted."""
    place = os.path.expanduser(value)
    if os.path.exists(place):  # a Path raises where a name is too long
        return quote(place)
    if value[0] != "[" or value[-1] != "]" or set(value) & set("{}'\""):
        return value
    places = (each.strip() for each in value[1:-1].split(","))
    return f"[{','.join(_quote_places(each) if each else each for each in places)}]"


def _is_hydras_own(value: str) -> bool:
    quoted = len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]
    return value in ("", "null", "???") or quoted or "${" in value


def resume(overrides: Sequence[str], *, sweep: bool, say: Callable[[str], None]) -> list[str]:
    """Turn `ckpt=last` or `ckpt=PATH` into the overrides of that run, its folder, and its checkpoint.

    What the run was started with is taken over; what is given again replaces it.

    Raises:
        UsageError: no such checkpoint, several runs at once, or another budget than the run began with.
    """
    given = {_key(word): _value(word) for word in overrides}
    asked = given.get("ckpt")
    if asked in (None, "null"):
        return list(overrides)
    if sweep:
        raise UsageError("ckpt goes on with one run; name it without -m")
    folder = _newest_run(given) if asked == "last" else _run_of(asked)
    without = [word for word in overrides if _key(word) != "ckpt"]
    if folder is None:
        say("no run to go on with: starting anew")
        return without
    checkpoint = Path(asked).expanduser() if asked != "last" else folder / "last.ckpt"
    checkpoint = folder / "last.ckpt" if checkpoint.is_dir() else checkpoint
    saved = folder / ".hydra" / "overrides.yaml"
    known = yaml.safe_load(saved.read_text(encoding="utf-8")) or [] if saved.is_file() else []
    if checkpoint.is_file():
        if another := next((w for w in overrides if _key(w).partition(".")[0] == "budget" and w not in known), None):
            raise UsageError(f"{another}: {folder} goes on as it was planned; leave it out, or set trainer.max_steps")
        if any(_key(word) == "budget" for word in known):
            known = [word for word in known if _key(word) not in PLANNED] + _plan_of(folder)
            if "trainer.max_steps" in given:  # more than was planned: what it takes is no longer limited
                known = [word for word in known if _key(word) != "trainer.max_time"]
    if not saved.is_file():  # a checkpoint that was taken elsewhere
        result = without
    else:
        before = [word for word in known if _key(word) not in given]
        result = [word for word in before if _key(word) not in ("ckpt", "hydra.run.dir")] + without
        if asked == "last" or "hydra.run.dir" not in given:
            result = [word for word in result if _key(word) != "hydra.run.dir"] + [f"hydra.run.dir={quote(folder)}"]
    if not checkpoint.is_file():
        say(f"{folder} ended before its first checkpoint: starting it anew")
        return result
    say(f"going on from {checkpoint}")
    return [*result, f"ckpt={quote(checkpoint)}"]


def _plan_of(folder: Path) -> list[str]:
    """What was planned for a run, as overrides."""
    cfg = OmegaConf.load(folder / "config.yaml")
    values = {key: OmegaConf.select(cfg, key) for key in PLANNED}
    return [f"{key}={quote(v) if isinstance(v, str) else 'null' if v is None else v}" for key, v in values.items()]


def complete(overrides: Sequence[str]) -> list[str]:
    """What a budget leaves open: VGG-19 where its weights are on this machine, else lite; and where to begin.

    A fast network begins with what the carried model of several styles has learnt. What is asked for holds.

    Raises:
        UsageError: the environment names a file of weights that is not there.
    """
    given = {_key(word): _value(word) for word in overrides}
    groups = {key.partition(".")[0] for key in given}
    if given.get("budget", "null") == "null" or "experiment" in groups:
        return list(overrides)
    added = [] if "perceptual" in groups else [f"perceptual={'lite' if find_local_weights() is None else 'vgg19'}"]
    another_net = any(key.startswith("net.") for key in given) or given.get("net", "fast") != "fast"
    if not (another_net or groups & {"init", "ckpt"}):
        added.append(f"init={_BASE}")
    return [*overrides, *added]


def _run_of(asked: str) -> Path:
    path = Path(asked).expanduser()
    if path.is_dir():
        return path
    if path.is_file():
        return path.parent
    raise UsageError(f"ckpt={asked}: no such file or folder")


def _newest_run(given: Mapping[str, str]) -> Path | None:
    """The newest run's folder: given as hydra.run.dir, else under runs/, of the name or style when one is given."""
    if "hydra.run.dir" in given:
        folder = Path(given["hydra.run.dir"])
        return folder if folder.is_dir() else None
    named = given.get("name") or ("multi" if given.get("method") == "multi" else None)
    named = named or given.get("style.name") or given.get("style")
    named = None if named == "custom" and "style.image" in given else named
    style = style_name(named, given.get("style.image")) if named or "style.image" in given else None
    runs = [f.parent for f in Path("runs").glob(f"{style or '*'}/*/config.yaml") if f.parent.parent.name != "sweeps"]
    return max(runs, key=lambda run: (run / "config.yaml").stat().st_mtime_ns, default=None)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _value(override: str) -> str:
    return unquote(override.partition("=")[2])


def layers(value: Any, key: str) -> dict[str, float]:
    """Layers with their weights: [relu1_1, relu2_1:2] -> {"relu1_1": 1.0, "relu2_1": 2.0}; a mapping is fine, too."""
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, list) and all(isinstance(v, str | Mapping) for v in value):
        pairs = [p for v in value for p in (v.items() if isinstance(v, Mapping) else [v.partition(":")[::2]])]
    else:
        raise UsageError(f"{key} is a list like [relu1_1,relu2_1:2], not {value!r}")
    try:
        return {str(name): 1.0 if weight in ("", None) else float(weight) for name, weight in pairs}
    except (TypeError, ValueError):
        raise UsageError(f"{key}: a weight in {value!r} is not a number; write [relu1_1,relu2_1:2]") from None


# What to hold a value against instead of the one that stands in conf/; None takes anything.
_LIKE: dict[str, float | None] = {
    "data.num_workers": 0,
    "data.size": 256,
    "data.start_size": 128,
    "trainer.max_steps": 10000,
    "style.size_px": None,
    "trainer.devices": None,
    "budget.minutes": 5.0,
}
_MAY_BE_NULL = {"data.start_size"}  # though an experiment or a budget sets it
_PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")  # the weights and the perceptual network stay float32
_LEAST = {
    "trainer.max_steps": 1,
    "trainer.log_every_n_steps": 1,
    "trainer.checkpoint_every_n_steps": 1,
    "samples_every_n_steps": 0,
    "data.num_workers": 0,
    "seed": 0,
}


def check(cfg: DictConfig, choices: Mapping[str, str | None]) -> None:
    """Hold every value against the one that stands in conf/: a number must be a number.

    Args:
        choices: the option of each group ("style": "wave"); those of Hydra itself are passed over.

    Raises:
        UsageError: a value of another kind, or below what makes sense; a method that has no budget.
    """
    if choices.get("budget") and choices["method"] == "adain":
        raise UsageError("budget is for methods that learn given styles: leave it out with method=adain")
    usual = _compose([f"{group}={quote(choice)}" for group, choice in choices.items() if group in _GROUPS and choice])
    for key in _keys(usual):
        default = OmegaConf.select(usual, key)
        value = OmegaConf.select(cfg, key, default=default)  # taken out with ~key: fine
        if value == default or (value is None and key in _MAY_BE_NULL):
            continue
        if wanted := _unlike(value, _LIKE.get(key, default)):
            raise UsageError(f"{key}={_plain(value)}: wanted {wanted}, like {_plain(default)}")
        if key in _LEAST and value < _LEAST[key]:
            raise UsageError(f"{key} must be at least {_LEAST[key]}, not {value}")
        if key == "trainer.precision" and value not in _PRECISIONS:
            raise UsageError(f"{key}={value}: {nearest(str(value), _PRECISIONS)}")


def _unlike(value: Any, like: Any) -> str | None:
    """What is wanted instead of `value`, or None where it is of the same kind as `like`."""
    if isinstance(like, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(like, int | float):
        if isinstance(value, bool) or not isinstance(value, int if isinstance(like, int) else int | float):
            return "a whole number" if isinstance(like, int) else "a number"
    elif OmegaConf.is_list(like) and not isinstance(like[0], str):
        if not OmegaConf.is_list(value):
            return "a list"
        if any(_unlike(each, like[0]) for each in value):
            return "a list of numbers"
    return None


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else "null" if value is None else value


def explain(error: Exception, overrides: Sequence[str]) -> FstError:
    """Hydra's error in one line, with the nearest name that exists."""
    text = str(error).strip()
    if isinstance(error, OSError) and not isinstance(error, HydraException):
        return FstError(reason(error))
    if found := re.search(r"Could not (?:find|load) '([\w./-]+)/([^'/]*)'", text):
        group, name = found.groups()
        other = "; or set other times, budget=5min budget.minutes=12" if group == "budget" else ""
        return UsageError(f"no {group} is called {name!r}: {nearest(name, _options(group))}{other}")
    if found := re.search(r"Could not override '([^']+)'", text):
        return UsageError(_no_such_key(found.group(1), overrides))
    if found := re.search(r"Missing mandatory value: (\S+)", text):
        return UsageError(f"{found.group(1)} has no value: set {found.group(1)}=...")
    if "Config group override must be a string" in text:
        word = next((w for w in overrides if _key(w) in _GROUPS and _value(w) in ("null", "")), "=")
        return UsageError(f"{word}: choose one of {', '.join(_options(_key(word))) or 'the groups that --help lists'}")
    if "Ambiguous value for argument" in text:
        argument = re.search(r"argument '(.*)'", text)
        return UsageError(f"{argument[1] if argument else text}: several values need -m; a list is written [a,b]")
    if isinstance(error, OverrideParseException):
        how = "write key=value, with quotes inside quotes for odd letters: \"key='a=b'\""
        return UsageError(f"cannot read {error.override!r}: {how}")
    if found := re.search(r"Key '([^']+)' (?:is not in struct|not in)", text):
        full = re.search(r"full_key: (\S+)", text)
        return UsageError(_no_such_key(full[1] if full else found[1], overrides))
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return UsageError("; ".join(lines[:2]) or type(error).__name__)


def _options(group: str) -> list[str]:
    return [file.stem for file in (carried("conf") / group).glob("*.yaml")]


def _no_such_key(key: str, overrides: Sequence[str]) -> str:
    """Say so, with the key most like it in the configuration that the command's own choices of groups give."""
    try:
        known = _keys(_compose([word for word in overrides if _key(word) in _GROUPS]))
    except (HydraException, OmegaConfBaseException):
        known = list(_GROUPS)
    if key.startswith("budget."):
        return f"{key} goes with budget=5min, 30min or full: add that"
    level = [name for name in known if name.count(".") == key.count(".")] + ([] if "." in key else list(_GROUPS))
    same_name = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    close = same_name or difflib.get_close_matches(key, level, n=1, cutoff=0.55)
    return f"there is no key {key!r}: {f'did you mean {close[0]}?' if close else 'fst train --cfg job shows the keys'}"


def _compose(overrides: list[str]) -> DictConfig:
    if GlobalHydra.instance().is_initialized():
        return compose("train", overrides=overrides)
    with initialize_config_dir(str(carried("conf")), version_base="1.3"):
        return compose("train", overrides=overrides)


def _keys(cfg: DictConfig, prefix: str = "") -> list[str]:
    """The keys that a value can be given to: "data.size"."""
    found = []
    for name in map(str, cfg):
        child = cfg._get_node(name)
        if isinstance(child, DictConfig) and not child._is_none() and not child._is_interpolation():
            found += _keys(child, f"{prefix}{name}.")
        elif not name.startswith("_"):
            found.append(prefix + name)
    return found
