"""Textbook NumPy versions of every rule, transform and schedule: slow, plain, and arranged as in the literature.

Nothing here is taken from, or imports, the package: this is what its compiled code has to agree with.  A rule is
``rule(x, g, s, t, lr, **options) -> new x`` where ``s`` is a dictionary that keeps its state between steps; its
defaults are the defaults the package promises.
"""

import math

import numpy as np


def run(rule, x0, gradients, lr, before=(), **options):
    """The iterates after every step; ``before`` are transforms, ``lr`` is a number or a function of the step."""
    x, s, path = np.array(x0, np.float64), {}, []
    for t, g in enumerate(np.asarray(gradients, np.float64), 1):
        rate = lr(t - 1) if callable(lr) else lr
        for transform in before:
            x, g = transform(x, g, rate, t=t)
        x = rule(x, g, s, t, rate, **options)
        path.append(x)
    return np.array(path)


def average(s, name, beta, value):
    """Exponential moving average that starts at zero."""
    s[name] = beta * s.get(name, 0.0) + (1 - beta) * value
    return s[name]


# ---- gradient descent ------------------------------------------------------------------------------------------------


def sgd(x, g, s, t, lr=1e-3, weight_decay=0.0, decoupled=False):
    x, g = weight_decayed(x, g, lr, weight_decay, decoupled)
    return x - lr * g


def momentum(x, g, s, t, lr=1e-3, momentum=0.9, dampening=0.0, weight_decay=0.0, decoupled=False,
             lr_inside_momentum=False):  # fmt: skip
    x, g = weight_decayed(x, g, lr, weight_decay, decoupled)
    if t > 1:
        g = (1 - dampening) * g
    if lr_inside_momentum:  # Keras
        s["v"] = momentum * s.get("v", 0.0) - lr * g
        return x + s["v"]
    s["b"] = momentum * s.get("b", 0.0) + g
    return x - lr * s["b"]


def nesterov(x, g, s, t, lr=1e-3, momentum=0.9, weight_decay=0.0, decoupled=False, lr_inside_momentum=False):
    x, g = weight_decayed(x, g, lr, weight_decay, decoupled)
    if lr_inside_momentum:  # Keras
        s["v"] = momentum * s.get("v", 0.0) - lr * g
        return x + momentum * s["v"] - lr * g
    s["b"] = momentum * s.get("b", 0.0) + g
    return x - lr * (g + momentum * s["b"])


# ---- division by a running size of the gradient ----------------------------------------------------------------------


def adagrad(x, g, s, t, lr=1e-2, lr_decay=0.0, weight_decay=0.0, initial_accumulator=0.0, eps=1e-10,
            eps_in_sqrt=False):  # fmt: skip
    g = g + weight_decay * x
    s["s"] = s.get("s", initial_accumulator) + g**2
    size = np.sqrt(s["s"] + eps) if eps_in_sqrt else np.sqrt(s["s"]) + eps
    return x - lr / (1 + (t - 1) * lr_decay) * g / size


def rmsprop(x, g, s, t, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False,
            eps_in_sqrt=False, lr_inside_momentum=False):  # fmt: skip
    g = g + weight_decay * x
    spread = average(s, "v", alpha, g**2)
    if centered:
        spread = spread - average(s, "m", alpha, g) ** 2
    size = np.sqrt(spread + eps) if eps_in_sqrt else np.sqrt(spread) + eps
    if lr_inside_momentum:  # optax, Keras
        s["b"] = momentum * s.get("b", 0.0) + lr * g / size
        return x - s["b"]
    s["b"] = momentum * s.get("b", 0.0) + g / size
    return x - lr * s["b"]


def adadelta(x, g, s, t, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0):
    g = g + weight_decay * x
    v = average(s, "v", rho, g**2)
    d = np.sqrt(s.get("u", 0.0) + eps) / np.sqrt(v + eps) * g
    average(s, "u", rho, d**2)
    return x - lr * d


# ---- Adam and its relatives ------------------------------------------------------------------------------------------


def adam(x, g, s, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, eps_root=0.0, eps_hat=False):
    g = g + weight_decay * x
    m = average(s, "m", beta1, g)
    v = average(s, "v", beta2, g**2)
    if "v_max" in s:
        v = s["v_max"] = np.maximum(s["v_max"], v)
    if eps_hat:  # Keras
        return x - lr * math.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (np.sqrt(v) + eps)
    return x - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t) + eps_root) + eps)


