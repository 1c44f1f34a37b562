"""A solver for benchopt's ``benchmark_logreg_l2``: copy this file into its folder ``solvers``."""

import numpy as np

import numbaopt as no
from benchopt import BaseSolver


class Solver(BaseSolver):
    """Every method of numbaopt that needs no learning rate, on

    .. math:: \\sum_i \\log(1 + \\exp(-y_i (x_i^\\top \\beta + b))) + \\frac{\\lambda}{2} \\|\\beta\\|^2 .
    """

    name = "numbaopt"
    sampling_strategy = "iteration"
    requirements = ["pip::numbaopt"]
    parameters = {"method": ["auto", "lbfgs", "saga", "svrg"]}
    parameter_template = "{method}"
    references = ["https://doi.org/10.1007/BF01589116", "https://doi.org/10.48550/arXiv.1407.0202"]

    def set_objective(self, X, y, lmbd, fit_intercept=False):
        n = X.shape[0]  # numbaopt's objective is a mean
        self.model = no.LinearModel(X, y, loss="logistic", l2=lmbd / n, fit_intercept=fit_intercept)
        self.limit = "epochs" if self.method in ("saga", "svrg") else "maxiter"

    def warm_up(self):
        self.run_once(stop_val=2)  # compiles

    def run(self, n_iter):
        if n_iter == 0:
            self.beta = np.zeros(self.model.n)
            return
        options = {self.limit: n_iter, "gtol": 0.0, "history": False}
        self.beta = no.minimize(self.model, method=self.method, options=options).x

    def get_result(self):
        return {"beta": self.beta}  # coefficients, then the intercept if there is one
