"""
Logistic regression in minibatches
==================================

A `numbaopt.LinearModel` is an objective; any rule minimizes it, whole or in minibatches. scikit-learn's interface to
the same loops is `numbaopt.linear_model`.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import numbaopt as no
from numbaopt.plotting import convergence

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

model = no.LinearModel(X_train, y_train, loss="logistic", l2=1e-3)
exact = no.minimize(model, method="auto", tol=1e-10)  # Newton's method: what the others are measured against

# %%
# Four rules, each with batches of 32 rows and the learning rate that ``experiments/tutorial.toml`` gives it.
rules = {"SGD": 0.1, "Momentum": 0.02, "AdaGrad": 0.1, "Adam": 0.01}
results = {
    name: no.minimize(model, method=name, options=dict(lr=lr, batch_size=32, epochs=60, seed=0))
    for name, lr in rules.items()
}
fig, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
convergence(results, x="epoch", optimum=exact.fun, ax=ax)
plt.show()

# %%
# Accuracy on rows that none of them has seen. The least objective is not the best score: with so little ``l2`` it pays
# to stop before it, which is what early stopping (options ``validation`` and ``patience``) does.
for name, result in {**results, "exact": exact}.items():
    coef, intercept = model.split(result.x)
    print(f"{name:>8}: {((X_test @ coef + intercept > 0) == y_test).mean():.3f}")
