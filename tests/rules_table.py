"""The one table of rules: every rule and every option of it, beside its oracle, its peers and its golden trajectories.

``test_optimizers.py`` asserts that no rule of the package and no field of a rule is missing here, and drives every
comparison from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import naive

import numbaopt as no


class Case(NamedTuple):
    cls: type  # of the rule
    options: dict[str, Any]  # its fields besides lr
    oracle: Callable[..., Any]  # in naive.py, called with the same options
    torch: Callable[..., Any] | None = None  # (torch.optim, parameters, lr) -> optimizer
    optax: Callable[..., Any] | None = None  # (optax, lr) -> gradient transformation
    golden: tuple[str, ...] = ()  # "library: key" of golden/
    lr: float = 0.1

    @property
    def name(self) -> str:
        return " ".join([self.cls.__name__, *(f"{key}={value}" for key, value in self.options.items())])


DECAY = {"weight_decay": 0.1}
KERAS = {"lr_inside_momentum": True}
WITH_ALPHA = {"alpha": 0.9}
SWITCHES = {"eps_switch": 2e-3}
OPTAX_RMSPROP = {"alpha": 0.9, "eps_in_sqrt": True, "lr_inside_momentum": True}

CASES = [
    # gradient descent
    Case(no.SGD, {}, naive.sgd, lambda o, p, lr: o.SGD(p, lr), lambda o, lr: o.sgd(lr), ("torch: SGD", "optax: sgd")),
    Case(no.SGD, DECAY, naive.sgd, lambda o, p, lr: o.SGD(p, lr, weight_decay=0.1),
         lambda o, lr: o.chain(o.add_decayed_weights(0.1), o.sgd(lr))),
    Case(no.SGD, {"weight_decay": 0.1, "decoupled": True}, naive.sgd),
    Case(no.Momentum, {}, naive.momentum, lambda o, p, lr: o.SGD(p, lr, momentum=0.9),
         lambda o, lr: o.sgd(lr, momentum=0.9),
         ("torch: SGD mom .9", "torch: SGD mom .9, lr=.1 then .01 from t=4",
          "optax: sgd mom .9", "optax: sgd mom .9 lr drop")),
    Case(no.Momentum, {"dampening": 0.5}, naive.momentum,
         lambda o, p, lr: o.SGD(p, lr, momentum=0.9, dampening=0.5), None, ("torch: SGD mom .9 damp .5",)),
    Case(no.Momentum, DECAY, naive.momentum, lambda o, p, lr: o.SGD(p, lr, momentum=0.9, weight_decay=0.1),
         None, ("torch: SGD mom .9 wd .1",)),
    Case(no.Momentum, {"momentum": 0.5, "weight_decay": 0.1, "decoupled": True}, naive.momentum),
    Case(no.Momentum, KERAS, naive.momentum),
    Case(no.Nesterov, {}, naive.nesterov, lambda o, p, lr: o.SGD(p, lr, momentum=0.9, nesterov=True),
         lambda o, lr: o.sgd(lr, momentum=0.9, nesterov=True), ("torch: SGD nesterov .9", "optax: sgd nesterov .9")),
    Case(no.Nesterov, DECAY, naive.nesterov,
         lambda o, p, lr: o.SGD(p, lr, momentum=0.9, nesterov=True, weight_decay=0.1)),
    Case(no.Nesterov, {"momentum": 0.5, "weight_decay": 0.1, "decoupled": True}, naive.nesterov),
    Case(no.Nesterov, KERAS, naive.nesterov),
    # division by a running size of the gradient
    Case(no.AdaGrad, {}, naive.adagrad, lambda o, p, lr: o.Adagrad(p, lr), None,
         ("torch: Adagrad (init 0, eps 1e-10)",)),
    Case(no.AdaGrad, {"lr_decay": 0.01, "weight_decay": 0.1}, naive.adagrad,
         lambda o, p, lr: o.Adagrad(p, lr, lr_decay=0.01, weight_decay=0.1)),
    Case(no.AdaGrad, {"initial_accumulator": 0.1, "eps": 1e-7}, naive.adagrad,
         lambda o, p, lr: o.Adagrad(p, lr, initial_accumulator_value=0.1, eps=1e-7), None,
         ("torch: Adagrad init .1 eps 1e-7",)),
    Case(no.AdaGrad, {"initial_accumulator": 0.1, "eps": 1e-7, "eps_in_sqrt": True}, naive.adagrad, None,
         lambda o, lr: o.adagrad(lr), ("optax: adagrad",)),
    Case(no.AdaGrad, {"eps_in_sqrt": True}, naive.adagrad, None,
         lambda o, lr: o.adagrad(lr, initial_accumulator_value=0.0, eps=1e-10), ("optax: adagrad init 0 eps 1e-10",)),
    Case(no.RMSprop, {}, naive.rmsprop, lambda o, p, lr: o.RMSprop(p, lr),
         lambda o, lr: o.rmsprop(lr, decay=0.99, eps_in_sqrt=False),
         ("torch: RMSprop (alpha .99)", "optax: rmsprop .99 eps_in_sqrt=False")),
    Case(no.RMSprop, WITH_ALPHA, naive.rmsprop, lambda o, p, lr: o.RMSprop(p, lr, alpha=0.9), None,
         ("torch: RMSprop .9",)),
    Case(no.RMSprop, {"alpha": 0.9, "centered": True}, naive.rmsprop,
         lambda o, p, lr: o.RMSprop(p, lr, alpha=0.9, centered=True), None, ("torch: RMSprop .9 centered",)),
    Case(no.RMSprop, {"alpha": 0.9, "momentum": 0.9}, naive.rmsprop,
         lambda o, p, lr: o.RMSprop(p, lr, alpha=0.9, momentum=0.9), None,
         ("torch: RMSprop .9 mom .9", "torch: RMSprop .9 mom .9 lr drop t=4")),
    Case(no.RMSprop, {"weight_decay": 0.1, "momentum": 0.9, "centered": True, "eps": 1e-3}, naive.rmsprop,
         lambda o, p, lr: o.RMSprop(p, lr, weight_decay=0.1, momentum=0.9, centered=True, eps=1e-3)),
    Case(no.RMSprop, OPTAX_RMSPROP, naive.rmsprop, None, lambda o, lr: o.rmsprop(lr),
         ("optax: rmsprop (.9,eps in sqrt)",)),
    Case(no.RMSprop, {**OPTAX_RMSPROP, "centered": True}, naive.rmsprop, None,
         lambda o, lr: o.rmsprop(lr, centered=True), ("optax: rmsprop centered",)),
    Case(no.RMSprop, {**OPTAX_RMSPROP, "momentum": 0.9}, naive.rmsprop, None,
         lambda o, lr: o.rmsprop(lr, momentum=0.9),
         ("optax: rmsprop .9 mom .9", "optax: rmsprop .9 mom .9 lr drop")),
    Case(no.Adadelta, {}, naive.adadelta, lambda o, p, lr: o.Adadelta(p, lr), lambda o, lr: o.adadelta(lr, 0.9, 1e-6),
         ("torch: Adadelta lr1", "optax: adadelta lr1"), lr=1.0),
    Case(no.Adadelta, {"rho": 0.95, "eps": 1e-7, "weight_decay": 0.1}, naive.adadelta,
         lambda o, p, lr: o.Adadelta(p, lr, rho=0.95, eps=1e-7, weight_decay=0.1)),
    # Adam and its relatives
    Case(no.Adam, {}, naive.adam, lambda o, p, lr: o.Adam(p, lr), lambda o, lr: o.adam(lr),
         ("torch: Adam", "optax: adam")),
    Case(no.Adam, {"eps": 0.1}, naive.adam, lambda o, p, lr: o.Adam(p, lr, eps=0.1),
         lambda o, lr: o.adam(lr, eps=0.1), ("torch: Adam eps .1", "optax: adam eps .1")),
    Case(no.Adam, DECAY, naive.adam, lambda o, p, lr: o.Adam(p, lr, weight_decay=0.1), None,
         ("torch: Adam wd .1 (coupled)",)),
    Case(no.Adam, {"beta1": 0.7, "beta2": 0.9, "eps_root": 1e-2}, naive.adam, None,
         lambda o, lr: o.adam(lr, 0.7, 0.9, eps_root=1e-2)),
    Case(no.Adam, {"eps": 1e-3, "eps_hat": True}, naive.adam),
    Case(no.AdamW, {}, naive.adamw, lambda o, p, lr: o.AdamW(p, lr), lambda o, lr: o.adamw(lr, weight_decay=1e-2)),
    Case(no.AdamW, DECAY, naive.adamw, lambda o, p, lr: o.AdamW(p, lr, weight_decay=0.1),
         lambda o, lr: o.adamw(lr, weight_decay=0.1), ("torch: AdamW wd .1", "optax: adamw wd .1")),
    Case(no.AdamW, {"beta1": 0.7, "beta2": 0.9, "eps": 1e-3, "eps_root": 1e-2}, naive.adamw, None,
         lambda o, lr: o.adamw(lr, 0.7, 0.9, eps=1e-3, eps_root=1e-2, weight_decay=1e-2)),
    Case(no.AdamW, {"eps": 1e-3, "eps_hat": True}, naive.adamw),
    Case(no.AMSGrad, {}, naive.amsgrad, lambda o, p, lr: o.Adam(p, lr, amsgrad=True), None, ("torch: AMSGrad",)),
    Case(no.AMSGrad, {"beta2": 0.9}, naive.amsgrad,
         lambda o, p, lr: o.Adam(p, lr, betas=(0.9, 0.9), amsgrad=True), None, ("torch: AMSGrad b2 .9",)),
    Case(no.AMSGrad, {"beta1": 0.7, "weight_decay": 0.1, "eps": 1e-3}, naive.amsgrad,
         lambda o, p, lr: o.Adam(p, lr, betas=(0.7, 0.999), weight_decay=0.1, eps=1e-3, amsgrad=True)),
    Case(no.AMSGrad, {"beta2": 0.9, "eps_root": 1e-2}, naive.amsgrad),
    Case(no.AMSGrad, {"beta2": 0.9, "eps": 1e-3, "eps_hat": True}, naive.amsgrad),
    Case(no.Adamax, {}, naive.adamax, lambda o, p, lr: o.Adamax(p, lr), lambda o, lr: o.adamax(lr),
         ("torch: Adamax", "optax: adamax")),
    Case(no.Adamax, {"beta1": 0.7, "beta2": 0.9, "eps": 1e-2, "weight_decay": 0.1}, naive.adamax,
         lambda o, p, lr: o.Adamax(p, lr, betas=(0.7, 0.9), eps=1e-2, weight_decay=0.1)),
    Case(no.NAdam, {}, naive.nadam, lambda o, p, lr: o.NAdam(p, lr), None, ("torch: NAdam",)),
    Case(no.NAdam, {"beta1": 0.7, "beta2": 0.9, "eps": 1e-3, "weight_decay": 0.1, "momentum_decay": 1.0}, naive.nadam,
         lambda o, p, lr: o.NAdam(p, lr, betas=(0.7, 0.9), eps=1e-3, weight_decay=0.1, momentum_decay=1.0)),
    Case(no.NAdam, {"beta1": 0.0, "momentum_decay": 0.0}, naive.nadam,
         lambda o, p, lr: o.NAdam(p, lr, betas=(0.0, 0.999), momentum_decay=0.0)),
    Case(no.RAdam, {}, naive.radam, lambda o, p, lr: o.RAdam(p, lr), None, ("torch: RAdam",)),
    Case(no.RAdam, {"eps": 0.1}, naive.radam, lambda o, p, lr: o.RAdam(p, lr, eps=0.1), None,
         ("torch: RAdam eps .1",)),
    Case(no.RAdam, {"beta1": 0.7, "beta2": 0.9, "weight_decay": 0.1}, naive.radam,
         lambda o, p, lr: o.RAdam(p, lr, betas=(0.7, 0.9), weight_decay=0.1)),
    Case(no.AdaBelief, {}, naive.adabelief, None, lambda o, lr: o.adabelief(lr), ("optax: adabelief",)),
    Case(no.AdaBelief, {"beta1": 0.7, "beta2": 0.9, "eps": 1e-2, "eps_root": 1e-3}, naive.adabelief, None,
         lambda o, lr: o.adabelief(lr, 0.7, 0.9, 1e-2, 1e-3)),
    Case(no.Yogi, {}, naive.yogi, None, lambda o, lr: o.yogi(lr), ("optax: yogi",)),
    Case(no.Yogi, {"beta1": 0.7, "beta2": 0.9, "eps": 1e-2, "initial_accumulator": 0.1}, naive.yogi, None,
         lambda o, lr: o.chain(o.scale_by_yogi(0.7, 0.9, 1e-2, initial_accumulator_value=0.1), o.scale(-lr))),
    Case(no.Adan, {}, naive.adan),
    Case(no.Adan, {"beta1": 0.9, "beta2": 0.8, "beta3": 0.95, "eps": 1e-2, "weight_decay": 0.1}, naive.adan),
    # Adam, then gradient descent; SWITCHES: after some ten steps
    Case(no.SWATS, {}, naive.swats),
    Case(no.SWATS, SWITCHES, naive.swats),
    Case(no.SWATS, {**SWITCHES, "beta1": 0.7, "beta2": 0.9, "eps": 1e-2, "weight_decay": 0.1}, naive.swats),
    # signs
    Case(no.Lion, {}, naive.lion, None, lambda o, lr: o.lion(lr, weight_decay=0.0), ("optax: lion wd 0",)),
    Case(no.Lion, {"beta1": 0.7, "beta2": 0.9, "weight_decay": 0.1}, naive.lion, None,
         lambda o, lr: o.lion(lr, 0.7, 0.9, weight_decay=0.1)),
    Case(no.Rprop, {}, naive.rprop, lambda o, p, lr: o.Rprop(p, lr), None, ("torch: Rprop",)),
    Case(no.Rprop, {"eta_minus": 0.3, "eta_plus": 1.5, "step_min": 1e-3, "step_max": 0.4}, naive.rprop,
         lambda o, p, lr: o.Rprop(p, lr, etas=(0.3, 1.5), step_sizes=(1e-3, 0.4))),
]  # fmt: skip

# Golden trajectories of rules that are not the package's, by SEMANTICS of each library.
NOT_OURS = {
    "optax: amsgrad b2 .999": "maximum over the corrected moments",
    "optax: amsgrad b2 .9": "maximum over the corrected moments",
    "optax: amsgrad (bc False,False) b2 .9": "nothing corrected",
    "optax: nadam": "a constant beta1",
    "optax: radam": "eps after the correction of v",
    "optax: radam eps .1": "eps after the correction of v",
    "optax: rprop": "wrong: one step late, optax#1725",
    "optax: adan": "wrong weights of the difference, optax#1715",
    "optax: signum": "not a rule here",
}
