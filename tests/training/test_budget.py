"""What a budget of time is spent on: planned by numbers, measured, kept to."""

import re
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Timer

from fst import bundle
from fst.errors import UsageError
from fst.export import model
from fst.inference.stylizer import Stylizer
from fst.training.budget import Budget, Measured, Plan, plan
from fst.training.tasks import PerStyleTask

Run = Callable[..., Any]  # fst_train of conftest.py
Losses = Callable[..., dict[int, dict[str, float]]]

BUDGET = Budget(minutes=5, sizes=[128, 256], start_size=None, enough_steps=400, least_steps=100, most_steps=20000)
TOOK = Measured(step_s={128: 0.2, 256: 0.8}, start_s=5.0, look_s=4.0, look_px=256, export_s=10.0)


def planned(budget: Budget = BUDGET, took: Measured = TOOK, *, look_every: int = 0) -> Plan:
    return plan(budget, took, spent_s=20.0, grow_share=0.7, look_every=look_every)


def test_a_smaller_size_is_taken_where_the_larger_leaves_too_few_steps() -> None:
    # 256 px: 0.9 (300 - 20 - 5 - 2 (4 + 10)) / 0.8 = 277 steps, which is not enough. At 128 px a look takes 1 s:
    # 0.9 (300 - 20 - 5 - 2 (1 + 10)) / 0.2 = 0.9 253 / 0.2 = 1138.5.
    chosen = planned()
    assert chosen == Plan(128, None, 1138, 253, pytest.approx(20 + 5 + 1138 * 0.2 + 1 + 10))
    assert chosen.settings == {
        "data.size": 128,
        "data.start_size": None,
        "trainer.max_steps": 1138,
        "trainer.max_time": "00:00:04:13",
    }


def test_growing_crops_cost_what_their_pixels_do() -> None:
    # Steps at 128, 160, 192 and 224 px take 0.2 + 0.6 (side^2 - 128^2) / (256^2 - 128^2) s: 0.2, 0.3125, 0.45, 0.6125.
    # 0.7 of their mean and 0.3 of 0.8 is 0.515625; 0.9 247 / 0.515625 = 431.1.
    chosen = planned(replace(BUDGET, start_size=128))
    assert (chosen.size, chosen.start_size, chosen.max_steps) == (256, 128, 431)


def test_looks_on_the_way_are_counted() -> None:
    assert planned(look_every=50).max_steps == 1035  # 227.7 / (0.2 + 1 / 50)


def test_no_more_steps_than_make_a_better_network() -> None:
    chosen = planned(replace(BUDGET, minutes=1000))
    assert (chosen.size, chosen.max_steps) == (256, 20000)
    assert chosen.total_s == 25 + 20000 * 0.8 + 14
    endless = planned(replace(BUDGET, minutes=None))
    assert endless == Plan(256, None, 20000, None, chosen.total_s)
    assert "trainer.max_time" not in endless.settings
    assert planned(replace(BUDGET, minutes=100)).settings["trainer.max_time"] == "00:01:39:07"
    week = planned(replace(BUDGET, minutes=7 * 24 * 60)).settings["trainer.max_time"]
    assert week == "06:23:59:07"
    assert Timer(week).time_remaining() == ((6 * 24 + 23) * 60 + 59) * 60 + 7


def test_too_little_time_is_refused_and_what_it_says_is_enough() -> None:
    short = replace(BUDGET, minutes=1)
    with pytest.raises(UsageError) as refused:  # 25 + 22 + 100 0.2 / 0.9 = 69.2 s
        planned(short)
    assert str(refused.value) == ("budget.minutes=1 is too little for 100 steps on this machine: give it 1.2 or more")
    assert planned(replace(short, minutes=1.2)).max_steps >= 100


def test_what_is_typed_is_not_chosen() -> None:
    typed = BUDGET.with_typed(size=192, start_size="auto", max_steps=300)
    assert typed == replace(BUDGET, sizes=[192], enough_steps=300, least_steps=300, most_steps=300)
    growing = replace(BUDGET, start_size=96)
    assert growing.with_typed(size=64, start_size="auto", max_steps="auto") == replace(
        growing, sizes=[64], start_size=64
    )
    assert growing.with_typed(size="auto", start_size=None, max_steps="auto").start_size is None
    assert growing.with_typed(size="auto", start_size=160, max_steps="auto") == replace(
        BUDGET, sizes=[256], start_size=160
    )


def test_processes_share_the_cores_and_begin_later() -> None:
    assert TOOK.for_processes(1, on_cpu=True, join_s=7) is TOOK
    assert TOOK.for_processes(2, on_cpu=True, join_s=7) == replace(TOOK, step_s={128: 0.4, 256: 1.6}, start_s=12.0)
    assert TOOK.for_processes(2, on_cpu=False, join_s=7) == replace(TOOK, start_s=12.0)


@pytest.fixture
def free(tiny: list[str]) -> list[str]:
    """As `tiny`, with size and steps left to a budget."""
    left = ("data.size=", "trainer.max_steps=")
    return [*(word for word in tiny if not word.startswith(left)), "samples_every_n_steps=0"]


