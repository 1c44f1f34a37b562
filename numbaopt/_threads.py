"""Shares one large vector operation among threads, without Numba's threading layers.

Compiled code runs without the GIL, so ordinary threads do; unlike Numba's layers they may be used from several threads
at once, and after a fork the child simply starts its own.  Coordinates are independent of each other, so the result
does not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import numba

from ._interrupts import Interrupts

SHARE = 1 << 16  # coordinates that make a thread worth waking
_pool: Any = None


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def workers() -> Any:
    """The threads of this process."""
    global _pool
    if _pool is None:
        from concurrent.futures import ThreadPoolExecutor

        _pool = ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, "numbaopt")
    return _pool


def in_parts(work: Callable[[int, int], None], size: int) -> None:
    """Call ``work(low, high)`` on contiguous parts that cover ``range(size)``, at the same time."""
    threads = min(numba.get_num_threads(), size // SHARE)
    if threads < 2:
        work(0, size)
        return
    cuts = [size * k // threads & ~63 for k in range(threads)] + [size]
    others = [workers().submit(work, low, high) for low, high in itertools.pairwise(cuts[1:])]
    work(cuts[0], cuts[1])
    for other in others:
        other.result()


def share_out(work: Callable[[int, int], Iterator[None]], parts: int, threads: int) -> None:
    """Do ``work(k, thread)`` for every part ``k``, on at most ``threads`` threads, each with a number of its own.

    Work yields where it may be left: there, and nowhere else, Ctrl-C ends all of it, and no thread works on after it.
    """
    threads, ended, interrupts = min(threads, parts), False, Interrupts()
    left = itertools.count()

    def run(thread: int) -> None:
        while (k := next(left)) < parts:  # one step of the interpreter: no two threads get the same part
            for _ in work(k, thread):
                if thread == 0:
                    with interrupts.heeded():
                        pass
                if ended:
                    return

    with interrupts:
        others = [workers().submit(run, thread) for thread in range(1, threads)]
        try:
            run(0)
        except BaseException:
            ended = True
            raise
        finally:
            for other in others:
                other.result()
