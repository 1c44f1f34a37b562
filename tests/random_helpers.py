"""What random programs call: source, because it is defined twice, for Numba and for the interpreter.

``np``, ``numba`` and ``collections`` are there when it is run.
"""

HELPERS = '''
GLOBAL = np.cos(np.arange(20.0))
Pair = collections.namedtuple("Pair", "number vector")

@numba.njit
def inner(a, b):
    return a * np.cos(b) - b / (2.0 + a * a)

@numba.njit
def outer(a, b=0.4):
    return inner(a, b) + 0.5 * inner(b, a)

@numba.njit(inline="always")
def inlined(a, b):
    made = a - b
    return made * a

@numba.njit
def over(u, s):
    made = np.empty(u.size)
    for i in range(u.size):
        made[i] = np.tanh(u[i] * s) + 0.1 * u[i - 1]
    return made

@numba.njit
def change(u, s):
    u[1:] = u[:-1] * s
    u[0] += s

@numba.njit
def changed(u, s):
    u[-1] = s * u[0]
    return u

@numba.njit
def tail(u):
    return u[1:]

@numba.njit
def two(u, s):
    return u.sum() * s, u[::-1] * s

@numba.njit
def fold(u, k):
    if k <= 0:
        return u[0]
    return np.tanh(u[k] * fold(u, k - 1))

@numba.njit
def early(u, s):
    for v in u:
        if v > s:
            return v * s
    return s + 0.5

@numba.njit
def either(flag, u, v):
    return u if flag else v

@numba.njit
def apply(function, a):
    return function(a) * 0.5 + a

@numba.njit
def doubled(a):
    return 2.0 * np.sin(a)

@numba.njit
def checked(u, s):
    if s > 0.2:
        raise ValueError("large")
    return u[0] * s

@numba.njit
def summed(s, *more):
    for m in more:
        s += m * m
    return s

@numba.njit
def squares(u):
    for v in u:
        yield v * v

@numba.njit(fastmath=True)
def fast(u):
    total = 0.0
    for i in range(u.size):
        total += u[i] * np.float64(i + 1)
    return total

@numba.njit
def weigh(u):
    total = 0.0
    for i in range(u.size):
        total += u[i] * (0.6 + 0.3 * i)
    return total

@numba.njit
def weigh_matrix(a):
    total = 0.0
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            total += a[i, j] * (0.6 + 0.3 * i - 0.4 * j)
    return total
'''
