"""The disk half of the engine cache: built engines as files, shared by every process of a machine.

An entry is `<digest>.engine`, the backend's own bytes and nothing else, and `<digest>.json`, which says what they are.
Whatever fails here costs a build and never a frame: the cache warns, and the engine is built again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock

from uir.runtime.atomic import atomic_output
from uir.runtime.engine_key import EngineKey
from uir.runtime.errors import UsageError
from uir.runtime.process_lock import HeldError, ProcessLock
from uir.runtime.sizes import named_size

log = logging.getLogger(__name__)

SCHEMA = 1
VARIABLE, SIZE_VARIABLE = "UIR_CACHE", "UIR_CACHE_SIZE"
DEFAULT_BUDGET = 4 * 2**30
PATIENCE = 1800.0  # seconds; the longest builds, of large networks on small devices, take some ten minutes
_TURN = 60.0  # seconds; a slow card writes a large engine in less
_LOCK = ".uir-edge.lock"
# Entries, locks, and the temporary names that atomic_output gives entries. All else in the folder is someone else's.
_OURS = re.compile(r"\.?([0-9a-f]{64})(?:\.[0-9a-f]+\.(?:part|lock))?\.(engine|json|lock)")


def default_folder() -> Path:
    """Where engines are kept: `$UIR_CACHE`, or else `uir-edge/engines` in the user's cache folder (XDG's rules)."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not caches.is_absolute():  # XDG: what is relative is to be ignored
        try:
            caches = Path.home() / ".cache"
        except RuntimeError:  # a container's user without a home; the cache's one warning says what to do
            caches = Path(os.sep, ".cache")
    return caches / "uir-edge" / "engines"


def default_budget() -> int:
    """Bytes that all engines on disk may take: `$UIR_CACHE_SIZE` (`2GiB`, `500MB`, a number of bytes), or else 4 GiB.

    Raises:
        UsageError: the variable is no size.
    """
    named = named_size(SIZE_VARIABLE)
    return DEFAULT_BUDGET if named is None else named


@dataclass(frozen=True)
class Entry:
    """One engine on disk.

    Attributes:
        digest: its key's digest, the name of its files.
        size: bytes of its files together.
        last_used: when it was last read or written, seconds since the epoch.
        about: its key's parts.
    """

    digest: str
    size: int
    last_used: float
    about: Mapping[str, Any]


class _Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """What `<digest>.json` says of `<digest>.engine`: its SHA-256, its size in bytes, and its key's parts."""

    schema: int
    sha256: str
    size: int
    about: dict[str, Any]


class _DamagedError(Exception):
    """An entry that cannot be used; the message names the file and says why."""


