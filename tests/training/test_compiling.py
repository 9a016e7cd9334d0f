"""fst.training.compiling: where it pays, with a reason where it is left out, and the same numbers."""

import pytest
import torch
from torch import nn

from fst import nets
from fst.errors import UsageError
from fst.training.compiling import compile_modules, eagerly, why_not

CPU = torch.device("cpu")


def small() -> nn.Module:
    torch.manual_seed(0)
    return nets.build({"name": "johnson", "width": 4, "blocks": 1})


@pytest.mark.parametrize("asked", ["auto", False])
def test_left_out_on_a_cpu(asked: bool | str) -> None:
    net = small()
    assert compile_modules([net], asked, CPU) is None
    assert net._compiled_call_impl is None


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    net = small()
    line = compile_modules([net], True, CPU)
    assert line == "not compiled: no C++ compiler was found (set CXX, or install g++ or clang)"
    assert net(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_a_compiler_named_by_cxx() -> None:
    assert why_not(CPU, {"c++": "/usr/bin/c++"}.get) is None
    assert why_not(CPU, {}.get) is not None


def test_another_value() -> None:
    with pytest.raises(UsageError, match="auto, true or false"):
        compile_modules([small()], "yes", CPU)


@pytest.mark.slow
def test_compiled_it_learns_the_same() -> None:
    if why_not(CPU):
        pytest.skip("needs a C++ compiler")
    photos = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    eager, compiled = small().train(), small().train()
    assert compile_modules([compiled], True, CPU) is None
    results = [net(photos) for net in (eager, compiled)]
    for result in results:
        result.square().mean().backward()
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
    for mine, theirs in zip(compiled.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-6)
    with eagerly():
        torch.testing.assert_close(compiled(photos), eager(photos), rtol=0, atol=0)
