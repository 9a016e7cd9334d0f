"""fst.training.memory: what a step frees is there for the next one."""

import resource
import subprocess
import sys

import pytest

LOOP = """
import sys, torch
from fst.training.memory import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(3)
import resource
for step in range(40):
    if step == 30:  # before 2.38, glibc takes some steps until a freed block is where an aligned one fits
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(20_000_000).add_(1)  # 80 MB, as large as the features of a photo batch
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
def test_steps_cost_no_page_faults() -> None:
    def faults(how: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", LOOP, how], capture_output=True, text=True)

    kept = faults("keep")
    if kept.returncode == 3:
        pytest.skip("needs glibc")
    pages = 10 * 80_000_000 // resource.getpagesize()
    assert int(kept.stdout) < pages / 100 < int(faults("as it is").stdout)