def adamw(x, g, s, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=1e-2, eps_root=0.0, eps_hat=False):
    x = x - lr * weight_decay * x
    return adam(x, g, s, t, lr, beta1, beta2, eps, 0.0, eps_root, eps_hat)


def amsgrad(x, g, s, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, eps_root=0.0, eps_hat=False):
    s.setdefault("v_max", 0.0)
    return adam(x, g, s, t, lr, beta1, beta2, eps, weight_decay, eps_root, eps_hat)


def adamax(x, g, s, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * x
    m = average(s, "m", beta1, g)
    s["u"] = np.maximum(beta2 * s.get("u", 0.0), abs(g) + eps)
    return x - lr / (1 - beta1**t) * m / s["u"]


def nadam(x, g, s, t, lr=2e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, momentum_decay=4e-3):
    g = g + weight_decay * x
    m = average(s, "m", beta1, g)
    v = average(s, "v", beta2, g**2)
    mu = beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))
    mu_next = beta1 * (1 - 0.5 * 0.96 ** ((t + 1) * momentum_decay))
    s["product"] = s.get("product", 1.0) * mu
    ahead = (1 - mu) / (1 - s["product"]) * g + mu_next / (1 - s["product"] * mu_next) * m
    return x - lr * ahead / (np.sqrt(v / (1 - beta2**t)) + eps)


def radam(x, g, s, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0):
    g = g + weight_decay * x
    m_hat = average(s, "m", beta1, g) / (1 - beta1**t)
    v = average(s, "v", beta2, g**2)
    rho_end = 2 / (1 - beta2) - 1
    rho = rho_end - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= 5:
        return x - lr * m_hat
    r = math.sqrt((rho - 4) * (rho - 2) * rho_end / ((rho_end - 4) * (rho_end - 2) * rho))
    return x - lr * m_hat * r * math.sqrt(1 - beta2**t) / (np.sqrt(v) + eps)


def adabelief(x, g, s, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-16, eps_root=1e-16):
    m = average(s, "m", beta1, g)
    s["s"] = average(s, "s", beta2, (g - m) ** 2) + eps_root
    return x - lr * (m / (1 - beta1**t)) / (np.sqrt(s["s"] / (1 - beta2**t)) + eps)


def yogi(x, g, s, t, lr=1e-2, beta1=0.9, beta2=0.999, eps=1e-3, initial_accumulator=1e-6):
    s.setdefault("m", initial_accumulator)
    m = average(s, "m", beta1, g)
    v = s.get("v", initial_accumulator)
    v = s["v"] = v - (1 - beta2) * np.sign(v - g**2) * g**2
    return x - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)


def adan(x, g, s, t, lr=1e-3, beta1=0.98, beta2=0.92, beta3=0.99, eps=1e-8, weight_decay=0.0):
    d = g - s.get("g", g)
    s["g"] = g
    m = average(s, "m", beta1, g) / (1 - beta1**t)
    v = average(s, "v", beta2, d) / (1 - beta2**t)
    n = average(s, "n", beta3, (g + beta2 * d) ** 2) / (1 - beta3**t)
    return (x - lr * (m + beta2 * v) / (np.sqrt(n) + eps)) / (1 + lr * weight_decay)


def swats(x, g, s, t, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-9, eps_switch=1e-6, weight_decay=0.0):
    """Algorithm 1 of the paper, whose p, gamma and Lambda are these times lr."""
    g = g + weight_decay * x
    if "rate" in s:
        s["velocity"] = beta1 * s.get("velocity", 0.0) + g
        return x - (1 - beta1) * lr * s["rate"] * s["velocity"]
    m = average(s, "m", beta1, g)
    v = average(s, "v", beta2, g**2)
    p = -math.sqrt(1 - beta2**t) / (1 - beta1**t) * m / (np.sqrt(v) + eps)
    if p @ g != 0:
        gamma = p @ p / -(p @ g)
        found = average(s, "lambda", beta2, gamma) / (1 - beta2**t)
        if t > 1 and found > 0 and abs(found - gamma) < eps_switch:
            s["rate"] = found
    return x + lr * p


# ---- signs -----------------------------------------------------------------------------------------------------------


def lion(x, g, s, t, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0):
    direction = np.sign(beta1 * s.get("m", 0.0) + (1 - beta1) * g)
    average(s, "m", beta2, g)
    return x - lr * (direction + weight_decay * x)


