"""The CUDA sources compile without a GPU: every instance, and for the oldest and newest architecture machine code."""

from __future__ import annotations

import ctypes
import inspect
import re
import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

from recon.kernels import cpu, cuda

# machine code for Volta and Blackwell, and for Hopper what a driver makes machine code from, in half the time
ARCHITECTURES = ("sm_70", "compute_90", "sm_120")


# ---------------------------------------------------------------- the same functions


def functions(module, is_kernel):
    return {
        name: list(inspect.signature(getattr(f, "py_func", f)).parameters)
        for name, f in vars(module).items()
        if is_kernel(f) and not name.startswith("_")
    }


def test_launchers_have_the_names_and_arguments_of_the_cpu_kernels():
    on_cpu = functions(cpu, lambda f: getattr(f, "__name__", "") in cpu.__all__)
    on_cuda = functions(cuda, lambda f: inspect.isfunction(f) and f.__module__ == cuda.__name__)
    del on_cuda["source"], on_cuda["compile_file"]
    assert {"project", "tgv_primal", "poisson_dual"} <= set(on_cpu)
    assert on_cuda == on_cpu


# ---------------------------------------------------------------- compilation


class CompileError(Exception):
    pass


@cache
def nvrtc():
    """NVRTC of an installed wheel, or None."""
    for package in ("nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu13"):
        try:
            found = [f.locate() for f in files(package) or () if f.name.startswith("libnvrtc.so.")]
        except PackageNotFoundError:
            continue
        if found:
            return ctypes.CDLL(str(found[0]))
    return None


def nvrtc_architectures(library):
    count = ctypes.c_int()
    library.nvrtcGetNumSupportedArchs(ctypes.byref(count))
    numbers = (ctypes.c_int * count.value)()
    library.nvrtcGetSupportedArchs(numbers)
    return [f"{kind}_{number}" for number in numbers for kind in ("sm", "compute")]


def compile_nvrtc(library, text, architecture, expressions=()):
    """Compiler's log; every name expression must have a compiled kernel."""
    program, size, lowered = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_char_p()
    assert library.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernels.cu", 0, None, None) == 0
    for expression in expressions:
        assert library.nvrtcAddNameExpression(program, expression.encode()) == 0
    options = [option.encode() for option in (*cuda.OPTIONS, f"--gpu-architecture={architecture}")]
    status = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    if status != 0:
        raise CompileError(log.value.decode())
    for expression in expressions:
        assert library.nvrtcGetLoweredName(program, expression.encode(), ctypes.byref(lowered)) == 0, expression
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return log.value.decode().strip()


def compile_nvcc(text, architecture, expressions, folder):
    """The same with the CUDA toolkit; kernels are instantiated by taking their addresses."""
    kept = "".join(f"\nauto kernel_{i} = &{e};" for i, e in enumerate(expressions))
    (folder / "kernels.cu").write_text(text + kept)
    kind = "-ptx" if architecture.startswith("compute") else "-cubin"
    command = ["nvcc", *cuda.OPTIONS, f"-arch={architecture}", kind, "-o", "kernels.out", "kernels.cu"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise CompileError(done.stderr)
    return done.stderr.strip()


def instances(file, architecture):
    """Every instance of the templates in one kind of code, the last of each kernel in the others."""
    every = cuda.KERNELS[file]
    return every if architecture == "compute_90" else tuple({e.partition("<")[0]: e for e in every}.values())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("file", cuda.KERNELS)
def test_source_compiles_without_a_warning(file, architecture, tmp_path):
    text, expressions = cuda.source(file), instances(file, architecture)
    library = nvrtc()
    if library is not None:
        if architecture not in nvrtc_architectures(library):
            pytest.skip(f"this NVRTC does not know {architecture}")
        log = compile_nvrtc(library, text, architecture, expressions)
    elif shutil.which("nvcc"):
        commands = (["nvcc", "--list-gpu-code"], ["nvcc", "--list-gpu-arch"])
        known = " ".join(subprocess.run(c, capture_output=True, text=True).stdout for c in commands).split()
        if architecture not in known:
            pytest.skip(f"this nvcc does not know {architecture}")
        log = compile_nvcc(text, architecture, expressions, tmp_path)
    else:
        pytest.skip("neither the wheel nvidia-cuda-nvrtc-cu12 nor nvcc is installed")
    deprecation = r"(?i).*warning.*(architectures|gpu targets).*deprecated.*"  # of the oldest architecture
    assert [line for line in log.splitlines() if line and not re.fullmatch(deprecation, line)] == []


def test_every_source_file_is_compiled():
    assert {path.name for path in Path(cuda.__file__).parent.glob("*.cu")} == set(cuda.KERNELS)


@pytest.mark.parametrize("file", ["tgv.cu", "difference.cuh", "index.cuh"])
def test_compiler_errors_point_into_the_file(file, tmp_path, monkeypatch):
    library = nvrtc()
    if library is None:
        pytest.skip("the wheel nvidia-cuda-nvrtc-cu12 is not installed")
    for path in Path(cuda.__file__).parent.glob("*.cu*"):
        shutil.copy(path, tmp_path)
    with (tmp_path / file).open("a+") as broken:
        broken.write("nonsense;\n")
        broken.seek(0)
        last = len(broken.readlines())
    monkeypatch.setattr(cuda, "_FOLDER", tmp_path)
    with pytest.raises(CompileError, match=rf"(?m)^{file}\({last}\): error"):
        compile_nvrtc(library, cuda.source("tgv.cu"), "sm_80")
