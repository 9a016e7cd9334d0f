"""Whole runs of `fst train`, small enough for a test."""

import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from fst import bundle
from fst.export import model
from fst.training.loggers import COLUMNS
from fst.training.tasks import PerStyleTask

Run = Callable[..., Any]  # fst_train and start of conftest.py
Losses = Callable[..., dict[int, dict[str, float]]]
TERMS = ("train/content", "train/style", "train/tv", "train/total")


def assert_same(got: dict[int, dict[str, float]], wanted: dict[int, dict[str, float]], rtol: float = 1e-5) -> None:
    """The losses and learning rates of two runs are the same."""
    assert list(got) == list(wanted)
    for step, row in wanted.items():
        for name in (*TERMS, "lr"):
            assert got[step][name] == pytest.approx(row[name], rel=rtol), (step, name)


@pytest.fixture
def sixty(tiny: list[str]) -> list[str]:
    return [*tiny, "trainer.max_steps=60", "trainer.checkpoint_every_n_steps=20", "samples_every_n_steps=0"]


def test_a_run_leaves_its_model_numbers_and_pictures(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    ended = fst_train(*tiny, "hydra.run.dir=run", "samples_every_n_steps=2", export=True)
    assert (ended.code, ended.err) == (0, "")
    folder = Path("run").resolve()
    assert ended.out == f"done: {folder}\nuse it: fst stylize PHOTO.jpg --style {folder}/stained_glass.onnx -o out/\n"
    rows = losses(folder)
    assert list(rows) == [1, 2, 3, 4]
    assert folder.joinpath("metrics.csv").read_text().splitlines()[0] == ",".join(COLUMNS)
    assert set(rows[4]) == set(COLUMNS)
    assert {file.name for file in (folder / "samples").iterdir()} == {"step_000002.png", "step_000004.png"}
    assert (folder / "preview.png").read_bytes() == (folder / "samples" / "step_000004.png").read_bytes()

    tensors, recipe = bundle.read_weights(folder / "stained_glass.onnx")
    assert (recipe.steps, recipe.method, recipe.license) == (4, "perstyle", "Apache-2.0")
    assert recipe.metrics["val/total"] == pytest.approx(rows[4]["val/total"], rel=1e-6)
    net, from_checkpoint = model.read(folder / "last.ckpt")
    assert (from_checkpoint.steps, from_checkpoint.net) == (4, recipe.net)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(torch.from_numpy(tensors[name].copy()), value)


def test_config_yaml_is_resolved(fst_train: Run, tiny: list[str]) -> None:
    assert fst_train(*tiny, "hydra.run.dir=run", "seed=7").code == 0
    text = Path("run/config.yaml").read_text()
    assert "${" not in text
    assert OmegaConf.load("run/config.yaml").data.seed == 7


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    losses: Losses, fst_train: Run, sixty: list[str], which: signal.Signals
) -> None:
    assert fst_train(*sixty, "hydra.run.dir=unbroken").code == 0
    stopped = fst_train(*sixty, at={50: which})
    (folder,) = Path("runs/stained_glass").iterdir()
    assert stopped.code == 1
    assert stopped.error == f"stopped at step 50; go on with: fst train ckpt={folder.resolve()}"
    assert (stopped.out, stopped.err) == ("", "")
    assert list(losses(folder)) == list(range(1, 51))
    assert not list(folder.glob("*.onnx"))

    went_on = fst_train("ckpt=last")
    assert went_on.code == 0
    assert went_on.out.startswith(f"going on from {folder}/last.ckpt\n")
    assert list(Path("runs/stained_glass").iterdir()) == [folder]
    assert_same(losses(folder), losses(Path("unbroken")))


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    losses: Losses, fst_train: Run, start: Run, sixty: list[str]
) -> None:
    assert fst_train(*sixty, "hydra.run.dir=unbroken").code == 0
    assert start(*sixty, "data.num_workers=1", "hydra.run.dir=killed", STOP="50:SIGKILL").wait().code == -signal.SIGKILL
    assert max(losses(Path("killed"))) >= 49
    assert fst_train("ckpt=killed").code == 0
    assert_same(losses(Path("killed")), losses(Path("unbroken")))