def rprop(x, g, s, t, lr=1e-2, eta_minus=0.5, eta_plus=1.2, step_min=1e-6, step_max=50.0):
    product = g * s.get("g", np.zeros_like(g))
    factor = np.where(product > 0, eta_plus, np.where(product < 0, eta_minus, 1.0))
    s["length"] = np.clip(s.get("length", lr) * factor, step_min, step_max)
    s["g"] = np.where(product < 0, 0.0, g)
    return x - np.sign(s["g"]) * s["length"]


# ---- rules made of rules ---------------------------------------------------------------------------------------------


def lookahead(rule, k, alpha):
    def slowly(x, g, s, t, lr, **options):
        s.setdefault("slow", x)
        x = rule(x, g, s, t, lr, **options)
        if t % k == 0:
            x = s["slow"] = (1 - alpha) * s["slow"] + alpha * x
        return x

    return slowly


def switch(first, second, at, rate_of_second):
    def either(x, g, s, t, lr, **options):
        if t <= at:
            return first(x, g, s.setdefault("first", {}), t, lr, **options)
        return second(x, g, s.setdefault("second", {}), t - at, rate_of_second(t - at - 1), **options)

    return either


# ---- transforms ------------------------------------------------------------------------------------------------------


def weight_decayed(x, g, lr, rate, decoupled=False, t=None):
    return (x - lr * rate * x, g) if decoupled else (x, g + rate * x)


def clipped_by_value(x, g, lr, limit, t=None):
    return x, np.clip(g, -limit, limit)


def clipped_by_norm(x, g, lr, limit, eps=0.0, t=None):
    return x, g * min(1.0, limit / (math.sqrt((g**2).sum()) + eps))


def hashed(value):
    """A 32-bit integer hash."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        value = ((value ^ (value >> shift)) * factor) % 2**32
    return value


def noisy(x, g, lr, eta, gamma=0.55, seed=0, t=None):
    """Box and Muller's normal numbers from two hashes of seed, step and coordinate."""
    noise = np.empty(len(g))
    key = hashed(hashed(hashed(seed % 2**32) ^ (seed >> 32)) ^ t)
    for i in range(len(g)):
        high = hashed(key ^ hashed(i))
        low = hashed(high ^ key ^ 0xFFFFFFFF)
        noise[i] = math.sqrt(-2 * math.log((high + 0.5) / 2**32)) * math.cos(2 * math.pi * low / 2**32)
    return x, g + math.sqrt(eta / t**gamma) * noise


# ---- schedules: the rate after k steps -------------------------------------------------------------------------------


def step(k, lr, every, gamma):
    return lr * gamma ** (k // every)


def multi_step(k, lr, milestones, gamma):
    return lr * gamma ** sum(k >= milestone for milestone in milestones)


def exponential(k, lr, gamma):
    return lr * gamma**k


def polynomial(k, lr, steps, power, lr_min):
    return lr_min + (lr - lr_min) * (1 - k / steps) ** power if k < steps else lr_min


def inverse_time(k, lr, gamma, power):
    return lr / (1 + gamma * k) ** power


def half_cosine(start, end, part):
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def cosine(k, lr, steps, lr_min):
    return half_cosine(lr, lr_min, k / steps) if k < steps else lr_min


def cosine_restarts(k, lr, steps, growth, lr_min):
    while k >= steps:
        k, steps = k - steps, steps * growth
    return half_cosine(lr, lr_min, k / steps)


def one_cycle(k, lr_max, steps, rise, divide_first, divide_last):
    first, peak = lr_max / divide_first, rise * steps - 1
    if k < peak:
        return half_cosine(first, lr_max, k / peak)
    return half_cosine(lr_max, first / divide_last, min(1, (k - peak) / (steps - 1 - peak)))


def warmup(k, lr, steps, lr_min):
    """``lr`` is a function of k here."""
    return lr_min + (lr(0) - lr_min) * k / steps if k < steps else lr(k - steps)


def plateau_scales(values, factor, patience, threshold, cooldown):
    """The factor on the rate after each observed value."""
    scale, best, bad, rest, scales = 1.0, math.inf, 0, 0, []
    for value in values:
        margin = threshold * abs(best) if best < math.inf else 0.0
        if value < best - margin:
            best, bad = value, 0
        else:
            bad += 1
        if rest > 0:
            rest, bad = rest - 1, 0
        if bad > patience:
            scale, rest, bad = scale * factor, cooldown, 0
        scales.append(scale)
    return scales
