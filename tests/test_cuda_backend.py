"""What is said where there is no GPU to run on, and what a launch hands to the driver, which is played here."""

import ctypes
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="CUDA does not exist on this system")

from process import python

import numbaopt as no
from numbaopt.cuda import _backend, arrays
from numbaopt.cuda.step import _here

OUT_OF_MEMORY, NO_DEVICE, BROKEN, NAME = 2, 100, 803, 0


class Driver:
    """A driver that answers what it is told to."""

    def __init__(self, init=0, cuda=13000):
        self.cuInit = lambda flags: init
        self._cuda = cuda

    def cuDriverGetVersion(self, where):
        where._obj.value = self._cuda
        return 0

    def cuGetErrorName(self, status, where):
        names = {OUT_OF_MEMORY: b"CUDA_ERROR_OUT_OF_MEMORY", BROKEN: b"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"}
        where._obj.value = names[status]
        return NAME


@pytest.fixture
def played(monkeypatch):
    """Play a driver."""

    def play(driver, **names):
        monkeypatch.setattr(_backend, "driver", lambda: driver)
        monkeypatch.setattr(_backend, "_READY", False)
        monkeypatch.setattr(_backend.sys, "platform", "linux")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        for name, value in names.items():
            monkeypatch.setattr(_backend, name, value)

    return play


def test_no_driver_wrong_driver_old_driver_no_gpu_no_extra(played, monkeypatch):
    played(None)
    assert "no NVIDIA driver is installed (libcuda.so.1 is not found)" in no.cuda.why_not()
    played(Driver(NO_DEVICE))
    assert no.cuda.why_not() == "the NVIDIA driver finds no GPU"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES='' may hide it" in no.cuda.why_not()
    played(Driver(BROKEN))
    assert "does not start (CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)" in no.cuda.why_not()
    played(Driver(), find_spec=lambda name: None, _has_toolkit=lambda: False)
    assert "pip install 'numbaopt[cuda13]'" in no.cuda.why_not()
    played(Driver(cuda=12040), find_spec=lambda name: object(), _toolkit_major=lambda: 13)
    assert "runs CUDA 12.4, what is installed was made for CUDA 13" in no.cuda.why_not()
    assert "numbaopt[cuda12]" in no.cuda.why_not()
    monkeypatch.setattr(_backend.sys, "platform", "darwin")
    assert no.cuda.why_not() == "there is no CUDA for macOS"
    assert not no.cuda.is_available()


def test_a_step_without_a_gpu_says_so(played):
    played(None)
    for call in (lambda: no.cuda.init_state(no.Adam(), np.ones(3)),
                 lambda: no.cuda.step(no.Adam(), np.ones(3), np.ones(3), np.ones((2, 3)), 1)):  # fmt: skip
        with pytest.raises(no.cuda.NoDeviceError, match=r"^(init_state|step): no NVIDIA driver is installed") as caught:
            call()
        assert "NUMBA_ENABLE_CUDASIM=1 NUMBA_DISABLE_JIT=1" in str(caught.value)


def test_errors_of_libraries_become_one_sentence(played):
    played(Driver(cuda=13000))
    torchs, numbas = type("OutOfMemoryError", (RuntimeError,), {}), type("CudaAPIError", (Exception,), {"code": 2})
    for error in (torchs("x"), numbas("[2] Call to cuMemAlloc"), RuntimeError("RESOURCE_EXHAUSTED: Out of memory")):
        with pytest.raises(no.cuda.DeviceMemoryError, match=r"^init_state: the GPU has no room left .* of 8.0 MB$"), \
             _backend.told("init_state", 8_000_000):  # fmt: skip
            raise error
    for error, said in (
        ("[222] CUDA_ERROR_UNSUPPORTED_PTX_VERSION", r"too new for the driver \(CUDA 13.0\): .* nvidia-nvjitlink$"),
        ("ERROR_OUTDATED_LIBRARY (14)", r"linker is older than its compiler: pip install --upgrade nvidia-nvjitlink$"),
        ("ERROR_PTX_COMPILE (4)\nptxas fatal: Unsupported .version 9.5; current version is '9.0'", "linker is older"),
        ("libcudadevrt.a not found", r"\(cudadevrt\) is not found: pip install 'numbaopt\[cuda13\]'"),
    ):  # fmt: skip
        with pytest.raises(no.cuda.NoDeviceError, match=f"^step: .*{said}"), _backend.told("step"):
            raise RuntimeError(error)
    played(Driver(cuda=12040), _toolkit_major=lambda: 12)
    with pytest.raises(no.cuda.NoDeviceError, match=r"nvidia-nvjitlink-cu12$"), _backend.told("step"):
        raise RuntimeError("ERROR_OUTDATED_LIBRARY (14)")
    fault = type("CUDAError", (Exception,), {})("CUDA_ERROR_ILLEGAL_ADDRESS: While executing. This leaves")
    with pytest.raises(RuntimeError, match=r"^many: the NVIDIA driver answers CUDA_ERROR_ILLEGAL_ADDRESS; it may be"), \
         _backend.told("many"):  # fmt: skip
        raise fault
    with pytest.raises(no.cuda.DeviceMemoryError, match=r"for an allocation of 800 bytes$"), _backend.told("many", 800):
        raise numbas()
    with pytest.raises(KeyError), _backend.told("step"):
        raise KeyError("other")
    assert issubclass(no.cuda.DeviceMemoryError, MemoryError)


