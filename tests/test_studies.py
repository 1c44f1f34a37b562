"""Studies: a file becomes jobs, each of which says all that its run needs."""

import json
from pathlib import Path

import numpy as np
import pytest
from files import written

import numbaopt as no
from numbaopt.experiments import ExperimentError, load
from numbaopt.experiments.build import build
from numbaopt.experiments.config import presentation
from numbaopt.schedules import Cosine
from numbaopt.transforms import ClipByNorm, chain

SADDLE = "\n[problems.p]\nproblem = 'saddle'\nmaxiter = 5\n"
CANCER = "\n[problems.p]\nproblem = 'logistic_regression'\nepochs = 1\nbatch_size = 64\n"


def study(folder, text, **options):
    return load(written(folder, text), **options)


def refused(folder, text, **options):
    with pytest.raises(ExperimentError) as error:
        study(folder, text, **options)
    return str(error.value)


class TestGrids:
    def test_lists_and_ranges_multiply(self, tmp_path):
        jobs = study(tmp_path, """
            [methods]
            Adam = { method = "adam", lr = { log = [1e-3, 0.1, 3] }, beta1 = [0.0, 0.9] }
            m = { method = "momentum", lr = { linear = [0, 1, 3] }, momentum = { grid = [0.5] } }
        """ + SADDLE).jobs  # fmt: skip
        assert [job.settings for job in jobs[:6]] == [
            {"lr": lr, "beta1": beta} for lr in (0.001, 0.01, 0.1) for beta in (0.0, 0.9)]  # fmt: skip
        assert [job.settings["lr"] for job in jobs[6:]] == [0.0, 0.5, 1.0]
        assert all(job.spec["method"]["momentum"] == 0.5 for job in jobs[6:])
        assert len({job.id for job in jobs}) == 9

    def test_fields_of_schedules_and_of_rules_within_rules(self, tmp_path):
        jobs = study(tmp_path, """
            [methods]
            a = { method = "sgd", lr = { schedule = "cosine", lr = [0.1, 1.0], steps = [10, 20] } }
            b = { method = "switch", at = [5, 7], first = { method = "adam", lr = 0.1 }, second = { method = "gd" } }
            c = { method = "lookahead", opt = { method = "adam", lr = [0.1, 0.2] }, k = 6, clip_norm = 2.0 }
            d = { method = "sgd", lr = [0.1, { schedule = "multi_step", lr = 0.1, milestones = [3, 4] }] }
        """ + SADDLE).jobs  # fmt: skip
        assert [job.settings for job in jobs[:4]] == [
            {"lr": lr, "lr.steps": steps} for lr in (0.1, 1.0) for steps in (10, 20)]  # fmt: skip
        made = [build(job.spec).method for job in jobs]
        assert made[1] == no.SGD(lr=Cosine(0.1, 20))
        assert made[5] == no.Switch(no.Adam(lr=0.1), no.SGD(), at=7)
        assert made[7] == chain(ClipByNorm(2.0), no.Lookahead(no.Adam(lr=0.2), k=6))
        assert jobs[7].settings == {"lr": 0.2}
        assert made[9] == no.SGD(lr=no.schedules.MultiStep(0.1, (3.0, 4.0)))

    def test_random_search_draws_the_same_again_and_more(self, tmp_path):
        text = """
            {seed}
            [methods.Adam]
            method = "adam"
            samples = {n}
            lr = {{ low = 1e-4, high = 1, scale = "log" }}
            beta1 = {{ low = 0.5, high = 0.9 }}
            maxiter = {{ low = 3, high = 5 }}
            eps_hat = {{ choice = [true, false] }}
        """ + SADDLE  # fmt: skip
        few, many = (study(tmp_path, text.format(n=n, seed="")).jobs for n in (5, 40))
        assert [job.id for job in few] == [job.id for job in many[:5]]
        told = [job.settings for job in many]
        assert len({entry["lr"] for entry in told}) == 40
        assert 15 < sum(entry["lr"] < 1e-2 for entry in told) < 25
        assert all(0.5 <= entry["beta1"] < 0.9 for entry in told)
        assert {entry["maxiter"] for entry in told} == {3, 4, 5}
        assert {entry["eps_hat"] for entry in told} == {True, False}
        other = study(tmp_path, text.format(n=5, seed="search_seed = 1")).jobs
        assert other[0].settings != few[0].settings

    def test_problems_have_grids_too(self, tmp_path):
        trials = study(tmp_path, """
            [methods]
            a = { method = "gd" }
            [problems.net]
            problem = "network"
            hidden = { grid = [[4], [4, 5]] }
            activation = ["tanh", "relu"]
            [problems.cancer]
            problem = "logistic_regression"
            l2 = [0.01, 1e-6]
        """).trials  # fmt: skip
        assert [trial.name for trial in trials] == [
            "net-hidden_4-activation_tanh", "net-hidden_4-activation_relu", "net-hidden_4_5-activation_tanh",
            "net-hidden_4_5-activation_relu", "cancer-l2_0.01", "cancer-l2_1e_06"]  # fmt: skip
        assert trials[2].problem.hidden == [4, 5]

    def test_names_of_problems_fit_into_file_names_and_differ(self, tmp_path):
        text = "[methods]\na = {{ method = 'gd' }}\n[problems.p]\nproblem = 'network'\nhidden = {{ grid = {} }}"
        names = [trial.name for trial in study(tmp_path, text.format([[4] * 60, [4] * 61])).trials]
        assert len(set(names)) == 2
        assert max(map(len, names)) == 100
        text = "[methods]\na = { method = 'gd' }\n[problems.p]\nproblem = 'saddle'\n[problems.p-dimension_2]\n" \
               "problem = 'saddle'\n[problems.p2]\nproblem = 'rastrigin'\ndimension = [2, 3]\n"
        assert "two problems, or values of a grid, have this name" in refused(
            tmp_path, text.replace("[problems.p2]", "[problems.q]").replace("p-dimension_2", "q-dimension_2"))

    @pytest.mark.parametrize(("field", "message"), [
        ("lr = []", "methods.a.lr = []: a grid needs values"),
        ("lr = [0.1, 0.1]", "names a value twice"),
        ("lr = { log = [1, 2] }", "methods.a.lr.log = [1, 2] must be [first, last, how many]"),
        ("lr = { log = [1, 2, 3.0] }", "must be [first, last, how many]"),
        ("lr = { log = [0, 2, 3] }", "needs two different ends and positive ends, and at least 2 values"),
        ("lr = { linear = [0, 2, 1] }", "at least 2 values"),
        ("lr = { log = [1, 2, 3], low = 3 }", "unknown key 'methods.a.lr.low'; did you mean 'log'?"),
        ("lr = { logspace = [-3, 0, 4] }", "unknown key 'methods.a.lr.logspace'; did you mean 'log'? valid: choice"),
        ("lr = { lineer = [0, 1, 4] }", "unknown key 'methods.a.lr.lineer'; did you mean 'linear'?"),
        ("lr = { low = 1, high = 2 }", "methods.a.lr is drawn at random: say how often, samples = 20"),
        ("samples = 3", "methods.a.samples = 3: nothing is drawn there"),
        ("samples = 0, lr = { low = 1, high = 2 }", "methods.a.samples = 0 must be a whole number, at least 1"),
        ("samples = 2, lr = { low = 2, high = 1 }", "must be numbers, low < high"),
        ("samples = 2, lr = { low = 0, high = 1, scale = 'log' }", "low < high, both positive"),
        ("samples = 2, lr = { low = 1, high = 2, scale = 'lgo' }", "did you mean 'log'?"),
        ("lr = [0.1, -1.0]", "methods.a: Adam(lr=-1.0): lr must be in [0, inf)"),
        ("maxiter = [1, 2.5]", "methods.a.maxiter = 2.5: input should be a valid integer"),
        ("seed = [1, 2]", "methods.a.seed: the seeds of runs are a list under the key 'seeds'"),
    ])  # fmt: skip
    def test_faults(self, tmp_path, field, message):
        assert message in refused(tmp_path, f"[methods]\na = {{ method = 'adam', {field} }}{SADDLE}")


