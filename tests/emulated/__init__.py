"""A GPU for tests that runs on the CPU: numba-cuda, its driver's library and PTX as on a real one, threads by turns.

`library` is a shared library with the name of NVIDIA's, `driver` what its functions do.  `source` reads PTX,
`translate` turns it into LLVM's language: `flow`, `bits` and `arithmetic` say what instructions mean, `layout` what a
thread keeps.  `memory` checks every access, `machine` lets warps, blocks and grids run.
"""