def test_few_blocks_are_launched_without_a_warning():
    pytest.importorskip("numba_cuda")
    kernel = _backend.kernel(lambda: None)
    with pytest.warns(match="Grid size 2"):
        kernel[2, 32]
    configured = _backend.configured(kernel, 1, 32, 64)
    assert (configured.griddim, configured.blockdim, configured.sharedmem) == ((1, 1, 1), (32, 1, 1), 64)


def test_freed_memory_goes_back_to_the_driver_also_after_a_fault(monkeypatch):
    memory, modules = [1, 2], [3]
    manager = SimpleNamespace(deallocations=memory)
    context = SimpleNamespace(memory_manager=manager, deallocations=modules)
    monkeypatch.setattr(_backend, "cuda", SimpleNamespace(current_context=lambda: context))
    _backend.release()
    assert memory == modules == []
    del manager.deallocations  # another library's manager
    modules.append(4)
    _backend.release()
    assert modules == []
    monkeypatch.setattr(_backend, "cuda", SimpleNamespace())  # no context any more
    _backend.release()


class Fake:
    """An array of the CPU that says it is one of a GPU."""

    def __init__(self, values, stream=None, read_only=False):
        self.values, self._stream, self._read_only = values, stream, read_only

    @property
    def __cuda_array_interface__(self):
        v = self.values
        return {"shape": v.shape, "typestr": v.dtype.str, "data": (v.ctypes.data, self._read_only), "version": 3,
                "strides": None if v.flags.c_contiguous else v.strides, "stream": self._stream}  # fmt: skip


@pytest.fixture
def launched(played):
    """Play a GPU whose launches are written down: function, blocks, threads, stream, words, coefficients."""
    told = []

    def launch(function, blocks, _y, _z, threads, _v, _w, shared, stream, arguments, extra):
        words = [ctypes.cast(arguments[k], ctypes.POINTER(ctypes.c_int64))[0] for k in range(7)]
        kind = ctypes.c_float if function.startswith("f4") else ctypes.c_double
        row = [ctypes.cast(arguments[k], ctypes.POINTER(kind))[0] for k in range(7, len(arguments))]
        told.append(SimpleNamespace(function=function, blocks=blocks, threads=threads, stream=stream, words=words,
                                    row=row))  # fmt: skip
        return launch.status

    def handle(kernel, signature):
        return f"f{signature[-1].dtype.bitwidth // 8} {kernel.py_func.__name__}", None

    launch.status = 0
    context = SimpleNamespace(jit=_backend.cuda.jit, current_context=lambda: None,
                              device_array=lambda n, dtype: Fake(np.empty(n, dtype)))  # fmt: skip
    played(Driver(), why_not=lambda: None, launcher=lambda: launch, handle_of=handle, cuda=context,
           device_count=lambda: 1)  # fmt: skip
    _here.bound.cache_clear()
    yield told, launch
    _here.bound.cache_clear()


