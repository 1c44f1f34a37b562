"""Sphinx's settings. ``scripts/docs`` builds the site; a warning is an error."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
os.environ.setdefault("NUMBA_CACHE_DIR", str(HERE.parent / ".numba_cache"))  # before the gallery imports Numba
os.environ["MPLBACKEND"] = "Agg"
sys.path[:0] = [str(HERE / "_extensions"), str(HERE.parent)]

import numbaopt  # noqa: E402
import numbaopt.linear_model  # noqa: E402

project = "numbaopt"
author = copyright = "The numbaopt developers"  # noqa: A001
version = release = numbaopt.__version__

extensions = [
    "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "sphinx-mathjax-offline", "numpydoc",
    "myst_parser", "sphinx_design", "sphinx_copybutton", "sphinx_gallery.gen_gallery", "tables",
]  # fmt: skip
exclude_patterns = ["_build"]
templates_path = ["_templates"]
default_role = "py:obj"
nitpicky = True

html_theme = "furo"
html_title = "numbaopt"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # README, parts of which are pages here, names files of the repository

autosummary_generate = True
autodoc_typehints = "none"
autodoc_preserve_defaults = True
numpydoc_show_class_members = False  # the template says which
numpydoc_validation_checks = {"PR01", "PR02", "GL08"}
numpydoc_validation_exclude = {r"\.[A-Z]\w+\.\w+$"}  # methods, which say in a sentence what they do
autosummary_context = {"shown": {  # methods that people call; scikit-learn documents its own
    "numbaopt.LinearModel": ["split", "join", "value", "value_and_grad"],
    "numbaopt.FiniteSum": ["value", "value_and_grad"],
    "numbaopt.stream.Source": ["read", "labels", "classes", "steps_per_epoch"],
    **{f"numbaopt.linear_model.{name}":
       [key for key in ("fit", "partial_fit", "predict", "predict_proba", "decision_function")
        if getattr(getattr(getattr(numbaopt.linear_model, name), key, None), "__module__", "").startswith("numbaopt")]
       for name in numbaopt.linear_model.__all__},
}}  # fmt: skip

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 1e9,
    "write_computation_times": False,
    "within_subsection_order": "FileNameSortKey",
}