def test_the_study_of_the_readme_is_sound(tmp_path):
    text = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf-8")
    written(tmp_path, "1,2,0\n3,4,1\n", "a9a.csv")
    found = study(tmp_path, text.split("```toml\n")[1].split("```")[0])
    assert [trial.name for trial in found.trials] == ["dents-dimension_2", "dents-dimension_10", "text-data_a9a",
                                                      "text-data_wide"]  # fmt: skip
    assert found.count == 4 * 10 * (9 + 40) + 2 * 10 + 2  # L-BFGS has nothing random on data


class TestPresentation:
    TEXT = "[methods]\na = { method = 'gd' }" + SADDLE + "metrics = ['above']\n"

    def test_it_is_read_without_data(self, tmp_path):
        text = self.TEXT + "[output]\nformats = ['svg']\nagainst = ['epoch']\nquantiles = [0.1, 0.9]\n"
        output, metrics = presentation(text)
        assert (output.formats, output.against, output.quantiles) == (["svg"], ["epoch"], [0.1, 0.9])
        assert metrics == {"p": ("above",)}
        assert study(tmp_path, text).output == output

    @pytest.mark.parametrize(("line", "message"), [
        ("format = ['svg']", "unknown key 'output.format'; did you mean 'formats'?"),
        ("formats = ['sgv']", "output.formats.0 = 'sgv' is not known; did you mean 'svg'?"),
        ("formats = []", "output.formats = []: "), ("quantiles = [0.9, 0.1]", "output: quantiles = [0.9, 0.1]"),
        ("quantiles = [0.1, 0.5, 0.9]", "output.quantiles = "),
        ("objective = [0.7, 0.2]", "output: objective = [0.7, 0.2] must be two numbers, the lower one first"),
    ])  # fmt: skip
    def test_faults(self, tmp_path, line, message):
        assert message in refused(tmp_path, f"{self.TEXT}[output]\n{line}")