def a_step(opt, n, dtype=np.float64, shift=0, **given):
    x, g = (Fake(np.ones(n + 4, dtype)[shift : shift + n]) for _ in range(2))
    state = Fake(np.zeros((len(opt.slots), n + n % 2), dtype)[:, :n])
    no.cuda.step(opt, x, g, state, 3, **given)
    return x, g, state


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_launch_hands_over_addresses_sizes_and_the_coefficients_of_the_cpu(launched, dtype):
    told, _ = launched
    opt, n = no.Adam(lr=no.schedules.Exponential(0.1, 0.5)), 5001
    x, g, state = a_step(opt, n, dtype, stream=77)
    (one,) = told
    size, addresses = np.dtype(dtype).itemsize, [part.values.ctypes.data for part in (x, g, state)]
    assert one.function == f"f{size} move"
    lanes = 16 // size if not any(place % 16 for place in (*addresses, 5002 * size)) else 1
    assert (one.blocks, one.threads, one.stream) == (-(-n // (256 * lanes)), 256, 77)
    assert one.words == [*addresses, n, 5002, 0, 0]
    expected = (0.025, *opt.prepare(opt, 0.025, 3))
    np.testing.assert_array_equal(one.row, np.array(expected, dtype))


def test_arrays_that_are_not_aligned_take_the_narrow_kernel(launched):
    told, _ = launched
    a_step(no.SGD(), 512)
    a_step(no.SGD(), 512, shift=1)
    begins = [part % 16 for part in told[1].words[:2]]
    assert [one.blocks for one in told] == [1, 2] or begins == [0, 0]


def test_sums_take_two_kernels_more_and_share_their_memory(launched):
    told, _ = launched
    opt = no.transforms.chain(no.transforms.ClipByNorm(), no.SWATS())
    a_step(opt, 10_000_000, np.float32)
    assert [one.function[3:] for one in told] == ["summing", "finishing"] * 2 + ["move"]
    assert [one.blocks for one in told[:4]] == [1024, 1, 1024, 1]
    assert len({tuple(one.words) for one in told}) == 1
    assert 0 not in told[0].words[5:]


def test_the_stream_is_the_arrays_own_or_the_one_given(launched):
    told, _ = launched
    x, g, state = (Fake(np.ones(n), stream=2) for n in (4, 4, (0, 4)))
    of = SimpleNamespace
    for stream in (None, of(cuda_stream=5), of(ptr=6), of(handle=ctypes.c_void_p(7)),
                   of(__cuda_stream__=lambda: (0, 8)), 0, of(handle=ctypes.c_void_p(None))):  # fmt: skip
        no.cuda.step(no.SGD(), x, g, state, 1, stream=stream)
    assert [one.stream for one in told] == [2, 5, 6, 7, 8, 0, 0]


def test_a_launch_that_fails_is_one_sentence(launched):
    _, launch = launched
    launch.status = OUT_OF_MEMORY
    with pytest.raises(no.cuda.DeviceMemoryError, match=r"^step: the GPU has no room left"):
        a_step(no.SGD(), 4)
    launch.status = BROKEN
    with pytest.raises(RuntimeError, match=r"^step: the NVIDIA driver answers CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"):
        a_step(no.SGD(), 4)


def test_arrays_on_two_devices_are_refused(launched, monkeypatch):
    told, _ = launched
    x, g, state = (Fake(np.ones(shape)) for shape in (4, 4, (2, 4)))
    monkeypatch.setattr(_backend, "device_count", lambda: 2)
    monkeypatch.setattr(_backend, "device_of", lambda address: int(address == g.values.ctypes.data))
    with pytest.raises(ValueError, match=r"^step: x, g and state must be on one GPU, not on \[0, 1, 0\]$"):
        no.cuda.step(no.Adam(), x, g, state, 1)
    assert told == []


def test_what_is_no_array_of_a_gpu_is_refused(launched):
    ones, state = Fake(np.ones(4)), Fake(np.ones((0, 4)))
    jax = type("ArrayImpl", (), {"__module__": "jaxlib._jax"})()
    for x, said in ((np.ones(4), r"on a GPU .CuPy, torch, Numba.*, not numpy.ndarray"), (None, "not NoneType"),
                    (jax, "which those of JAX cannot"), (Fake(np.ones(4, np.float16)), "x has dtype <f2")):  # fmt: skip
        with pytest.raises(TypeError, match=said):
            no.cuda.step(no.SGD(), x, ones, state, 1)
    with pytest.raises(ValueError, match="step: g is read-only"):
        no.cuda.step(no.SGD(), ones, Fake(np.ones(4), read_only=True), state, 1)


def test_every_thread_makes_the_context_its_own(launched, monkeypatch):
    contexts = []
    monkeypatch.setattr(_backend.cuda, "current_context", lambda: contexts.append(threading.current_thread()))
    for _ in range(3):  # one after the other: the system gives them the same number
        thread = threading.Thread(target=a_step, args=(no.SGD(), 4))
        thread.start()
        thread.join()
    assert len(set(contexts)) == len(contexts) == 3


@pytest.mark.peer
def test_tensors_of_the_cpu_are_refused(launched):
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="x must be on a GPU, not a tensor of the CPU"):
        no.cuda.step(no.SGD(), torch.ones(4), torch.ones(4), torch.ones(0, 4), 1)


def test_the_python_part_of_a_step_takes_microseconds(launched, monkeypatch):
    x, g, state = (Fake(np.ones(shape)) for shape in (4096, 4096, (2, 4096)))
    monkeypatch.setattr(_backend, "launcher", lambda: lambda *arguments: 0)
    opt = no.Adam()
    no.cuda.step(opt, x, g, state, 1)
    best = np.inf
    for _ in range(5):
        begin = time.process_time()
        for t in range(1, 1001):
            no.cuda.step(opt, x, g, state, t)
        best = min(best, (time.process_time() - begin) / 1000)
    assert best < 100e-6  # on the slowest machine; `python -m benchmarks gpu` measures it


OLD_NUMPY = """
import numpy as np
import numba.np.arrayobj                   # Numba's own, which knows
import warnings
warnings.simplefilter("error")             # of which NumPy 2.5 gives one as numba-cuda is imported
if hasattr(np, "row_stack"):
    del np.row_stack                       # as in NumPy 2.5
import numbaopt as no
from numbaopt.cuda import _backend
assert not hasattr(np, "row_stack")
import numba.cuda.np.arrayobj
print(_backend.implementation().split()[0])
"""


@pytest.mark.process
def test_numba_cuda_is_imported_beside_a_numpy_without_row_stack():
    pytest.importorskip("numba_cuda")
    assert python(OLD_NUMPY) == ["numba-cuda"]


BUILT_IN = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "numba_cuda" else found(name, *rest)
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "NumbaCudaFinder"]
sys.path.insert(0, sys.argv[1])
from types import SimpleNamespace
import numpy as np, numbaopt as no
from cuda_cases import Cautious
from numba.cuda import dispatcher
from numbaopt.cuda import _backend
from numbaopt.cuda.kernels import launches
from numbaopt.cuda.step import signature
from numbaopt.optimizers._program import program
dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(9, 0), id=0)
made = program(no.transforms.chain(no.transforms.ClipByNorm(), no.transforms.GradientNoise(), Cautious()), np.float32)
for one in launches(made, True):
    ptx, _ = _backend.cuda.compile(one.kernel.py_func, signature(made), device=False, abi="numba", cc=(9, 0),
                                   output="ptx")
    print(ptx.count("global.v4.f32"))
