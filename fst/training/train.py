"""`fst train`: from the command line to a model file. With overrides.py the only file that imports hydra."""

import inspect
import os
import re
import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import pytorch_lightning as pl
import torch
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.experimental.callback import Callback as HydraCallback
from hydra.utils import get_class, instantiate
from lightning_fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fst import nets
from fst.bundle import Recipe
from fst.download import DownloadProgress
from fst.errors import FstError, UsageError, nearest, reason
from fst.export import model
from fst.files import whole_file
from fst.paths import carried
from fst.perceptual.losses import PerceptualLoss
from fst.training import budget, precision, processes, recipes, surroundings, sweep
from fst.training import overrides as cli
from fst.training.budget import Budget
from fst.training.callbacks import (
    Keep,
    Landing,
    NonFiniteLoss,
    Samples,
    SkippedFiles,
    StepLog,
    StopOnSignal,
    TrainProgress,
)
from fst.training.coco import CocoProgress
from fst.training.compiling import compile_modules
from fst.training.data import PhotoData
from fst.training.loggers import MetricsCSV, close
from fst.training.memory import keep_freed_memory
from fst.training.origin import begin
from fst.training.style_pool import StylePool
from fst.training.styles import Style, named_style, style_name
from fst.training.tasks import STROKES, AnyStyleTask, MultiTask, StyleTask

_RUN_FOLDER = "FST_RUN_FOLDER"  # tells the other processes of a run where it lies
_JOIN = ("-c", "from fst.training.train import join; join()")
OnProgress = Callable[[TrainProgress], None]
OnTransfer = Callable[[DownloadProgress | CocoProgress], None]
Say = Callable[[str], None]


class Stopped(FstError):  # noqa: N818 - not an error
    """The run was asked to stop, and did so in good order."""