SMALL = ["budget.sizes=[32,64]", "budget.start_size=32", "budget.enough_steps=2", "budget.least_steps=1"]
BY_HAND = ["net=fast", "adjustable=true", "loss.tv_weight=0.01", "optimizer.lr=4e-3", "compile=false"]


def test_what_is_measured_leaves_no_trace(losses: Losses, fst_train: Run, free: list[str]) -> None:
    ended = fst_train(*free, "budget=full", *SMALL, "budget.most_steps=5", "hydra.run.dir=planned")
    assert (ended.code, ended.err) == (0, "")
    line, done = ended.out.splitlines()[:2]
    wanted = r"budget without limit: net=fast, VGG-19, 5 steps of 2 crops at 32 to 64 px on 1 CPU core, about [\w ]+s"
    assert re.fullmatch(wanted, line)
    assert done.startswith("done: ")
    cfg: Any = OmegaConf.load("planned/config.yaml")
    assert (cfg.budget, cfg.data.size, cfg.data.start_size) == (None, 64, 32)
    assert (cfg.trainer.max_steps, cfg.trainer.max_time) == (5, None)

    typed = ["data.size=64", "data.start_size=32", "trainer.max_steps=5"]
    assert fst_train(*free, *BY_HAND, *typed, "hydra.run.dir=typed").code == 0
    one, other = losses("planned"), losses("typed")
    assert list(one) == list(other) == [1, 2, 3, 4, 5]
    for step, row in one.items():
        for name in ("train/total", "train/style", "lr"):
            assert row[name] == other[step][name]
    for name, value in model.read(Path("planned"))[0].state_dict().items():
        torch.testing.assert_close(value, model.read(Path("typed"))[0].state_dict()[name], rtol=0, atol=0)


def test_a_fast_network_begins_with_multi(losses: Losses, fst_train: Run, free: list[str]) -> None:
    words = ["budget=full", *SMALL, "budget.most_steps=3", "hydra.run.dir=run"]
    ended = fst_train(*(word for word in free if not word.startswith("net.")), *words)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(
        "budget without limit: net=fast from multi, VGG-19, 3 steps of 2 crops at 32 to 64 px on "
    )
    assert list(losses("run")) == [1, 2, 3]
    net, recipe = model.read(Path("run"))
    assert recipe.inputs == {"strength": 1.0, "stroke": 1.0}
    kernel = "net.trunk.0.first.conv.weight"
    learnt, began = net.state_dict()[kernel], model.read(bundle.locate("multi"))[0].state_dict()[kernel]
    assert not torch.equal(learnt, began)
    torch.testing.assert_close(learnt, began, rtol=0, atol=0.02)  # 3 steps of 4e-3 at most


def test_what_is_typed_wins(fst_train: Run, free: list[str]) -> None:
    typed = ["net=johnson", "data.size=48", "trainer.max_steps=3", "perceptual=lite", "adjustable=false"]
    ended = fst_train(*free, "budget=5min", *typed, "hydra.run.dir=run")
    assert ended.out.startswith("budget 5 min: net=johnson, lite, 3 steps of 2 crops at 48 px on 1 CPU core, about ")
    cfg: Any = OmegaConf.load("run/config.yaml")
    assert (cfg.data.size, cfg.data.start_size, cfg.trainer.max_steps) == (48, None, 3)
    assert re.fullmatch("00:00:0[0-4]:[0-5][0-9]", cfg.trainer.max_time)


def test_a_run_that_goes_on_keeps_its_plan(losses: Losses, fst_train: Run, free: list[str]) -> None:
    given = [*free, "budget=full", *SMALL, "budget.most_steps=6"]
    assert fst_train(*given, "hydra.run.dir=unbroken").code == 0
    assert fst_train(*given, "hydra.run.dir=run", at={3: signal.SIGINT}).code == 1
    ended = fst_train("ckpt=run")
    assert (ended.code, ended.error) == (0, "")
    assert "budget" not in ended.out
    for name in ("train/total", "lr"):
        assert [row[name] for row in losses("run").values()] == [row[name] for row in losses("unbroken").values()]
    cfg: Any = OmegaConf.load("run/config.yaml")
    assert (cfg.budget, cfg.data.size, cfg.data.start_size, cfg.trainer.max_steps) == (None, 64, 32, 6)
    ended = fst_train("ckpt=run", "budget=30min")
    assert (ended.code, ended.error) == (
        2,
        "budget=30min: run goes on as it was planned; leave it out, or set trainer.max_steps",
    )
    assert fst_train("ckpt=run", "budget=full", "trainer.max_steps=7").code == 0
    assert list(losses("run")) == [1, 2, 3, 4, 5, 6, 7]


