"""Helpers are linked first and optimised once: most of the time that a derivative takes to compile.

Numba optimises a compiled function alone and turns it into machine code, then does so again with each function that
calls it, level by level.  A derivative is many small functions on several levels, none of which is ever called but by
the outermost.  While one is compiled (`late`), a function that cannot be called from Python stays unoptimised until
another one needs it, which links all that it calls, at whatever depth, and optimises the whole.  What an ordinary
function needs later is finished then, as Numba would have done.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher, _FunctionCompiler
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

ENVIRONMENT, UNRESOLVED = "_ZN08NumbaEnv", ".numba.unresolved$"
_WAITING: weakref.WeakValueDictionary[str, Any] = weakref.WeakValueDictionary()  # libraries, by their functions


class Library(JITCodeLibrary):
    """The code of one function; ``waiting`` as long as it is neither optimised nor machine code."""

    waiting = False
    recursive = False  # whether it calls one that was not there yet, by a word that Numba fills in later

    def finalize(self):
        """Wait, if possible; where it is called the second time, do what Numba does."""
        names = [function.name for function in self._final_module.functions if not function.is_declaration]
        unresolved = self._codegen._rtlinker._unresolved
        variables = self._final_module.global_variables
        self.recursive = any(variable.name.startswith(UNRESOLVED) for variable in variables) or any(
            getattr(library, "recursive", False) for library in self._linking_libraries)  # fmt: skip
        if self.waiting or self.recursive or any(name in unresolved for name in names):
            for name in names:
                _WAITING.pop(name, None)
            self._finish()
            for name in [name for name in unresolved if name in _WAITING]:
                _WAITING[name]._need()
            return
        self.waiting = self._finalized = True
        _WAITING.update(dict.fromkeys(names, self))
        for library in self._linking_libraries:
            self._reload_init.update(library._reload_init)
        self._declare_environments()

    def _declare_environments(self) -> None:
        """Give the words that Numba fills in for each function their addresses: code linked later refers to them."""
        engine = self._codegen._engine
        names = [variable.name for variable in self._final_module.global_variables
                 if variable.name.startswith(ENVIRONMENT) and not engine.is_symbol_defined(variable.name)]  # fmt: skip
        if names:
            lines = [str(self._codegen._create_empty_module(f"{self.name}_environment"))]
            lines += [f'@"{name}" = common global ptr null' for name in names]
            self._codegen._add_module(llvm.parse_assembly("\n".join(lines)))

    def _finish(self) -> None:
        self.waiting = self._finalized = False
        below: list[Any] = []
        _collect(self, below, set())
        for library in reversed(below):  # a function before what it calls: what nobody calls is left out
            module = library._get_module_for_linking() if not _waits(library) else library._callable_module()
            self._final_module.link_in(module, preserve=not _waits(library))
        self._linking_libraries = []
        super().finalize()

    def _callable_module(self) -> Any:
        """A copy of this function alone, in a form that may be there many times."""
        module = self._final_module.clone()
        for function in module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"
        return module

    def _need(self) -> None:
        with global_compiler_lock:
            self._ensure_finalized()
            if self.waiting:
                self.finalize()

    @property
    def has_dynamic_globals(self):
        """Whether the code refers to what only this process has."""
        self._need()
        return self.recursive or super().has_dynamic_globals

    def _get_module_for_linking(self):
        if self.waiting and not self.recursive:
            return self._joined_module()
        self._need()
        return super()._get_module_for_linking()

    def _joined_module(self) -> Any:
        """A copy of this function and all it calls, for another one: optimised there, and nowhere else."""
        below: list[Any] = []
        _collect(self, below, set())
        module = self._callable_module()
        for library in reversed(below):
            part = library._get_module_for_linking() if not _waits(library) else library._callable_module()
            module.link_in(part, preserve=not _waits(library))
        return module

    def _get_compiled_object(self):
        self._need()
        return super()._get_compiled_object()

    def get_pointer_to_function(self, name):
        """The address of a function: machine code is needed now, if this library has the function at all."""
        self._ensure_finalized()
        if self.waiting and any(f.name == name and not f.is_declaration for f in self._final_module.functions):
            self._need()
        return super().get_pointer_to_function(name)


def _waits(library: Any) -> bool:
    return getattr(library, "waiting", False)


def _collect(library: Any, below: list[Any], seen: set[Any]) -> None:
    """All libraries that one has to link, each behind those that it needs itself."""
    for other in library._linking_libraries:
        if other not in seen:
            seen.add(other)
            if _waits(other):
                _collect(other, below, seen)
            below.append(other)


@contextlib.contextmanager
def late() -> Iterator[None]:
    """While this lasts, what is compiled waits until it is needed."""
    with global_compiler_lock:
        rtsys.initialize(cpu_target.target_context)  # what counts references is machine code of its own
        codegen = cpu_target.target_context.codegen()
        before, codegen._library_class = codegen._library_class, Library
        try:
            yield
        finally:
            codegen._library_class = before


class _Compiler(_FunctionCompiler):
    def _compile_core(self, args, return_type):
        with late():
            return super()._compile_core(args, return_type)


def link_late(dispatcher: Any) -> None:
    """Compile a jitted function, and all it needs, in this way."""
    if not isinstance(dispatcher, Dispatcher):  # where nothing is compiled
        return
    old = dispatcher._compiler
    dispatcher._compiler = _Compiler(old.py_func, old.targetdescr, old.targetoptions, old.locals, old.pipeline_class)