print(_backend.implementation())
from numbaopt.cuda.many.compiling import compiling
try:
    with compiling():
        pass
except no.cuda.NoDeviceError as error:
    print(error)
"""


@pytest.mark.process
def test_the_same_kernels_compile_with_numbas_own_cuda():
    ptx = pytest.importorskip("ptx")
    pytest.importorskip("numba_cuda")
    told = python(BUILT_IN, Path(__file__).parent, CUDA_HOME=str(ptx.ROOTS[0]))
    assert told[:3] == ["1", "0", "5"]
    assert told[3:6] == ["numba.cuda", "of", "numba"]
    assert " ".join(told[7:]).startswith("device='cuda': users' functions need numba-cuda, not Numba's own numba.cuda")


def test_the_shape_of_strides_is_understood():
    seen = arrays.seen(Fake(np.ones((2, 8))[:, :5]))
    assert (seen.shape, seen.strides, seen.dtype) == ((2, 5), (8, 1), np.float64)
    for values in (np.ones((1, 5))[:, :], np.ones((4, 1))[::1], np.ones((0, 3))):
        assert arrays.seen(Fake(values)).strides is None


@pytest.mark.peer
def test_tensors_are_read_and_zeros_are_made_beside_them():
    torch = pytest.importorskip("torch")

    class OnGpu:
        """A tensor of the CPU that says it is on a GPU."""

        is_cuda = True

        def __init__(self, tensor):
            self._tensor = tensor

        def __getattr__(self, name):
            return getattr(self._tensor, name)

    for tensor, strides in ((torch.nn.Parameter(torch.ones(3, 4)), None), (torch.ones(2, 8)[:, :5], (8, 1))):
        seen = arrays._seen_torch(OnGpu(tensor))
        assert (seen.address, seen.dtype, seen.shape) == (tensor.data_ptr(), np.float32, tuple(tensor.shape))
        assert seen.strides == strides
    assert arrays._seen_torch(OnGpu(torch.ones(2, dtype=torch.float16))).dtype == "torch.float16"
    made = arrays.zeros(torch.nn.Parameter(torch.ones(5, dtype=torch.float64)), (2, 8), arrays.FLOAT64, "a state")
    assert (made.dtype, tuple(made.shape)) == (torch.float64, (2, 8))
    assert not made.requires_grad
    assert not made.any()


def test_the_simulator_beside_compiled_code_is_refused(monkeypatch):
    monkeypatch.setattr(_backend, "SIMULATED", True)
    assert "needs NUMBA_DISABLE_JIT=1, too" in no.cuda.why_not()


def test_what_compiles_only_for_the_cpu_is_one_sentence(launched, monkeypatch):
    def refused(kernel, signature):
        raise numba.core.errors.TypingError("Use of unsupported NumPy function 'numpy.linalg.norm'")

    monkeypatch.setattr(_backend, "handle_of", refused)
    with pytest.raises(TypeError, match=r"^step: SGD on a GPU cannot be compiled by Numba: Use of unsupported NumPy"):
        a_step(no.SGD(), 4)
