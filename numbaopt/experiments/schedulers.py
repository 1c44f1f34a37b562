"""Where runs are made: in this process, in processes of this machine, or on a Dask cluster.

All three are executors in the sense of `concurrent.futures`, so that nobody else needs to know.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from .schema import ExperimentError

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
                            "VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS"), "1")  # fmt: skip
PATIENCE_SECONDS = 10.0  # with a scheduler that does not answer


class Pool:
    """An executor, and how many runs it makes at a time.

    Attributes
    ----------
    width : int
        Runs at a time.
    here : bool
        Whether they are made by processes of this machine.
    """

    def __init__(self, make: Callable[[], Executor], width: int, here: bool = True):
        self.make, self.width, self.here = make, width, here
        self.executor = make()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Let it be called some time."""
        return self.executor.submit(function, *arguments)

    def renew(self) -> None:
        """Another executor in the place of one that has lost a process."""
        self.close()
        self.executor = self.make()

    def close(self) -> None:
        """End at once, whatever still runs."""
        how = {"kill_workers": True} if "loky" in type(self.executor).__module__ else {"cancel_futures": True}
        self.executor.shutdown(wait=True, **how)


class Here(Executor):
    """Calls functions at once, in this thread."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future:
        future: Future = Future()
        try:
            future.set_result(function(*arguments, **named))
        except Exception as error:
            future.set_exception(error)
        return future


@contextmanager
def pool(jobs: int, scheduler: str | None = None) -> Iterator[Pool]:
    """Where runs are made.

    Parameters
    ----------
    jobs : int
        Processes of this machine; 1: this one.
    scheduler : str, optional
        The address of a Dask scheduler, or "local" for a cluster of ``jobs`` processes.

    Raises
    ------
    ExperimentError
        If there is no such scheduler, or Dask is not installed.
    """
    if scheduler is not None:
        with _cluster(jobs, scheduler) as client:
            width = sum(client.nthreads().values())
            yield Pool(client.get_executor, max(1, width), here=scheduler == "local")
        return
    made = Pool(Here, 1) if jobs == 1 else Pool(functools.partial(_processes, jobs), jobs)
    try:
        yield made
    finally:
        made.close()


def _processes(jobs: int) -> Executor:
    from joblib.externals.loky import ProcessPoolExecutor

    return ProcessPoolExecutor(jobs, timeout=None, initializer=serve, initargs=(os.getpid(),), env=ONE_THREAD)


def serve(parent: int) -> None:
    """Make this process a worker: Ctrl-C is its parent's to heed, and it ends when that does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()


@contextmanager
def _cluster(jobs: int, scheduler: str) -> Iterator[Any]:
    """A client of a Dask cluster."""
    try:
        import dask
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise ExperimentError("--scheduler needs dask and distributed: pip install 'numbaopt[dask]'") from None
    if scheduler == "local":
        with (dask.config.set({"distributed.nanny.pre-spawn-environ": ONE_THREAD}),
              LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None,
                           silence_logs=logging.ERROR) as cluster,
              Client(cluster) as client):  # fmt: skip
            yield client
        return
    try:
        client = Client(scheduler, timeout=PATIENCE_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ExperimentError(f"--scheduler {scheduler}: {str(error).splitlines()[0]}") from None
    with client:
        yield client
