from .optimizers import *
from .optimizers.step import init_state, step
from . import schedules, transforms
