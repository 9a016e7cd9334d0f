"""What a run changes around itself: environment variables and signals, which it puts back, and noisy libraries."""

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from fst.errors import FstError
from fst.training.callbacks import StopOnSignal


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable while the block lasts."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Answer SIGTERM like Ctrl-C where nothing else does, and leave signals as they were: Lightning does not."""
    before = {which: signal.getsignal(which) for which in StopOnSignal.signals}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


@contextmanager
def fitting(stop: StopOnSignal) -> Iterator[None]:
    """Around Lightning's fit: a Ctrl-C that cannot end it in good order is a KeyboardInterrupt again."""
    try:
        yield
    except SystemExit as error:  # how Lightning ends after Ctrl-C
        raise KeyboardInterrupt from error
    except Exception as error:  # a signal to the whole group ends the processes that read photos, too
        if stop.received is None or isinstance(error, FstError):
            raise
        raise KeyboardInterrupt from error


def quieten() -> None:
    """Keep what the libraries say about themselves from the terminal."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "torch.distributed"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")
    warnings.filterwarnings("ignore", message=".*treespec.*", category=FutureWarning)
    warnings.filterwarnings("ignore", message="Detected pickle protocol")