class TestSeeds:
    def test_only_what_is_random_runs_more_than_once(self, tmp_path):
        jobs = study(tmp_path, """
            seeds = 3
            [methods]
            sgd = { method = "sgd" }
            gd = { method = "gd", batch_size = "all" }
            ordered = { method = "sgd", shuffle = false }
            saga = { method = "saga" }
            newton = { method = "newton" }
        """ + CANCER).jobs  # fmt: skip
        assert {label: [job.seed for job in jobs if job.method == label] for label in ("sgd", "gd", "ordered")} == {
            "sgd": [0, 1, 2], "gd": [0], "ordered": [0]}  # fmt: skip
        assert [job.seed for job in jobs if job.method in ("saga", "newton")] == [0, 1, 2, 0]
        shared = {json.dumps(job.spec["problem"]) for job in jobs}
        assert len(shared) == 1
        assert len({job.id for job in jobs}) == len(jobs)
        assert [build(job.spec).options["seed"] for job in jobs[:3]] == [0, 1, 2]

    def test_noise_is_another_for_every_seed_from_one_start(self, tmp_path):
        jobs = study(tmp_path, """
            seeds = 2
            [methods]
            plain = { method = "gd" }
            noisy = { method = "gd", gradient_noise = [0.1, 0.2] }
        """ + SADDLE).jobs
        assert [job.seed for job in jobs] == [0, 0, 1, 0, 1]
        assert build(jobs[1].spec).method != build(jobs[2].spec).method

    def test_networks_start_elsewhere_and_train_on_the_same_rows(self, tmp_path):
        jobs = study(tmp_path, """
            [methods]
            a = { method = "gd" }
            [problems.p]
            problem = "network"
            hidden = [4]
            seeds = [4, 2]
        """).jobs  # fmt: skip
        one, two = (build(job.spec).task for job in jobs)
        assert [job.seed for job in jobs] == [4, 2]
        assert one.fun is two.fun
        assert not np.array_equal(one.x0, two.x0)

    @pytest.mark.parametrize("seeds", ["0", "[1, 1]", "[-1]", "'3'", "[]", "1000000", "true"])
    def test_faults(self, tmp_path, seeds):
        assert "seeds" in refused(tmp_path, f"seeds = {seeds}\n[methods]\na = {{ method = 'gd' }}{SADDLE}")


