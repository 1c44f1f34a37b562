"""The iterates of torch and optax with given gradients in float64; skips where they are not installed."""

import numpy as np
import pytest


def torch_path(make, x0, gradients, before=lambda torch, parameters: None):
    """``make(torch.optim, parameters)`` is the optimizer, ``before(torch, parameters)`` acts on the gradients."""
    torch = pytest.importorskip("torch")
    parameter, path = torch.tensor(x0, requires_grad=True), []
    peer = make(torch.optim, [parameter])
    for g in gradients:
        parameter.grad = torch.tensor(g)
        before(torch, [parameter])
        peer.step()
        path.append(parameter.detach().numpy().copy())
    return np.array(path)


def double_precision():
    """A context in which JAX computes in float64."""
    jax = pytest.importorskip("jax")
    try:
        return jax.enable_x64(True)
    except (AttributeError, TypeError):  # before JAX 0.8
        from jax.experimental import enable_x64

        return enable_x64(True)


def optax_path(make, x0, gradients):
    """``make(optax)`` is the gradient transformation."""
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    with double_precision():
        peer = make(optax)

        def one(carry, g):
            x, state = carry
            updates, state = peer.update(g, state, x)
            x = optax.apply_updates(x, updates)
            return (x, state), x

        x = jax.numpy.asarray(x0)
        return np.asarray(jax.lax.scan(one, (x, peer.init(x)), jax.numpy.asarray(gradients))[1])