class _End(BaseException):
    """Carries an error past Hydra, which would print any Exception before it hands it on."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def main(
    argv: Sequence[str],
    *,
    on_progress: OnProgress | None = None,
    on_transfer: OnTransfer | None = None,
    say: Say = print,
    began: float | None = None,
) -> int:
    """Run `fst train` with the arguments after "train"; returns the exit code.

    Args:
        argv: as people type them.
        on_progress: told about every logged step.
        on_transfer: told how downloads of weights, photos and pictures go.
        say: takes the few lines that a run has to say.
        began: when the command did, by time.monotonic(), for its budget; None is now.

    Raises:
        FstError: whatever a user can cause, in one line.
    """
    OmegaConf.register_new_resolver("fst.style_name", _style_name, replace=True)
    surroundings.quieten()
    parser = get_args_parser()
    parser.prog = "fst train"
    parser.error = _refuse  # type: ignore[method-assign]
    arguments = parser.parse_intermixed_args(cli.quote_paths(argv))
    sweeping = arguments.multirun
    arguments.overrides = cli.complete(cli.resume(arguments.overrides, sweep=sweeping, say=say))
    given = list(arguments.overrides)
    failed: list[FstError] = []
    begun = [time.monotonic() if began is None else began]  # runs that follow in a sweep begin at their own time

    def task(cfg: DictConfig) -> None:
        job = HydraConfig.get()
        folder = Path(job.runtime.output_dir)
        began = begun.pop() if begun else time.monotonic()
        try:
            cli.check(cfg, job.runtime.choices)
            _train(cfg, folder, on_progress=on_progress, on_transfer=on_transfer, say=say, began=began)
        except KeyboardInterrupt as error:
            raise _End(Stopped(f"stopped; {_go_on(folder)}")) from error
        except Exception as error:
            known = _in_one_line(error)
            first = isinstance(error, UsageError) and OmegaConf.select(cast(DictConfig, job), "job.num", default=0) == 0
            if not sweeping or first or isinstance(error, Stopped) or known is None:
                raise _End(known or error) from error
            failed.append(known)  # one combination that fails does not end a sweep
            say(f"{folder}: {known}")
        finally:
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            _remove_if_nothing_was_done(folder)

    # Errors come to us instead of being printed.
    with surroundings.sigterm_as_ctrl_c(), surroundings.variable("HYDRA_FULL_ERROR", "1"):
        try:
            _run_hydra(arguments, parser, task, str(carried("conf")), "train")
        except _End as end:
            raise end.error from end
        except KeyboardInterrupt as error:
            raise Stopped("stopped before the first step") from error
        except Exception as error:
            raise cli.explain(error, given) from error
    return 1 if failed else 0


def join() -> NoReturn:
    """Be one of the other processes of a run, see processes.py: do what stands in its folder, and end."""
    processes.follow_parent()
    surroundings.quieten()
    folder = Path(os.environ[_RUN_FOLDER])
    code = 1
    try:
        cfg = cast(DictConfig, OmegaConf.load(folder / "config.yaml"))
        _train(cfg, folder)
        processes.wait_for_the_first()
        code = 0
    except FstError as error:
        print(error, file=sys.stderr)
        code = error.exit_code
    except Exception:  # noqa: BLE001 - whatever it is, the first process has to hear of it
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)  # threads of the process group, when torn down in an unlucky order, abort a process that is done


def _train(
    cfg: DictConfig,
    folder: Path,
    *,
    on_progress: OnProgress | None = None,
    on_transfer: OnTransfer | None = None,
    say: Say = lambda line: None,
    began: float = 0.0,
) -> None:
    """Do one run in its folder, and end with its model files; `began` at that reading of time.monotonic()."""
    if cfg.seed >= 2**32:
        raise UsageError(f"seed must be below 2**32, not {cfg.seed}")
    keep_freed_memory()
    pl.seed_everything(cfg.seed, verbose=False)
    make_task = _instantiate("method", cfg.method)
    method = make_task.func
    styles = _styles(cfg, method)
    net, known, origin = begin(
        lambda: _instantiate("net", cfg.net),
        styles,
        init=cfg.init,
        ckpt=cfg.ckpt,
        add_style=bool(cfg.add_style),
        adjustable=cfg.adjustable,
        noise=method.noise,
    )
    taught: dict[str, Any] = {}
    if issubclass(method, AnyStyleTask):
        taught["pool"] = StylePool(_places(cfg), on_transfer)
    else:
        strokes = STROKES if "stroke" in nets.inputs_of(net) else (1.0,)
        pictures = [[style.pictures(on_transfer, stroke=stroke) for stroke in strokes] for style in styles]
        taught["style_pictures"] = pictures
    terms = _plain(cfg.loss)
    for layers in ("style_layers", "content_layers"):
        terms[layers] = cli.layers(terms[layers], f"loss.{layers}")
    loss: PerceptualLoss = _instantiate("loss", terms)
    taps = [*loss.style_layers, *loss.content_layers]
    extractor = _instantiate("perceptual", cfg.perceptual, taps=taps, on_progress=on_transfer)
    task: StyleTask = make_task(
        net=net,
        extractor=extractor,
        loss=loss,
        **taught,
        optimizer=_instantiate("optimizer", cfg.optimizer, **_without_fused(cfg)),
        schedule=_instantiate("schedule", cfg.schedule),
    )

    def recipe(photos: PhotoData, steps: int, scores: Mapping[str, float]) -> Recipe:
        learnt = [*known, *(style.recipe() for style in styles)]
        name, seed = style_name(cfg.name, None), cfg.seed
        return recipes.of_run(name, task, photos, styles=learnt, origin=origin, steps=steps, seed=seed, scores=scores)

    if cfg.budget is not None and cfg.ckpt is None:  # a run that goes on has its plan
        say(_plan(cfg, task, began=began, on_transfer=on_transfer, recipe=lambda photos: recipe(photos, 0, {})))
    cfg.budget = None
    data = _photos(cfg, on_transfer)
    metrics, samples = MetricsCSV(folder), Samples(folder, every_n_steps=cfg.samples_every_n_steps)
    stop, skipped = StopOnSignal(), SkippedFiles(folder)
    keep = Keep(
        folder,
        metrics,
        every_n_steps=cfg.trainer.checkpoint_every_n_steps,
        recipe=lambda step: recipe(data, step, samples.scores).to_json(),
    )
    trainer = _trainer(
        cfg,
        default_root_dir=folder,
        logger=[metrics, *_loggers(cfg.get("logger"), folder)],
        callbacks=[Landing(), StepLog(on_progress), samples, keep, skipped, stop],
    )
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "config.yaml") as temporary:
            OmegaConf.save(cfg, temporary, resolve=True)
    if line := compile_modules([task.net, task.extractor], cfg.compile, trainer.strategy.root_device):
        say(line)
    try:
        join_here, others = surroundings.variable(_RUN_FOLDER, str(folder)), processes.others(trainer, _JOIN)
        with surroundings.fitting(stop), join_here, others:
            trainer.fit(task, datamodule=data, ckpt_path=cfg.ckpt, weights_only=True)
    except NonFiniteLoss as error:
        kept = f"the last good checkpoint, of step {keep.saved_at}, is {keep.path}"
        raise NonFiniteLoss(f"{error}; {kept if keep.path.is_file() else 'there is no checkpoint yet'}") from error
    finally:
        close(trainer.loggers)
    if not trainer.is_global_zero:
        return
    if skipped.count:
        say(f"{skipped.count} pictures could not be used: {skipped.path} lists them")
    if stop.stopped:
        raise Stopped(f"stopped at step {trainer.global_step}; {_go_on(folder)}")
    if trainer.global_step < trainer.max_steps:
        say(f"time was up at step {trainer.global_step} of {trainer.max_steps} (trainer.max_time)")
    made = recipe(data, trainer.global_step, samples.scores or recipes.last_scores(metrics.path))
    onnx = _write(folder, net, made)
    which = shlex.quote(f"{onnx}:{styles[-1].label}" if "styles" in made.inputs else str(onnx))
    which += " --style-image PICTURE.jpg" if "style_code" in made.inputs else ""
    say(f"done: {folder}\nuse it: fst stylize PHOTO.jpg --style {which} -o out/")


def _write(folder: Path, net: nn.Module, made: Recipe) -> Path:
    """Write the model file, which is returned, and its twin."""
    onnx = folder / f"{made.name}.onnx"
    model.write(onnx, net, made)
    model.write(onnx.with_suffix(".safetensors"), net, made)
    return onnx


def _photos(cfg: DictConfig, on_transfer: OnTransfer | None, **sizes: int | None) -> PhotoData:
    """What to learn from, of these `sizes` instead of its own."""
    data: PhotoData = _instantiate("data", cfg.data, **sizes)
    data.on_transfer = on_transfer
    return data


def _trainer(cfg: DictConfig, *, without: Sequence[str] = (), **ours: Any) -> pl.Trainer:
    """Lightning's Trainer as cfg asks for it, less the settings `without`, and with `ours`, which cfg has to leave."""
    settings = {key: value for key, value in _plain(cfg.trainer).items() if key not in without}
    del settings["checkpoint_every_n_steps"]
    settings["precision"] = precision.choose(settings["precision"], settings["accelerator"])
    ours |= {
        "max_epochs": -1,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "plugins": processes.environment(),
    }
    if clash := sorted(ours.keys() & settings.keys()):
        raise UsageError(f"trainer.{clash[0]} is set by fst itself: leave it out")
    trainer: pl.Trainer = _instantiate("trainer", settings, **ours)
    return trainer


