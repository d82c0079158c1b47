"""Compilation of the kernels to object files.

Numba turns the kernels into LLVM's intermediate language, without optimizing them. LLVM optimizes this module for each
target. Every entry point becomes a C function of the address of its arguments, flattened as by `entry_points`.
"""

from __future__ import annotations

import os

# Before Numba is imported: portable code, which LLVM optimizes for each target later.
os.environ |= {"BPE_KERNELS": "build", "NUMBA_OPT": "0", "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}

from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock

from bpe import kernels
from bpe.kernels.machine.compiling import ENTRY_POINTS
from bpe.kernels.machine.entry_points import FAILED, ArrayType, argument_types, is_numbers
from bpe.kernels.machine.machine_code import TARGETS

_WORD = ir.IntType(64)


@global_compiler_lock
def portable_module() -> str:
    """Return all kernels as one module of LLVM's intermediate language, in which only the entry points are visible."""
    for info in walk_packages(kernels.__path__, f"{kernels.__name__}."):
        if not info.name.startswith(f"{kernels.__name__}.machine"):
            import_module(info.name)
    whole = llvm.parse_assembly("")
    for name, dispatcher in ENTRY_POINTS.items():
        whole.link_in(llvm.parse_assembly(_c_function(name, dispatcher)))
    for value in (*whole.functions, *whole.global_variables):
        if not value.is_declaration and value.name not in ENTRY_POINTS:
            value.linkage = "internal"
    return str(whole)


def _c_function(name: str, dispatcher: Any) -> str:
    """Compile one entry point with its C function."""
    kinds = argument_types(dispatcher.py_func)
    dispatcher.compile(tuple(map(_numba_type, kinds)))
    (compiled,) = dispatcher.overloads.values()
    context = compiled.target_context
    library = context.codegen().create_library(name)
    module = library.create_ir_module(name)
    function = ir.Function(module, ir.FunctionType(_WORD, [_WORD.as_pointer()]), name)
    builder = ir.IRBuilder(function.append_basic_block())
    arguments = _Reader(context, builder, function.args[0]).values(kinds)
    callee = context.declare_function(module, compiled.fndesc)
    signature = compiled.signature
    status, result = context.call_conv.call_function(builder, callee, signature.return_type, signature.args, arguments)
    with cgutils.if_unlikely(builder, status.is_error):
        builder.ret(ir.Constant(_WORD, FAILED))
    if signature.return_type == types.none:
        builder.ret(ir.Constant(_WORD, 0))
    else:
        builder.ret(context.cast(builder, result, signature.return_type, types.int64))
    library.add_ir_module(module)
    library.add_linking_library(compiled.library)
    library.finalize()
    text: str = library.get_llvm_str()
    return text


def _numba_type(kind: Any) -> Any:
    """Return Numba's type for a type of `argument_types`."""
    if kind is int:
        return types.int64
    if type(kind) is ArrayType:
        return types.Array(getattr(types, kind.dtype), kind.dimensions, "C")
    fields = [_numba_type(field) for field in argument_types(kind)]
    same = all(field == fields[0] for field in fields)
    return types.NamedUniTuple(fields[0], len(fields), kind) if same else types.NamedTuple(fields, kind)


class _Reader:
    """Reads flattened arguments, one word after the other."""

    def __init__(self, context: Any, builder: Any, address: Any) -> None:
        self._context, self._builder, self._address = context, builder, address
        self._count = 0

    def values(self, kinds: list[Any]) -> list[Any]:
        """Return the values of arguments or fields of these types."""
        return [self._value(kind) for kind in kinds]

    def _word(self) -> Any:
        pointer = self._builder.gep(self._address, [_WORD(self._count)])
        self._count += 1
        return self._builder.load(pointer)

    def _value(self, kind: Any) -> Any:
        if kind is int:
            return self._word()
        if type(kind) is ArrayType:
            return self._array(kind)
        if is_numbers(kind):
            values = self.values(argument_types(kind))
        else:
            address = self._builder.inttoptr(self._word(), _WORD.as_pointer())
            values = _Reader(self._context, self._builder, address).values(argument_types(kind))
        return self._context.make_tuple(self._builder, _numba_type(kind), values)

    def _array(self, kind: ArrayType) -> Any:
        """Return an array that owns no memory."""
        builder, array_type = self._builder, _numba_type(kind)
        array = self._context.make_array(array_type)(self._context, builder)
        data = builder.inttoptr(self._word(), array.data.type)
        shape = [self._word() for _ in range(kind.dimensions)]
        itemsize = self._context.get_constant(types.intp, array_type.dtype.bitwidth // 8)
        strides = [itemsize]
        for size in reversed(shape[1:]):
            strides.insert(0, builder.mul(strides[0], size))
        number = shape[0]
        for size in shape[1:]:
            number = builder.mul(number, size)
        array.data, array.itemsize, array.nitems = data, itemsize, number
        array.shape = cgutils.pack_array(builder, shape)
        array.strides = cgutils.pack_array(builder, strides)
        array.meminfo = cgutils.get_null_value(array.meminfo.type)
        array.parent = cgutils.get_null_value(array.parent.type)
        return array._getvalue()


def object_file(module: str, target: str) -> bytes:
    """Return the machine code of a module of LLVM's intermediate language for one of `TARGETS`, as an ELF file."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    architecture, _ = TARGETS[target]
    triple = f"{architecture}-unknown-linux-gnu"
    cpu = target if architecture == "x86_64" else "generic"
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3, reloc="pic", codemodel="small")
    parsed = llvm.parse_assembly(module)
    parsed.triple, parsed.data_layout = triple, str(machine.target_data)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    code: bytes = machine.emit_object(parsed)
    return code
