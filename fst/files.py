"""Files written whole or not at all."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fst.errors import FstError

# What a disk says that is full, too small, worn out or read-only. These arrive without a file name.
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; what was written there becomes `path` when the block ends without an error.

    Parent folders are created. The temporary file exists (empty) from the start, so a place that cannot be written is
    refused before any work; it is hidden, keeps the suffix, follows the umask, is flushed to the disk before the
    rename, and is gone after a failure, when `path` is as it was before. A symbolic link stays one: its target is
    replaced.

    Raises:
        FstError: the folder or the disk refuses (no permission, disk full, `path` is a folder). Other errors raised in
            the block, OSErrors about other files and connections among them, pass unchanged.
    """
    target = Path(os.path.realpath(path))
    part = target.with_name(f".{target.stem[:40]}.{secrets.token_hex(4)}.part{target.suffix}")
    try:
        try:
            if target.exists() and not target.is_file():
                what = "is a folder" if target.is_dir() else "is not an ordinary file"
                raise FstError(f"{path}: {what}; give the name of a file to write")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except OSError as error:
            raise _cannot_write(path, error) from error
        try:
            yield part
            with open(part, "r+b") as file:
                os.fsync(file.fileno())
            os.replace(part, target)
        except OSError as error:
            named = {os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)}
            if named & {str(part), str(target)} or (not named and error.errno in _DISK_ERRORS):
                raise _cannot_write(path, error) from error
            raise
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> FstError:
    """Say in one line that `path` cannot be written, and why."""
    todo = "free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "give another place"
    return FstError(f"{path}: cannot be written ({(error.strerror or str(error)).lower()}); {todo}")