class TestBuild:
    def test_a_job_is_json_and_its_run_is_the_same(self, tmp_path):
        job = study(tmp_path, "[methods]\na = { method = 'adam', lr = 0.2, gtol = 0.0 }" + SADDLE).jobs[0]
        built = build(json.loads(json.dumps(job.spec)))
        assert (built.method, built.options) == (no.Adam(lr=0.2), {"maxiter": 5, "gtol": 0.0})
        res = no.minimize(built.task.fun, built.task.x0, jac=built.task.jac, method=built.method, options=built.options)
        assert res.nit == 5

    def test_the_same_run_has_one_name_wherever_its_files_are(self, tmp_path):
        text = "[methods]\na = { method = 'gd' }" + SADDLE
        (tmp_path / "other").mkdir()
        assert study(tmp_path, text).jobs[0].id == study(tmp_path / "other", text).jobs[0].id

    def test_solvers_take_from_a_problem_what_they_know(self, tmp_path):
        jobs = study(tmp_path, """
            [methods]
            a = { method = "lbfgs", memory = 5 }
            b = { method = "auto" }
            c = { method = "L-BFGS-B" }
        """ + CANCER).jobs  # fmt: skip
        first, auto, last = (build(job.spec) for job in jobs)
        assert (first.method, first.options) == (no.LBFGS(memory=5), {"epochs": 1, "seed": 0})
        assert auto.method == "auto"
        assert last.options == {"epochs": 1, "seed": 0}  # not our ftol, but SciPy's
        assert first.task.solved_by(first.method, first.options).nit == 1

    @pytest.mark.parametrize(("method", "problem", "message"), [
        ("method = 'lbfgs', batch_size = 3", CANCER, "methods.a.batch_size: method 'lbfgs' has no use for it"),
        ("method = 'lbfgs', clip_norm = 3.0", SADDLE, "only rules such as 'adam' take clip_norm"),
        ("method = 'saga'", SADDLE, "methods.a: method 'saga' solves linear models only"),
        ("method = 'lm'", SADDLE, "methods.a.method = 'lm' is not a known method"),
        ("method = 'lookahead', opt = { method = 'lbfgs' }", SADDLE, "a.opt.method = 'lbfgs' is not a known rule"),
        ("method = 'lookahead', opt = { method = 'adam', beta = 1 }", SADDLE, "unknown key 'methods.a.opt.beta'; "),
        ("method = 'lookahead', opt = { method = 'adam' }, k = 0", SADDLE, "methods.a: "),
        ("method = 'lookahead'", SADDLE, "methods.a: Lookahead() missing 1 required positional argument: 'opt'"),
        ("method = 'auto', clip_norm = 1.0", SADDLE, "takes no clip_norm"),
        ("method = 'trust-ncg', max_trust_radius = inf", SADDLE, "methods.a.max_trust_radius = inf: numbers must be"),
        ("method = 'adam', target = { relativ = 1.0 }", SADDLE, "unknown key 'target.relativ'; did you mean 'relati"),
        ("method = 'adam', target = { relative = 2.0 }", SADDLE, "target.relative = 2.0: input should be less than 1"),
        ("method = 'adam'", SADDLE + "start = 'rnd'", "problems.p.start = 'rnd' must be a valid list or 'random'"),
        ("method = 'adam'", CANCER + "standardize = 'larges'", "= 'larges' must be a valid boolean or 'largest'"),
        ("method = 'adam'", CANCER + "average = 'plyak'", "average = 'plyak' is not known; did you mean 'polyak'?"),
        ("method = 'adam'", CANCER.replace("logistic_regression'", "linear_model'\nloss = 'hubre'"),
         "problems.p: loss = 'hubre' is not a known loss; did you mean 'huber'?"),
        ("method = 'adam'", CANCER.replace("logistic_regression'", "linear_model'\nloss = { loss = 'huber', dlt = 1 }"),
         "problems.p: loss: Huber has no field 'dlt'; did you mean 'delta'?"),
    ])  # fmt: skip
    def test_methods_that_do_not_fit(self, tmp_path, method, problem, message):
        assert message in refused(tmp_path, f"[methods]\na = {{ {method} }}{problem}")


class TestBudgets:
    def ends(self, folder, line, method="method = 'adam', lr = 0.1"):
        job = study(folder, f"[methods]\na = {{ {method}, {line} }}\n[problems.p]\nproblem = 'rosenbrock'").jobs[0]
        built = build(job.spec)
        return built, no.minimize(built.task.fun, built.task.x0, jac=built.task.jac, method=built.method,
                                  options=built.options)  # fmt: skip

    def test_evaluations(self, tmp_path):
        built, res = self.ends(tmp_path, "max_evaluations = 50")
        assert res.nit == 49
        assert "max_evaluations" not in built.options  # a rule's are its steps
        built, res = self.ends(tmp_path, "max_evaluations = 20", "method = 'lbfgs'")
        assert 20 <= res.nfev < 25
        assert (res.status, res.message) == (1, "The limit on evaluations was reached before the tolerance.")

    def test_target(self, tmp_path):
        built, res = self.ends(tmp_path, "target = { relative = 1e-3 }")
        first = built.task.value(built.task.x0)
        assert 1e-4 * first < res.fun <= 1e-3 * first
        assert res.message.startswith("The target was reached")
        _, res = self.ends(tmp_path, "target = 2.0")
        assert 1.0 < res.fun <= 2.0

    def test_seconds(self, tmp_path):
        _, res = self.ends(tmp_path, "max_seconds = 0.05, maxiter = 1000000000, gtol = 0.0")
        assert res.status == 1
        assert "max_seconds" in res.message
        assert 0.05 <= res.history.seconds[-1] < 5
