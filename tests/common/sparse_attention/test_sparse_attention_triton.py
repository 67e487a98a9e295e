# Copyright (c) SAM bundles for MONAI contributors
# Licensed under the Apache License, Version 2.0: see the file LICENSE.
"""The Triton kernels without a GPU: their numbers in Triton's interpreter, and that they compile for real devices.

With a GPU the table of test_sparse_attention.py runs them there by itself.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="already inside the interpreter")

TABLE = Path(__file__).with_name("test_sparse_attention.py")
SHORT_TABLE = [
    *(f"test_lengths[triton-cpu-1-{name}]" for name in ("paper", "uneven")),
    *(f"test_lengths[triton-cpu-31-{name}]" for name in ("long", "mixed", "sparser_than_segment")),
    *(f"test_lengths[triton-cpu-127-{name}]" for name in ("paper", "long", "dense", "dilated_dense", "uneven")),
    "test_dtypes_and_head_sizes[triton-cpu-paper-torch.bfloat16-16]",
    "test_dtypes_and_head_sizes[triton-cpu-uneven-torch.float16-128]",
    "test_dtypes_and_head_sizes[triton-cpu-mixed-torch.float32-80]",
    "test_morton_sequences[triton-cpu-paper-grid1-1]",
    "test_any_strides[triton-cpu-uneven]",
]


def run_table(*arguments):
    root = TABLE.parents[3]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    return result.stdout


def test_numbers_in_the_interpreter():
    assert f"{len(SHORT_TABLE)} passed" in run_table(*(f"{TABLE}::{case}" for case in SHORT_TABLE))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whole_table_in_the_interpreter():
    assert "passed" in run_table(str(TABLE), "-k", "triton", "-m", "not slow", "--timeout", "600")


@pytest.mark.parametrize(
    ("dtype", "head_dim", "capability"), [(torch.bfloat16, 128, 80), (torch.bfloat16, 128, 90), (torch.float32, 32, 80)]
)
@pytest.mark.parametrize("name", ["_forward", "_backward_q", "_backward_kv"])
def test_compiles_for_devices_not_at_hand(name, dtype, head_dim, capability, tmp_path, monkeypatch):
    """The interpreter accepts more than the compiler does; and the tiles must fit the device's shared memory."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from common.sparse_attention import triton_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(triton_kernel, name)
    options = triton_kernel.options(head_dim, 2, dtype)
    constants = {argument: options.pop(argument) for argument in kernel.arg_names if argument in options}
    element = {torch.bfloat16: "*bf16", torch.float32: "*fp32"}[dtype]
    types = {"pattern_table": "*i32", "lse": "*fp32", "delta": "*fp32", "scale": "fp32", "scale_log2": "fp32"}
    types |= dict.fromkeys(("q", "k", "v", "out", "d_out", "d_q", "d_k", "d_v"), element)
    types |= dict.fromkeys(constants, "constexpr")
    signature = {argument: types.get(argument, "i32") for argument in kernel.arg_names}
    # Triton tells the compiler which arguments are multiples of 16, as strides are but for that of the last axis.
    aligned = [argument for argument, kind in signature.items() if kind.startswith("*")]
    aligned += [argument for argument in kernel.arg_names if argument.endswith(("_batch", "_head", "_token"))]
    attributes = {(kernel.arg_names.index(argument),): [["tt.divisibility", 16]] for argument in aligned}
    source = ASTSource(
        kernel,
        signature,
        constexprs={(kernel.arg_names.index(argument),): value for argument, value in constants.items()},
        attrs=attributes,
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert compiled.metadata.shared <= 99 * 1024
    if dtype == torch.bfloat16:
        assert "mma" in compiled.asm["ptx"], "the products do not run on tensor cores"