def _plan(
    cfg: DictConfig,
    task: StyleTask,
    *,
    began: float,
    on_transfer: OnTransfer | None,
    recipe: Callable[[PhotoData], Recipe],
) -> str:
    """Put what the budget's time allows into `cfg` where it says "auto"; returns the line for the user."""
    given: Budget = _instantiate("budget", {"_target_": "fst.training.budget.Budget", **_plain(cfg.budget)})
    wanted = given.with_typed(size=cfg.data.size, start_size=cfg.data.start_size, max_steps=cfg.trainer.max_steps)
    photos = _photos(cfg, on_transfer, size=wanted.sizes[-1], start_size=wanted.start_size)
    planned, line = budget.choose(
        wanted,
        task,
        photos,
        began=began,
        look_every=cfg.samples_every_n_steps,
        init=cfg.init,
        make_trainer=partial(_trainer, cfg, logger=False),
        export=lambda folder, net: _write(folder, net, recipe(photos)),
    )
    for key, value in planned.settings.items():
        if key != "trainer.max_time" or cfg.trainer.max_time is None:
            OmegaConf.update(cfg, key, value)
    return line


def _places(cfg: DictConfig) -> list[Any]:
    """Where the style pictures of method=adain are: folders, files and names in `styles`."""
    places = _plain(cfg.styles) or []
    return places if isinstance(places, list) else [places]


