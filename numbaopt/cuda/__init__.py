"""Steps on a GPU: ``numbaopt.cuda``, imported when it is first asked for.

`is_available` says whether there is a GPU that can be used, `why_not` what is missing.
"""

from ._backend import DeviceMemoryError, NoDeviceError, is_available, why_not
from .step import init_state, step

__all__ = ["DeviceMemoryError", "NoDeviceError", "init_state", "is_available", "step", "why_not"]