def test_each_run_of_a_sweep_has_its_own(fst_train: Run, free: list[str]) -> None:
    base = [word for word in free if word != "style=stained_glass"]
    words = ["style=woodcut,pointillism", "budget=full", *SMALL, "budget.most_steps=2", "hydra.sweep.dir=s"]
    ended = fst_train("-m", *base, *words)
    assert (ended.code, ended.error) == (0, "")
    assert ended.out.count("budget without limit: net=fast, VGG-19, 2 steps") == 2


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["budget=5min", "budget.minutes=0"], "budget.minutes=0 is too little for 300 steps on this machine: give it "),
        (
            ["budget=5min", "budget.minutes=0", "data.size=64", "budget.start_size=32", "trainer.max_steps=9"],
            "budget.minutes=0 is too little for 9 steps on this machine: give it ",
        ),
        (["budget=5min", "budget.minutes=soon"], "budget.minutes=soon: wanted a number, like 5.0"),
        (["budget=full", "budget.sizes=[16]"], "data.size must be a whole number of at least 32, not 16"),
        (["budget=full", "budget.sizes=96"], "budget.sizes=96: wanted a list"),
        (["budget=full", "budget.sizes=[]"], "budget.sizes must be sides of crops in pixels, like [96,128], not []"),
        (["budget=5min", "budget.minutes=nan"], "budget.minutes must be a number of at least 0, not nan"),
        (["budget=5min", "budget.enough_steps=0"], "budget.enough_steps must be at least 1, not 0"),
        (["budget=full", "budget.most_steps=200"], "budget.least_steps=300 is more than budget.most_steps=200"),
        (["budget=full", "data.size=large"], "data.size=large: wanted a whole number"),
        (["budget=full", "data.size=64", "data.start_size=96"], "data.start_size=96 is above data.size=64"),
        (["budget=5min", "method=adain", "styles=[woodcut]"], "budget is for methods that learn given styles"),
    ],
)
def test_what_cannot_be_planned_is_one_line(fst_train: Run, free: list[str], words: list[str], error: str) -> None:
    ended = fst_train(*free, *words)
    assert (ended.code, ended.out, ended.err) == (2, "", "")
    assert ended.error.startswith(error)
    assert "\n" not in ended.error
    assert not Path("runs").exists()


def test_processes_that_others_start_cannot_be_planned_for(
    fst_train: Run, free: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GROUP_RANK", "ROLE_RANK", "LOCAL_WORLD_SIZE"):  # as torchrun does
        monkeypatch.setenv(name, "0")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert fst_train(*free, "budget=5min").error.startswith("budget plans in one process")


def least_minutes(fst_train: Run, *words: str, export: bool = False) -> float:
    """What this machine, with all that it has to do now, says that it needs."""
    refused = fst_train(*words, "budget.minutes=0.01", export=export)
    found = re.fullmatch(r"budget.minutes=0.01 is too little .* give it ([\d.]+) or more", refused.error)
    assert found
    return float(found[1])


@pytest.mark.slow
def test_a_machine_that_becomes_slow_ends_in_time(
    losses: Losses, fst_train: Run, free: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its 40 steps or more would take twice the time that there is."""
    words = [*free, "budget=5min", *SMALL, "budget.least_steps=40", "hydra.run.dir=run", "schedule=constant"]
    minutes = 4 * least_minutes(fst_train, *words)  # other work may begin beside this

    def slowly(task: PerStyleTask, *_: object) -> None:
        if any(isinstance(each, pl.callbacks.Timer) for each in task.trainer.callbacks):  # not while it is measured
            time.sleep(60 * minutes / 20)

    monkeypatch.setattr(PerStyleTask, "on_train_batch_start", slowly)
    began = time.monotonic()
    ended = fst_train(*words, f"budget.minutes={minutes}")
    took_s = time.monotonic() - began
    assert (ended.code, ended.error) == (0, "")
    steps = re.search(r"^time was up at step (\d+) of (\d+) \(trainer.max_time\)$", ended.out, re.MULTILINE)
    assert steps
    rows = losses("run")
    assert len(rows) == int(steps[1]) < int(steps[2])
    assert rows[max(rows)]["lr"] < 2e-3
    assert "val/total" in rows[max(rows)]
    assert took_s < 1.5 * 60 * minutes


@pytest.mark.slow
def test_a_model_is_ready_in_time(fst_train: Run, free: list[str]) -> None:
    words = [*free, "budget=5min", *SMALL, "budget.least_steps=20", "budget.most_steps=40", "hydra.run.dir=run"]
    minutes = 4 * least_minutes(fst_train, *words, export=True)
    began = time.monotonic()
    ended = fst_train(*words, f"budget.minutes={minutes}", export=True)
    assert (ended.code, ended.error) == (0, "")
    assert time.monotonic() - began < 60 * minutes
    photo = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    painted = Stylizer("run/stained_glass.onnx")(photo, strength=0.5)
    assert painted.shape == photo.shape
    assert np.abs(painted.astype(int) - photo).mean() > 1


@pytest.mark.slow
def test_two_processes_learn_by_one_plan(losses: Losses, fst_train: Run, free: list[str]) -> None:
    words = ["budget=full", *SMALL, "budget.most_steps=4", "trainer.devices=2", "hydra.run.dir=two"]
    ended = fst_train(*free, *words)
    assert (ended.code, ended.err) == (0, "")
    assert "4 steps of 4 crops at 32 to 64 px" in ended.out
    assert list(losses("two")) == [1, 2, 3, 4]