def _styles(cfg: DictConfig, method: type[StyleTask]) -> list[Style]:
    """What is to be learnt: `style`, or each of `styles`, or what is added to a model; nothing by name for any style.

    Raises:
        UsageError: none of them, or keys that do not go together.
    """
    given = [key for key in ("styles", "add_style", "freeze") if cfg[key]]
    if issubclass(method, AnyStyleTask):
        if cfg.style.image is not None or given not in ([], ["styles"]) or cfg.adjustable:
            raise UsageError(
                "method=adain learns from styles=[FOLDER,wave,mine.jpg] alone, and its strength is always adjustable: "
                "leave style, add_style, freeze and adjustable out"
            )
        return []
    if not issubclass(method, MultiTask):
        if given:
            raise UsageError(f"{given[0]} is for method=multi: add that")
        return [Style(**_plain(cfg.style))]
    if cfg.style.image is not None:
        raise UsageError("method=multi learns styles=[wave,mine.jpg], and has no use for style or style.image")
    if cfg.add_style:
        if given != ["add_style", "freeze"] or not cfg.init:
            raise UsageError(
                "add_style goes with init=MODEL, to which it is added, and with freeze=true, which keeps its other "
                "styles as they are, and not with styles"
            )
        names = [cfg.add_style]
    else:
        names = _plain(cfg.styles)
        if "freeze" in given:
            raise UsageError("freeze=true goes with add_style=STYLE init=MODEL")
        if not isinstance(names, list) or len(names) < 2:
            raise UsageError("method=multi learns two styles or more: styles=[wave,mine.jpg]")
    found = [named_style(name, size_px=_plain(cfg.style.size_px)) for name in names]
    labels = [style.label for style in found]
    if twice := [label for label in labels if labels.count(label) > 1]:
        raise UsageError(f"two styles are called {twice[0]!r}: leave one out, or name it: {{image: FILE, name: NAME}}")
    return found


def _without_fused(cfg: DictConfig) -> dict[str, bool]:
    """Lightning cannot clip gradients for an optimizer that is fused."""
    clipped = OmegaConf.select(cfg, "trainer.gradient_clip_val") and "fused" in cfg.optimizer
    return {"fused": False} if clipped else {}


def _loggers(cfg: DictConfig | None, folder: Path) -> list[Any]:
    made = (_instantiate(f"logger.{name!s}", node, folder=folder) for name, node in (cfg or {}).items())
    return [logger for logger in made if logger is not None]


def _instantiate(key: str, cfg: Any, **arguments: Any) -> Any:
    """Hydra's instantiate, with the error that the class itself raised."""
    try:
        return instantiate(cfg, _convert_="all", **arguments)
    except InstantiationException as error:
        cause = error.__cause__ or error
        if isinstance(cause, FstError):
            raise cause from error
        text = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        if found := re.search(r"unexpected keyword argument '(\w+)'", text):
            known = inspect.signature(get_class(cfg["_target_"])).parameters
            close = nearest(f"{key}.{found[1]}", [f"{key}.{name}" for name in known], most=1)
            raise UsageError(f"there is no key '{key}.{found[1]}': {close}") from error
        raise UsageError(f"{key}: {text}") from error


def _in_one_line(error: Exception) -> FstError | None:
    """The error as one of ours where a user can cause it; None for what must be a mistake in fst."""
    if isinstance(error, FstError):
        return error
    line = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, torch.OutOfMemoryError):
        return FstError(f"not enough memory on the device ({line}): make data.batch_size or data.size smaller")
    if isinstance(error, OSError):
        return FstError(reason(error))
    if isinstance(error, MisconfigurationException):
        return FstError(line)
    return None


def _go_on(folder: Path) -> str:
    """How to go on with a run that was stopped."""
    if not (folder / "last.ckpt").is_file():
        return "there is no checkpoint yet"
    return f"go on with: fst train {shlex.quote(f'ckpt={folder}')}"


def _refuse(message: str) -> NoReturn:
    raise UsageError(f"{message} (fst train --help)")


def _style_name(name: Any, image: Any) -> str:
    return style_name(*(None if value is None else str(value) for value in (name, image)))


def _plain(cfg: Any) -> Any:
    return OmegaConf.to_container(cfg, resolve=True) if OmegaConf.is_config(cfg) else cfg


def _remove_if_nothing_was_done(folder: Path) -> None:
    """Take away the folder of a run that ended before it began, and the parents that it leaves empty."""
    if folder == Path.cwd() or not folder.is_dir():
        return
    if {entry.name for entry in folder.iterdir()} <= {".hydra", "config.yaml", "wandb"}:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in (folder.parent, folder.parent.parent):
            if parent == Path.cwd() or any(parent.iterdir()):
                break
            parent.rmdir()


class Summary(HydraCallback):
    """Prints a sweep's table, and writes summary.csv and index.html, when its last run has ended."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        runs = {}
        for file in sorted(folder.glob("*/.hydra/overrides.yaml"), key=lambda f: f.stat().st_mtime_ns):
            runs[file.parent.parent.name] = [str(value) for value in OmegaConf.load(file)]
        configs = map(OmegaConf.load, folder.glob("*/config.yaml"))
        adjustable = any(OmegaConf.select(each, "adjustable") for each in configs)
        rows = sweep.summarize(folder, runs, adjustable=adjustable)
        from rich.console import Console

        Console(file=sys.stdout).print(sweep.table(rows))
        if rows:
            print(f"look: {folder / 'index.html'}")
        print(f"sweep: {folder}")