class DiskCache:
    """Engines on disk, at most `budget` bytes of them, the least recently used given up first.

    Example:
        >>> content = cache.get(key)
        >>> if content is None:
        ...     with cache.building(key):
        ...         content = cache.get(key)  # another process may have built it meanwhile
        ...         if content is None:
        ...             content = backend.build(model, shapes)
        ...             cache.put(key, content)

    Safe to use from many threads and processes at once. `get`, `put` and the others never raise for what is wrong with
    the folder (read-only, a full disk, no folder at all): the cache then keeps nothing, and one warning in its life
    says why and what to do. What can be read still is. So it is where another process does not let go of a lock.

    Writing, evicting and removing are done under one lock of the folder, which the system frees when its holder dies.
    An entry comes into being when its engine file is renamed into place, after its sidecar, and ceases to be when that
    file is removed, before its sidecar; so a process killed at any moment leaves a whole entry or none, and leavings
    that the next `put` sweeps. Reading takes no lock. A holder that is stopped is waited for once, a second or two, and
    then done without, with a warning: what is built is not kept, until the lock can be had again.

    Args:
        folder: where the engines lie; made when the first is written. Files there that are not the cache's own are
            left alone and not counted.
        budget: bytes that all entries may take.
        patience: seconds to wait for another process that builds the same engine.
    """

    def __init__(self, folder: Path, budget: int = DEFAULT_BUDGET, *, patience: float = PATIENCE) -> None:
        self.folder, self.budget = folder, budget
        self._patience = patience
        self._warned: set[bool] = set()
        self._warning = threading.Lock()
        self._stuck = False

    def get(self, key: EngineKey) -> bytes | None:
        """The engine's bytes, or None where there are none that are whole and its own.

        A hit makes the entry the most recently used. A damaged entry is removed, with a warning that names the file
        and what is wrong with it.
        """
        try:
            try:
                return self._read(key)
            except _DamagedError as damage:
                return self._read_again(key, damage)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self._degrade(error)
            return None

    def put(self, key: EngineKey, content: bytes) -> None:
        """Keep an engine's bytes, in place of what was kept under the key, giving up others to make room.

        An engine that alone is over the budget is not kept, with a warning.
        """
        sidecar = _Sidecar(
            schema=SCHEMA, sha256=hashlib.sha256(content).hexdigest(), size=len(content), about=dict(key.parts)
        )
        text = msgspec.json.format(msgspec.json.encode(sidecar), indent=2)
        size = len(content) + len(text)
        if size > self.budget:
            log.warning(
                "%s: an engine of %d bytes is over the budget of %d and is not kept, so that each start builds it "
                "again; allow more by %s, such as 8GiB",
                self.folder,
                size,
                self.budget,
                SIZE_VARIABLE,
            )
            return
        engine, note = self._paths(key.digest)
        try:
            with self._turn():
                self._remove(key.digest)
                self._sweep()
                self._evict(self.budget - size)
                # The outer file is renamed last.
                with atomic_output(engine) as new_engine, atomic_output(note) as new_note:
                    new_engine.write_bytes(content)
                    new_note.write_bytes(text)
                    _touch(new_engine)
        except OSError as error:
            self._degrade(error)

    @contextmanager
    def building(self, key: EngineKey) -> Iterator[None]:
        """Hold the right to build an engine: among all threads and processes, one at a time has it for a key.

        It is freed when its holder dies. Where it cannot be had within `patience`, since another process builds on
        and on, or as soon as that process stands still, the block runs without it, with a warning: the engine is then
        built twice, and either is good. So it does in a folder where nothing can be written, which `put` will say.
        """
        lock = ProcessLock(self.folder / f"{key.digest}.lock")
        try:
            self._make_folder()
            self._acquire(lock, 0.0)
        except HeldError:
            self._wait(lock)
        except OSError as error:
            log.debug("%s: no lock: %s", self.folder, error)
        try:
            yield
        finally:
            lock.release()

    def entries(self) -> list[Entry]:
        """What is kept, the least recently used first."""
        found = []
        for name in self._names():
            match = _OURS.fullmatch(name)
            if match and name == f"{match[1]}.engine":
                with suppress(_DamagedError, OSError):  # OSError: it went while it was looked at
                    found.append(self._inspect(match[1])[0])
        return sorted(found, key=lambda entry: (entry.last_used, entry.digest))

    def remove(self, key: EngineKey) -> None:
        """Give up one engine, such as one that its backend does not load; one that is not there is no error."""
        try:
            if self.folder.is_dir():
                with self._turn():
                    self._remove(key.digest)
        except OSError as error:
            self._degrade(error)

    def clear(self) -> tuple[int, int]:
        """Give up all engines.

        Returns:
            How many there were, and their bytes.
        """
        entries = []
        try:
            if self.folder.is_dir():
                with self._turn():
                    entries = self._evict(0)
                    self._sweep()
        except OSError as error:
            self._degrade(error)
        return len(entries), sum(entry.size for entry in entries)

    def _paths(self, digest: str) -> tuple[Path, Path]:
        return self.folder / f"{digest}.engine", self.folder / f"{digest}.json"

    def _names(self) -> list[str]:
        try:
            return [path.name for path in self.folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._degrade(error)
            return []

    def _read(self, key: EngineKey) -> bytes:
        """An entry's engine, checked and touched. Raises FileNotFoundError where there is none, or _DamagedError."""
        engine, _ = self._paths(key.digest)
        _, sidecar = self._inspect(key.digest)
        content = engine.read_bytes()
        if hashlib.sha256(content).hexdigest() != sidecar.sha256:
            raise _DamagedError(f"{engine}: its content is not what was written (its SHA-256 differs)")
        with suppress(OSError):  # a folder that is read-only is good for reading
            _touch(engine)
        return content

    def _read_again(self, key: EngineKey, damage: _DamagedError) -> bytes | None:
        """Once more while nobody writes, since an entry that is being replaced may look damaged; then remove it."""
        try:
            with self._turn():
                try:
                    return self._read(key)
                except _DamagedError as error:
                    damage = error
                    self._remove(key.digest)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._degrade(error)
        log.warning("%s; this engine is built again", damage)
        return None

    def _inspect(self, digest: str) -> tuple[Entry, _Sidecar]:
        """An entry as its sidecar and the system tell, its engine unread.

        Raises:
            FileNotFoundError: there is none.
            _DamagedError: its two files do not go together.
        """
        engine, note = self._paths(digest)
        status = engine.stat()
        try:
            for path, mode in ((engine, status.st_mode), (note, note.stat().st_mode)):
                if not stat.S_ISREG(mode):  # a pipe would be waited for
                    raise _DamagedError(f"{path}: is not a file")
            text = note.read_bytes()
            sidecar = msgspec.json.decode(text, type=_Sidecar)
            about = EngineKey(sidecar.about)
        except FileNotFoundError as error:
            raise _DamagedError(f"{engine}: its {note.name} is missing") from error
        except (msgspec.DecodeError, UnicodeDecodeError, UsageError, RecursionError) as error:
            raise _DamagedError(f"{note}: not an engine's description: {error}") from error
        if sidecar.schema != SCHEMA:
            raise _DamagedError(f"{note}: is of schema {sidecar.schema}, and this version reads schema {SCHEMA}")
        if about.digest != digest:
            raise _DamagedError(f"{note}: describes another engine")
        if status.st_size != sidecar.size:
            raise _DamagedError(f"{engine}: has {status.st_size} bytes, and {sidecar.size} were written")
        return Entry(digest, status.st_size + len(text), status.st_mtime, sidecar.about), sidecar

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # an engine is code: let no one else put one here

    def _turn(self) -> AbstractContextManager[object]:
        """The folder's lock, which all that changes entries is done under. Raises OSError where it cannot be had."""
        self._make_folder()
        lock = ProcessLock(self.folder / _LOCK)
        self._acquire(lock, min(_TURN, self._patience))
        return lock

    def _wait(self, lock: ProcessLock) -> None:
        log.info("%s: waiting for another process that builds the same engine", lock.path)
        try:
            self._acquire(lock, self._patience)
        except HeldError as error:
            if self._stuck:
                self._degrade(error)
                return
            log.warning(
                "%s: another builder has held this for %g s; the engine is built here too", lock.path, self._patience
            )
        except OSError as error:
            log.debug("%s: no lock: %s", self.folder, error)

    def _acquire(self, lock: ProcessLock, patience: float) -> None:
        """The lock, not waited for again once a holder stood still."""
        try:
            lock.acquire(0.0 if self._stuck else patience)
        except HeldError as error:
            self._stuck = self._stuck or error.silent
            raise
        self._stuck = False

    def _remove(self, digest: str) -> None:
        for path in self._paths(digest):  # the engine first
            path.unlink(missing_ok=True)

    def _evict(self, budget: int) -> list[Entry]:
        """Remove the least recently used entries until the others fit the budget; the caller has the folder's lock."""
        entries = self.entries()
        total, evicted = sum(entry.size for entry in entries), []
        for entry in entries:
            if total <= budget:
                break
            self._remove(entry.digest)
            total -= entry.size
            evicted.append(entry)
        return evicted

    def _sweep(self) -> None:
        """Remove all that is the cache's own and no part of an entry; the caller has the folder's lock.

        Only its holder writes, so that a temporary file is a dead process's.
        """
        ours = [match for match in map(_OURS.fullmatch, self._names()) if match]
        broken = {digest for digest in {match[1] for match in ours} if self._is_broken(digest)}
        for match in ours:
            if match[1] not in broken and not match[0].startswith("."):
                continue
            path = self.folder / match[0]
            with suppress(OSError):  # another user's, or a lock that a builder holds
                if match[2] == "lock":
                    with FileLock(path).acquire(timeout=0):
                        path.unlink()
                else:
                    path.unlink(missing_ok=True)

    def _is_broken(self, digest: str) -> bool:
        """Whether there is no entry that anyone could use. One that this user may not read is another's."""
        try:
            self._inspect(digest)
        except (FileNotFoundError, _DamagedError):
            return True
        except OSError:
            return False
        return False

    def _degrade(self, error: OSError) -> None:
        held = isinstance(error, HeldError)
        with self._warning:
            warned = held in self._warned
            self._warned.add(held)
        if warned:
            return
        if held:
            log.warning("%s; going on without the cache: what is built here may not be kept", error)
            return
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        taken = isinstance(cause, (FileExistsError, NotADirectoryError))
        reason = "it is not a folder" if taken else cause.strerror or str(cause)
        log.warning(
            "%s: no engines are kept here, so that each start builds them again: %s; give it room and the right to "
            "write, or set %s to another folder",
            self.folder,
            reason,
            VARIABLE,
        )


def _touch(path: Path) -> None:
    """Note the use of an engine, by a finer clock than the system's own for files."""
    now = time.time_ns()
    os.utime(path, ns=(now, now))