def test_a_run_that_ended_before_its_first_checkpoint_starts_anew(
    losses: Losses, fst_train: Run, tiny: list[str]
) -> None:
    assert fst_train(*tiny, "hydra.run.dir=run").code == 0
    Path("run/last.ckpt").unlink()
    assert list(losses(Path("run"))) == [1, 2, 3, 4]
    ended = fst_train("ckpt=last", "hydra.run.dir=run", "trainer.max_steps=2")
    assert ended.out.startswith(f"{Path('run')} ended before its first checkpoint: starting it anew\n")
    assert ended.code == 0
    assert list(losses(Path("run"))) == [1, 2]


def test_a_finished_run_can_be_taken_further(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    assert fst_train(*tiny).code == 0
    again = fst_train("ckpt=last", export=True)  # nothing left to do but the model file
    (folder,) = Path("runs/stained_glass").iterdir()
    assert again.code == 0
    assert bundle.read_recipe(folder / "stained_glass.onnx").metrics
    assert fst_train(f"ckpt={folder}/last.ckpt", "trainer.max_steps=6").code == 0
    assert list(losses(folder)) == [1, 2, 3, 4, 5, 6]


def test_a_mistake_does_not_cost_the_run_that_lies_there(fst_train: Run, tiny: list[str]) -> None:
    assert fst_train(*tiny, "hydra.run.dir=run").code == 0
    before = {path: path.read_bytes() for path in (Path("run/last.ckpt"), Path("run/metrics.csv"))}
    for more in ("ckpt=run", "seed=1"):
        assert fst_train(*tiny, "hydra.run.dir=run", "data.dir=/not/here", "trainer.max_steps=9", more).code == 2
    assert {path: path.read_bytes() for path in before} == before


def test_a_checkpoint_of_another_network_is_refused(fst_train: Run, tiny: list[str]) -> None:
    assert fst_train(*tiny, "hydra.run.dir=run").code == 0
    before = Path("run/metrics.csv").read_text()
    ended = fst_train("ckpt=run", "net.blocks=2")
    assert ended.code == 2
    assert re.fullmatch(r"ckpt=.*last.ckpt is of another network than net asks for: .*", ended.error)
    assert Path("run/metrics.csv").read_text() == before
    Path("run/last.ckpt").write_bytes(b"nonsense")
    assert re.fullmatch(r"ckpt=.*: damaged, or not a checkpoint of fst train .*", fst_train("ckpt=run").error)


@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_init_starts_from_a_model(losses: Losses, fst_train: Run, tiny: list[str], suffix: str) -> None:
    """The first loss with init is the loss of that network: lr=0 keeps it for all steps."""
    same_crops = ["trainer.log_every_n_steps=1", "data.flip=false", "data.crop_scale=[1,1]"]
    assert fst_train(*tiny, *same_crops, "hydra.run.dir=first", "optimizer.lr=0.01", export=True).code == 0
    source = f"first/stained_glass.{suffix}"
    assert fst_train(*tiny, *same_crops, "hydra.run.dir=a", f"init={source}", "optimizer.lr=0").code == 0
    assert fst_train(*tiny, *same_crops, "hydra.run.dir=b", "optimizer.lr=0").code == 0
    first, a, b = (losses(Path(run)) for run in ("first", "a", "b"))
    assert b[1]["train/total"] == pytest.approx(first[1]["train/total"], rel=1e-6)
    assert a[1]["train/total"] < 0.95 * b[1]["train/total"]
    assert a[4]["val/total"] == pytest.approx(first[4]["val/total"], rel=1e-4)


def test_init_of_another_network_is_one_clear_line(fst_train: Run, tiny: list[str]) -> None:
    assert fst_train(*tiny, "hydra.run.dir=run", export=True).code == 0
    ended = fst_train(*tiny, "init=run/stained_glass.onnx", "net.width=8", "net.blocks=2")
    assert ended.code == 2
    wanted = "init=run/stained_glass.onnx is another network than net asks for: set net.width=4 net.blocks=1"
    assert ended.error == wanted


def test_a_second_ctrl_c_ends_at_once(fst_train: Run, sixty: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(task: PerStyleTask, *_: object) -> None:
        if task.global_step == 25:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(PerStyleTask, "on_train_batch_start", twice)
    ended = fst_train(*sixty, "hydra.run.dir=run")
    assert (ended.code, ended.out, ended.err) == (1, "", "")
    assert ended.error == f"stopped; go on with: fst train ckpt={Path('run').resolve()}"
    assert torch.load("run/last.ckpt", weights_only=True)["global_step"] == 20


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_before_the_first_step(fst_train: Run, tiny: list[str], which: signal.Signals) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fst.training.tasks.PerStyleTask.on_fit_start", lambda task: signal.raise_signal(which))
        ended = fst_train(*tiny)
    assert (ended.code, ended.error) == (1, "stopped; there is no checkpoint yet")
    assert (ended.out, ended.err) == ("", "")
    assert not Path("runs").exists()


def test_the_grain_of_the_fast_network_goes_on_after_a_stop(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    """Its noise is drawn in every step: a run that goes on draws what it would have drawn."""
    fast = [*(word for word in tiny if not word.startswith("net.")), "net=fast", "net.width=4", "net.blocks=1"]
    fast += ["trainer.max_steps=8", "samples_every_n_steps=0"]
    assert fst_train(*fast, "hydra.run.dir=unbroken").code == 0
    assert fst_train(*fast, "hydra.run.dir=stopped", at={4: signal.SIGINT}).code == 1
    assert fst_train("ckpt=stopped").code == 0
    assert_same(losses("stopped"), losses("unbroken"))


def test_the_last_good_checkpoint_survives_a_loss_that_is_not_finite(
    fst_train: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(task: PerStyleTask, *_: object) -> None:
        if task.global_step == 3:
            next(task.net.parameters()).data.fill_(torch.nan)

    monkeypatch.setattr(PerStyleTask, "on_train_batch_end", explode)
    ended = fst_train(*tiny, "hydra.run.dir=run", "trainer.checkpoint_every_n_steps=1", "samples_every_n_steps=1")
    path = Path("run/last.ckpt").resolve()
    assert (ended.code, ended.out, ended.err) == (1, "", "")
    kept = f"try a smaller optimizer.lr; the last good checkpoint, of step 3, is {path}"
    assert ended.error == f"the loss is nan at step 4: {kept}"
    assert torch.load(path, weights_only=True)["global_step"] == 3


def test_a_network_that_is_finite_but_broken_is_not_kept(fst_train: Run, tiny: list[str]) -> None:
    ended = fst_train(*tiny, "hydra.run.dir=run", "trainer.checkpoint_every_n_steps=1", "optimizer.lr=1e30")
    assert ended.code == 1
    assert ended.error.startswith("the network gives no pictures any more at step 1: try a smaller optimizer.lr")
    assert not Path("run/last.ckpt").exists()


def test_the_libraries_keep_quiet(start: Run, tiny: list[str]) -> None:
    ended = start(*tiny, "data.num_workers=1", "hydra.run.dir=run").wait()
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[:-2] == ["0", "1", "2", "3", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_whole_group(losses: Losses, start: Run, sixty: list[str], which: signal.Signals) -> None:
    """As a terminal and `timeout` send it: the processes that read photos get it, too."""
    run = start(*sixty, "data.num_workers=1", "trainer.max_steps=100000", "hydra.run.dir=run")
    ended = run.wait_for_step(30).signal(which, group=True).wait()
    assert ended.code == 1
    assert re.fullmatch(r"stopped( at step \d+)?; go on with: fst train ckpt=\S+", ended.error)
    assert ended.error.startswith("stopped at step") or which == signal.SIGTERM  # which ends those processes
    step = torch.load("run/last.ckpt", weights_only=True)["global_step"]
    assert list(losses("run"))[:step] == list(range(1, step + 1))


@pytest.mark.slow
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start(start: Run, tiny: list[str], which: signal.Signals) -> None:
    run = start(*tiny, "data.num_workers=1", "style.size_px=4096")  # the style's target takes a while
    run.wait_for_file("runs/stained_glass/*/config.yaml")
    ended = run.signal(which, group=True).wait()
    assert (ended.code, ended.error, ended.out) == (1, "stopped; there is no checkpoint yet", "")
    assert not Path("runs").exists()


TWO = ["trainer.devices=2", "data.batch_size=2"]


@pytest.mark.slow
def test_two_processes_learn_what_one_does(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    five = [*tiny, "trainer.max_steps=5"]
    one = fst_train(*five, "data.batch_size=4", "hydra.run.dir=one")
    two = fst_train(*five, *TWO, "hydra.run.dir=two")
    assert (one.code, two.code, two.err) == (0, 0, "")
    assert two.out == one.out.replace("/one", "/two")
    assert_same(losses("two"), losses("one"), rtol=1e-4)


@pytest.mark.slow
def test_two_processes_stop_and_go_on(losses: Losses, fst_train: Run, sixty: list[str]) -> None:
    ten = [*sixty, "trainer.max_steps=10"]
    assert fst_train(*ten, *TWO, "hydra.run.dir=unbroken").code == 0
    stopped = fst_train(*ten, *TWO, "hydra.run.dir=run", at={6: signal.SIGTERM})
    assert (stopped.code, stopped.err) == (1, "")
    assert stopped.error.startswith("stopped at step 6; go on with: ")
    assert fst_train("ckpt=run").code == 0
    assert_same(losses("run"), losses("unbroken"))


@pytest.mark.slow
@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_two_processes_leave_nobody_behind(start: Run, sixty: list[str], which: signal.Signals) -> None:
    run = start(*sixty, *TWO, "data.num_workers=1", "trainer.max_steps=100000", "hydra.run.dir=run")
    ended = run.wait_for_step(21).signal(which, group=which != signal.SIGKILL).wait()
    assert Path("run/last.ckpt").is_file()
    if which == signal.SIGKILL:
        assert ended.code == -signal.SIGKILL
    else:
        assert ended.code == 1
        assert re.fullmatch(r"stopped at step \d+; go on with: fst train ckpt=\S+", ended.error)


@pytest.mark.slow
def test_a_process_that_fails_ends_all_with_one_line(fst_train: Run, start: Run, sixty: list[str]) -> None:
    run = start(*sixty, *TWO, "trainer.max_steps=100000", "hydra.run.dir=run").wait_for_step(5)
    (other,) = (p for p in run.children() if "join" in " ".join(p.cmdline()))
    other.kill()
    ended = run.wait()
    assert (ended.code, ended.error) == (1, "process 1: killed (SIGKILL)")


def test_gradients_can_be_clipped_in_bfloat16(fst_train: Run, tiny: list[str]) -> None:
    ended = fst_train(*tiny, "trainer.precision=bf16-mixed", "+trainer.gradient_clip_val=1", "hydra.run.dir=run")
    assert (ended.code, ended.error) == (0, "")


def test_a_step_of_several_batches_is_logged_once(losses: Losses, fst_train: Run, tiny: list[str]) -> None:
    both = ["data.flip=false", "data.crop_scale=[1,1]", "trainer.max_steps=3"]
    assert fst_train(*tiny, *both, "hydra.run.dir=one", "data.batch_size=4").code == 0
    assert fst_train(*tiny, *both, "hydra.run.dir=two", "+trainer.accumulate_grad_batches=2").code == 0
    rows = losses(Path("two"))
    assert list(rows) == [1, 2, 3]
    assert all(row["images_per_second"] > 0 for row in rows.values())
    one = losses(Path("one"))
    assert rows[3]["val/total"] == pytest.approx(one[3]["val/total"], rel=1e-2)  # the same mean of the same photos


def test_what_fst_sets_itself_is_not_dropped_silently(fst_train: Run, tiny: list[str]) -> None:
    ended = fst_train(*tiny, "+trainer.max_epochs=3")
    assert (ended.code, ended.error) == (2, "trainer.max_epochs is set by fst itself: leave it out")


def test_a_model_that_a_run_began_with_is_in_its_recipe(fst_train: Run, tiny: list[str]) -> None:
    assert fst_train(*tiny, "hydra.run.dir=first", export=True).code == 0
    assert fst_train(*tiny, "hydra.run.dir=second", "init=first/stained_glass.safetensors", export=True).code == 0
    origin = bundle.read_recipe(Path("second/stained_glass.onnx")).extra["init"]
    assert (origin["name"], origin["steps"]) == ("stained_glass", 4)
    Path("first/stained_glass.safetensors").unlink()  # a run that goes on does not need it any more
    assert fst_train("ckpt=second", "trainer.max_steps=6", export=True).code == 0
    assert bundle.read_recipe(Path("second/stained_glass.onnx")).extra["init"] == origin


@pytest.fixture
def several(tiny: list[str]) -> list[str]:
    """A run of two styles."""
    return [*(word for word in tiny if not word.startswith("style=")), "method=multi", "styles=[stained_glass,woodcut]"]


def test_one_network_learns_several_styles(losses: Losses, fst_train: Run, several: list[str]) -> None:
    ended = fst_train(*several, "hydra.run.dir=run", "optimizer.lr=0.05", export=True)
    assert (ended.code, ended.err) == (0, "")
    path = Path("run/multi.onnx").resolve()
    assert ended.out.splitlines()[-1] == f"use it: fst stylize PHOTO.jpg --style {path}:woodcut -o out/"
    recipe = bundle.read(path).recipe
    assert (recipe.name, recipe.method, recipe.style_names) == ("multi", "multi", ["stained_glass", "woodcut"])
    assert [style["license"] for style in recipe.styles] == ["Apache-2.0"] * 2
    assert recipe.license == "Apache-2.0"
    assert recipe.inputs == {"styles": [1.0, 0.0]}
    rows = losses("run")
    assert recipe.metrics["val/style"] == pytest.approx(rows[4]["val/style"])
    assert Image.open("run/preview.png").size == (2 * 32, 3 * 32)  # photos, and a row for each style
    net, _ = model.read(Path("run/last.ckpt"))
    one, other = net.styles
    assert not torch.equal(one, other)


def test_several_styles_go_on_as_if_they_had_not_stopped(losses: Losses, fst_train: Run, several: list[str]) -> None:
    """Styles, strengths and strokes that were drawn are drawn again."""
    eight = [*several, "adjustable=true", "trainer.max_steps=8", "samples_every_n_steps=3"]
    assert fst_train(*eight, "hydra.run.dir=unbroken").code == 0
    assert fst_train(*eight, at={4: signal.SIGINT}).code == 1
    (folder,) = Path("runs/multi").iterdir()
    for words in (["method=multi"], ["name=multi"]):
        assert fst_train("ckpt=last", *words).out.startswith(f"going on from {folder}/last.ckpt\n")
    assert_same(losses(folder), losses("unbroken"))
    assert Image.open("unbroken/preview.png").size == (2 * 32, 6 * 32)  # and three looks at the first style


def test_a_style_is_added_and_the_others_stay_to_the_last_bit(
    losses: Losses, fst_train: Run, several: list[str], tmp_path: Path
) -> None:
    first = [*several, "hydra.run.dir=first", "optimizer.lr=0.01"]
    assert fst_train(*first, export=True).code == 0
    base = [word for word in several if not word.startswith("styles=")]
    more = [*base, "init=first/multi.onnx", "add_style=pointillism", "freeze=true", "optimizer.lr=0.01"]
    more += ["schedule=constant"]
    assert fst_train(*more, "hydra.run.dir=unbroken", "trainer.max_steps=6").code == 0
    assert fst_train(*more, "hydra.run.dir=more", "trainer.max_steps=6", at={3: signal.SIGINT}).code == 1
    Path("first/multi.onnx").unlink()  # a run that goes on does not need it any more
    assert fst_train("ckpt=more", export=True).code == 0
    assert_same(losses("more"), losses("unbroken"))
    assert losses("more")[6]["train/total"] != losses("more")[1]["train/total"]

    (before, old), (after, new) = model.read(Path("first/last.ckpt")), model.read(Path("more/multi.safetensors"))
    assert new.style_names == ["stained_glass", "woodcut", "pointillism"]
    assert new.styles[:2] == old.styles
    assert new.extra["init"]["name"] == "multi"
    image = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    mixes = torch.tensor([[0.0, 1.0], [0.3, 0.7]])
    before, after = before.eval(), after.eval()
    with torch.no_grad():
        wider = torch.cat([mixes, torch.zeros(2, 1)], 1)
        assert torch.equal(before(image, styles=mixes), after(image, styles=wider))
        assert (after(image, styles=torch.eye(3)[2:]) - after(image)).abs().mean() > 1e-3
    frozen = {name: value for name, value in after.state_dict().items() if name != "styles.2"}
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in frozen.items())


def test_one_style_with_strength_and_stroke(fst_train: Run, tiny: list[str]) -> None:
    ended = fst_train(*tiny, "adjustable=true", "hydra.run.dir=run", export=True)
    assert (ended.code, ended.error) == (0, "")
    recipe = bundle.read_recipe(Path("run/stained_glass.onnx"))
    assert (recipe.method, recipe.inputs) == ("perstyle", {"strength": 1.0, "stroke": 1.0})
    assert recipe.net["net"]["name"] == "johnson"
    again = [*tiny, "adjustable=true", "init=run/stained_glass.onnx", "optimizer.lr=0", "hydra.run.dir=again"]
    assert fst_train(*again, export=True).code == 0
    known = bundle.read_recipe(Path("again/stained_glass.onnx")).metrics
    assert known["val/total"] == pytest.approx(recipe.metrics["val/total"], rel=1e-4)
    plain = [*tiny, "init=run/stained_glass.onnx", "optimizer.lr=0", "hydra.run.dir=plain"]
    assert fst_train(*plain, export=True).code == 0
    (plain_net, made), (told, _) = model.read(Path("plain/stained_glass.onnx")), model.read(Path("run/last.ckpt"))
    assert made.inputs == {}
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(plain_net.eval()(image), told.eval()(image))


def test_init_of_a_plain_model_is_where_every_style_begins(fst_train: Run, tiny: list[str], several: list[str]) -> None:
    assert fst_train(*tiny, "hydra.run.dir=run", "optimizer.lr=0.05", export=True).code == 0
    still = ["init=run/stained_glass.safetensors", "optimizer.lr=0", "adjustable=true", "hydra.run.dir=several"]
    assert fst_train(*several, *still).code == 0
    (plain, _), (told, _) = model.read(Path("run/last.ckpt")), model.read(Path("several/last.ckpt"))
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        wanted = plain.eval()(image)
        for styles in torch.eye(2):
            torch.testing.assert_close(told.eval()(image, styles=styles[None]), wanted)


def test_a_model_of_several_styles_is_where_others_begin(fst_train: Run, tiny: list[str], several: list[str]) -> None:
    """Each with the style of its name; one that is new with their mean; MODEL:STYLE says which."""
    assert fst_train(*several, "adjustable=true", "optimizer.lr=0.05", "hydra.run.dir=run", export=True).code == 0
    several_net, _ = model.read(Path("run/multi.onnx"))
    glass, woodcut = (table.detach() for table in several_net.styles)
    assert not torch.equal(glass, woodcut)
    base = [word for word in tiny if not word.startswith("style=")] + ["optimizer.lr=0"]
    for words, wanted in (
        (["init=run/multi.onnx", "style=woodcut", "adjustable=true"], [woodcut]),
        (["init=run/multi.onnx:stained_glass", "style=woodcut", "adjustable=true"], [glass]),
        (["init=run/multi.onnx", "style=pointillism", "adjustable=true"], [(glass + woodcut) / 2]),
        (["init=run/multi.onnx", "style=woodcut", "method=diverse"], [woodcut[:1]]),
        (
            ["init=run/multi.onnx", "method=multi", "styles=[woodcut,pointillism,stained_glass]"],
            [woodcut[:1], (glass + woodcut)[:1] / 2, glass[:1]],
        ),
    ):
        assert fst_train(*base, *words, "hydra.run.dir=next").code == 0
        begun, _ = model.read(Path("next/last.ckpt"))
        for table, want in zip(begun.styles, wanted, strict=True):
            torch.testing.assert_close(table.detach(), want)
        if words == ["init=run/multi.onnx", "style=woodcut", "adjustable=true"]:
            image = torch.rand(1, 3, 32, 32)
            with torch.no_grad():
                asked = {"strength": torch.tensor([0.5]), "stroke": torch.tensor([2.0])}
                row = several_net.eval()(image, styles=torch.tensor([[0.0, 1.0]]), **asked)
                torch.testing.assert_close(begun.eval()(image, **asked), row)
        shutil.rmtree("next")
    small = [word for word in base if not word.startswith("net.")]
    ended = fst_train(*small, "init=run/multi.onnx", "style=woodcut", "net=fast")
    wanted = "init=run/multi.onnx is another network than net asks for: set net=johnson net.width=4 net.blocks=1"
    assert ended.error.startswith(wanted)
    assert "adjustable" not in ended.error
    ended = fst_train(*base, "init=run/multi.onnx:woodcat", "style=pointillism")
    assert (ended.code, ended.error) == (
        2,
        "init=run/multi.onnx:woodcat: no style of it is called 'woodcat': did you mean woodcut?",
    )


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["styles=[woodcut]"], "method=multi learns two styles or more"),
        (["styles=woodcut"], "method=multi learns two styles or more"),
        ([], "method=multi learns two styles or more"),
        (["styles=[woodcut,wodcut]"], "no style is called 'wodcut': did you mean woodcut?"),
        (["styles=[woodcut,woodcut]"], "two styles are called 'woodcut'"),
        (["styles=[woodcut,none.jpg]"], "none.jpg"),
        (["styles=[woodcut,pointillism]", "style=woodcut"], "has no use for style"),
        (["styles=[woodcut,pointillism]", "freeze=true"], "freeze=true goes with add_style=STYLE init=MODEL"),
        (["add_style=woodcut"], "add_style goes with init=MODEL"),
        (["add_style=woodcut", "init=starry_night"], "and with freeze=true"),
        (["add_style=woodcut", "freeze=true"], "add_style goes with init=MODEL"),
        (
            ["add_style=woodcut", "freeze=true", "init=starry_night_johnson"],
            "init=starry_night_johnson takes no further style",
        ),
        (["method=perstyle", "styles=[woodcut,pointillism]"], "styles is for method=multi: add that"),
        (["method=perstyle", "add_style=woodcut"], "add_style is for method=multi"),
        (["method=multy"], "no method is called 'multy': did you mean multi?"),
        (["styles=[woodcut,pointillism]", "adjustable=1"], "adjustable=1: wanted true or false"),
    ],
)
def test_styles_that_do_not_go_together(fst_train: Run, tiny: list[str], words: list[str], error: str) -> None:
    base = [word for word in tiny if not word.startswith("style=")]
    ended = fst_train(*base, "method=multi", *words)
    assert (ended.code, ended.out, ended.err) == (2, "", "")
    assert error in ended.error
    assert "\n" not in ended.error
    assert not Path("runs").exists()


def test_a_style_that_is_there_already_is_not_added(fst_train: Run, several: list[str]) -> None:
    assert fst_train(*several, "hydra.run.dir=run", export=True).code == 0
    base = [word for word in several if not word.startswith("styles=")]
    ended = fst_train(*base, "init=run/multi.onnx", "add_style=woodcut", "freeze=true")
    assert (ended.code, ended.error) == (2, "init=run/multi.onnx has a style called 'woodcut': add_style another")


@pytest.fixture
def diverse(tiny: list[str]) -> list[str]:
    return [*tiny, "method=diverse", "method.diversity_weight=0.5"]


def test_many_ways_to_paint_a_photo(losses: Losses, fst_train: Run, diverse: list[str]) -> None:
    ended = fst_train(*diverse, "hydra.run.dir=run", "optimizer.lr=0.02", export=True)
    assert (ended.code, ended.err) == (0, "")
    recipe = bundle.read(Path("run/stained_glass.onnx")).recipe
    assert (recipe.method, recipe.inputs, recipe.style_names) == ("diverse", {"noise": 16}, ["stained_glass"])
    rows = losses("run")
    for row in rows.values():
        assert 0 < row["train/diversity"] <= 1
        total = 0.1 * row["train/content"] + row["train/style"] + 0.5 * row["train/diversity"]
        assert row["train/total"] == pytest.approx(total, rel=1e-4)
    assert Image.open("run/preview.png").size == (2 * 32, 5 * 32)  # photos, no noise, and three
    still = [*diverse, "init=run/stained_glass.onnx", "optimizer.lr=0", "hydra.run.dir=again"]
    assert fst_train(*still).code == 0
    assert losses("again")[4]["val/total"] == pytest.approx(rows[4]["val/total"], rel=1e-4)
    plain = [word for word in still if not word.startswith("method")]
    assert fst_train(*plain).error.endswith("is another network than net asks for: set method=diverse")


def test_noise_that_was_drawn_is_drawn_again(losses: Losses, fst_train: Run, diverse: list[str]) -> None:
    eight = [*diverse, "adjustable=true", "trainer.max_steps=8"]
    assert fst_train(*eight, "hydra.run.dir=unbroken").code == 0
    assert fst_train(*eight, "hydra.run.dir=run", at={4: signal.SIGINT}).code == 1
    assert fst_train("ckpt=run").code == 0
    assert_same(losses("run"), losses("unbroken"))


def test_what_a_diverse_model_is_not_for(fst_train: Run, tiny: list[str], diverse: list[str]) -> None:
    ended = fst_train(*diverse, "method.diversity_weight=-1")
    assert (ended.code, ended.error) == (2, "method.diversity_weight must be a number of 0 or more, not -1")
    assert fst_train(*diverse, "styles=[woodcut,pointillism]").error == "styles is for method=multi: add that"
    assert fst_train(*diverse, "hydra.run.dir=run", export=True).code == 0
    base = [word for word in tiny if not word.startswith("style=")]
    added = ["method=multi", "init=run/stained_glass.onnx", "add_style=woodcut", "freeze=true"]
    assert fst_train(*base, *added).error.endswith("takes no further style: it was learnt with method=diverse")


@pytest.mark.slow
def test_two_processes_learn_several_styles(losses: Losses, fst_train: Run, several: list[str]) -> None:
    ended = fst_train(*several, *TWO, "adjustable=true", "hydra.run.dir=two")
    assert (ended.code, ended.err) == (0, "")
    assert list(losses("two")) == [1, 2, 3, 4]


def test_a_sweep_over_lists_of_styles(fst_train: Run, several: list[str]) -> None:
    base = [word for word in several if not word.startswith("styles=")]
    ended = fst_train("-m", *base, "styles=[woodcut,pointillism],[woodcut,stained_glass]", "hydra.sweep.dir=s")
    assert (ended.code, ended.error) == (0, "")
    assert {path.name for path in Path("s").iterdir() if path.is_dir()} == {"0_multi", "1_multi"}


@pytest.mark.slow
def test_any_style_learns_stops_goes_on_and_leaves_both_files(
    losses: Losses, fst_train: Run, tiny: list[str], tmp_path: Path
) -> None:
    """A folder with a space in its name, beside a style; resumed, the same styles and crops are drawn."""
    folder = tmp_path / "old paintings"
    folder.mkdir()
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (50, 40), colour).save(folder / f"{number}.png")
    given = [word for word in tiny if not word.startswith("style")]
    given += ["method=adain", f"styles=[{folder},woodcut]", "trainer.max_steps=4", "trainer.checkpoint_every_n_steps=2"]
    assert fst_train(*given, "hydra.run.dir=unbroken").code == 0
    stopped = fst_train(*given, at={2: signal.SIGINT})
    assert stopped.error.startswith("stopped at step 2; go on with: fst train ckpt=")
    ended = fst_train("ckpt=last", export=True)
    (run,) = Path("runs/any").iterdir()
    assert (ended.code, ended.err) == (0, "")
    use = f"use it: fst stylize PHOTO.jpg --style {run.resolve()}/any.onnx --style-image PICTURE.jpg -o out/"
    assert use in ended.out
    assert_same(losses(run), losses(Path("unbroken")))
    recipe = bundle.read_recipe(run / "any.onnx", verify=True)
    assert (recipe.method, recipe.steps, recipe.styles) == ("adain", 4, [])
    assert recipe.inputs == {"style_code": 512, "strength": 1.0}
    assert bundle.read_recipe(run / "any.encoder.onnx", verify=True).inputs == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=adain"], r"method=adain learns from styles=\[FOLDER,wave,...\]: folders, pictures or styles"),
        (["method=adain", "styles=nowhere/"], "styles=nowhere/: no such folder or picture"),
        (["method=adain", "styles=[wav]"], "no style is called 'wav': did you mean wave"),
        (["method=adain", "styles=wave", "adjustable=true"], "learns from .* alone"),
        (["method=adain", "styles=wave", "net.encoder.tap=relu2_1"], "cannot be painted from"),
    ],
)
def test_any_style_without_styles_is_one_line(fst_train: Run, tiny: list[str], words: list[str], said: str) -> None:
    ended = fst_train(*(word for word in tiny if not word.startswith("style")), *words)
    assert ended.code == 2
    assert re.search(said, ended.error)
    assert "\n" not in ended.error
