"""A GPU for tests that runs on the CPU: numba-cuda, its driver's library and PTX as on a real one, threads by turns.

`library` is a shared library with the name of NVIDIA's, `driver` what its functions do, `source` and `translate` turn
PTX into LLVM's language, `memory` checks every access, `machine` lets warps, blocks and grids run.
"""
