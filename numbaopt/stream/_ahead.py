"""Reading ahead: the next item is made in a thread while the caller works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

END = object()


class ReadAhead:
    """Iterate over ``items`` in a thread, one ahead: at any time one item is worked on and one is made or waits.

    Use it as a context: at its end the thread stops, once the item that it is about to make is made.  Exceptions of
    ``items`` come out of the iteration.  Items for which ``heavy`` is false are handed over without a pause.
    """

    def __init__(self, items: Iterator[Any], heavy: Any = bool):
        self._items, self._heavy = items, heavy
        self._ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._taken = threading.Semaphore(0)
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="numbaopt read-ahead", daemon=True)

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stopping = True
        self._taken.release()
        self._thread.join()

    def __iter__(self) -> Iterator[Any]:
        while (item := self._ready.get()) is not END:
            if isinstance(item, _Failure):
                raise item.error
            if self._heavy(item):
                self._taken.release()
            yield item

    def _work(self) -> None:
        try:
            for item in self._items:
                self._ready.put(item)
                if self._heavy(item):
                    del item  # it is the caller's now
                    self._taken.acquire()
                if self._stopping:
                    return
            self._ready.put(END)
        except BaseException as error:
            self._ready.put(_Failure(error))


class _Failure:
    def __init__(self, error: BaseException):
        self.error = error
