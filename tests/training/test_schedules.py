"""fst.training.schedules and precision."""

import itertools
import math

import pytest
import torch
from torch.optim import SGD

from fst.errors import UsageError
from fst.training import precision
from fst.training.schedules import constant, cosine


def rates(schedule: object, steps: int, **settings: float) -> list[float]:
    """The learning rate that each step is made with, starting from 2."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = schedule(optimizer, max_steps=steps, **settings)  # type: ignore[operator]
    seen = []
    for _ in range(steps + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()  # type: ignore[attr-defined]
    return seen


def test_constant() -> None:
    assert rates(constant, 5) == [2.0] * 6


def test_cosine_by_hand() -> None:
    got = rates(cosine, 100, warmup_steps=4, final=0.1)
    assert got[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert got[52] == pytest.approx(2 * (0.1 + 0.9 * 0.5))  # half-way from 4 to 100
    assert got[28] == pytest.approx(2 * (0.1 + 0.45 * (1 + math.cos(math.pi / 4))))
    assert got[100] == pytest.approx(0.2)
    assert all(a >= b for a, b in itertools.pairwise(got[4:]))


def test_the_warm_up_of_a_short_run_is_a_tenth_of_it() -> None:
    assert rates(cosine, 50)[:6] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.0])
    assert rates(cosine, 5)[0] == pytest.approx(2.0)
    assert rates(cosine, 1)[0] == pytest.approx(2.0)
    assert rates(cosine, 100, warmup_steps=0)[0] == pytest.approx(2.0)


def test_a_schedule_goes_on_from_its_state() -> None:
    def make() -> tuple[SGD, torch.optim.lr_scheduler.LRScheduler]:
        optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
        return optimizer, cosine(optimizer, max_steps=40)

    (first, schedule), (second, again) = make(), make()
    for _ in range(17):
        first.step()
        schedule.step()
    again.load_state_dict(schedule.state_dict())
    second.load_state_dict(first.state_dict())
    first.step(), second.step()
    schedule.step(), again.step()
    assert second.param_groups[0]["lr"] == first.param_groups[0]["lr"] == pytest.approx(rates(cosine, 40)[18])


def test_runs_without_an_end_and_wrong_ends() -> None:
    """Lightning says -1 for a run that only a time limit ends."""
    with pytest.raises(UsageError, match=r"ends at trainer\.max_steps: set it, or choose schedule=constant"):
        rates(cosine, -1)
    for final in (-0.1, math.nan, "low"):
        with pytest.raises(UsageError, match=r"schedule\.final must be a number of 0 or more"):
            rates(cosine, 10, final=final)  # type: ignore[arg-type]


def test_precision_that_was_asked_for_is_taken() -> None:
    assert precision.choose("bf16-true", "cpu") == "bf16-true"
    assert precision.choose(32, "gpu") == "32"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("accelerator", "cuda", "cpu_bf16", "gpu_bf16", "mps", "expected"),
    [
        ("cpu", True, True, False, False, "bf16-mixed"),
        ("cpu", True, False, True, False, "32-true"),
        ("auto", False, True, False, False, "bf16-mixed"),
        ("auto", True, True, False, False, "32-true"),
        ("auto", True, False, True, False, "bf16-mixed"),
        ("gpu", True, False, True, False, "bf16-mixed"),
        ("auto", False, True, False, True, "32-true"),
        ("gpu", False, True, False, True, "32-true"),
        ("mps", False, True, False, True, "32-true"),
    ],
)
def test_precision_by_the_machine(
    monkeypatch: pytest.MonkeyPatch,
    accelerator: str,
    cuda: bool,
    cpu_bf16: bool,
    gpu_bf16: bool,
    mps: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu_bf16)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: cpu_bf16)
    assert precision.choose("auto", accelerator) == expected


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({"avx2": True, "avx512_bf16": False}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)],
)
def test_processors_with_bfloat16(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert precision.cpu_has_bf16() is expected
