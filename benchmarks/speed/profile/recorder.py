"""The phases of a process: seconds, calls and memory of each, and the packages that it imports."""

from __future__ import annotations

import builtins
import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

IMPORTS = "imports: "
STANDARD = "standard library"
ELSE = "everything else"
_PAGES = Path("/proc/self/status")
_PEAK = Path("/proc/self/clear_refs")


class Recorder:
    """Measures phases of the main thread; the time of a phase within another counts for the inner one only.

    Attributes:
        seconds: Seconds of each phase, in the order in which the phases began.
        cores: Seconds of each phase in which a core worked for this process, summed over its cores.
        calls: How often each phase began.
        memory: (memory at the end, highest memory) of each phase in MiB; imports have none of their own.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {ELSE: 0.0}
        self.cores: dict[str, float] = {ELSE: 0.0}
        self.calls: dict[str, int] = {ELSE: 1}
        self.memory: dict[str, tuple[int, int]] = {}
        self._stack = [ELSE]
        self._since, self._worked = time.perf_counter(), time.process_time()
        self._thread = threading.get_ident()

    @property
    def is_here(self) -> bool:
        """Whether this is the thread that is measured."""
        return threading.get_ident() == self._thread

    @property
    def current(self) -> str:
        """The phase that is running."""
        return self._stack[-1]

    @property
    def _outer(self) -> str:
        """The phase around what is running, if it has a name of its own."""
        named = (name for name in reversed(self._stack) if name != ELSE and not name.startswith(IMPORTS))
        return next(named, "").partition(":")[0]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures the block as a phase; within another one, its name follows that of the other one."""
        outer = self._outer
        if outer and not name.startswith(IMPORTS):
            name = f"{outer}: {name}"
        self._leave()
        self._stack.append(name)
        self._begin(name)
        try:
            yield
        finally:
            self._leave()
            self._stack.pop()

    def switch(self, name: str) -> None:
        """Ends the phase that is running and begins another one in its place."""
        self._leave()
        self._stack[-1] = name
        self._begin(name)

    def finish(self) -> None:
        """Adds the time and the memory of the phase that is running."""
        self._leave()

    def _begin(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1
        self.seconds.setdefault(name, 0.0)
        self.cores.setdefault(name, 0.0)

    def _leave(self) -> None:
        now, worked, name = time.perf_counter(), time.process_time(), self._stack[-1]
        self.seconds[name] += now - self._since
        self.cores[name] += worked - self._worked
        if not name.startswith(IMPORTS):
            rss, peak = _memory()
            self.memory[name] = rss, max(peak, self.memory.get(name, (0, 0))[1])
        self._since, self._worked = time.perf_counter(), time.process_time()


def watch_imports(recorder: Recorder, imported: Callable[[], None]) -> None:
    """Measures imports by the package that is imported, wherever they happen.

    Args:
        recorder: Gets a phase for each package.
        imported: Called after each import of modules.
    """
    load, load_by_name = builtins.__import__, importlib.import_module

    def measured(package: str, call: Callable[[], Any]) -> Any:
        phase = IMPORTS + (STANDARD if package in sys.stdlib_module_names else package)
        if not recorder.is_here or recorder.current == phase:
            return call()
        known = len(sys.modules)
        with recorder.phase(phase):
            made = call()
        if len(sys.modules) != known:
            imported()
        return made

    def timed(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
        whole = _absolute(name, str((globals or {}).get("__package__") or ""), level)
        if _is_there(whole, fromlist):
            return load(name, globals, locals, fromlist, level)
        return measured(whole.partition(".")[0], lambda: load(name, globals, locals, fromlist, level))

    def timed_by_name(name: str, package: str | None = None) -> Any:
        level = len(name) - len(name.lstrip("."))
        whole = _absolute(name[level:], package or "", level)
        if _is_there(whole, ()):
            return load_by_name(name, package)
        return measured(whole.partition(".")[0], lambda: load_by_name(name, package))

    builtins.__import__, importlib.import_module = timed, timed_by_name


def _absolute(name: str, package: str, level: int) -> str:
    """Returns the full name of a module that is imported in a package."""
    if not level:
        return name
    base = package.rsplit(".", level - 1)[0]
    return f"{base}.{name}" if name else base


def _is_there(name: str, wanted: Any) -> bool:
    """Returns whether a module is imported with all that is wanted of it. Functions import again and again."""
    module = sys.modules.get(name)
    return module is not None and all(one in vars(module) for one in wanted or ())


def _memory() -> tuple[int, int]:
    """Returns the memory of this process and its highest value since the last call, in MiB."""
    try:
        fields = dict(line.split(":", 1) for line in _PAGES.read_text().splitlines() if ":" in line)
        found = int(fields["VmRSS"].split()[0]) >> 10, int(fields["VmHWM"].split()[0]) >> 10
        _PEAK.write_text("5")  # Resets the highest value alone; see proc_pid_clear_refs(5).
    except (OSError, KeyError):  # Not Linux.
        return 0, 0
    return found
