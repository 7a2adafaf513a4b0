"""ONNX weights, run by onnxruntime on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

# On import onnxruntime 1.31 begins to report its use to Microsoft, on Linux too; nothing may leave this machine.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime as ort
from tokenizers import Tokenizer

from actors.errors import ModelLoadError

ort.disable_telemetry_events()

_SLOWER_FUSED = ["SkipLayerNormFusion"]
"""onnxruntime 1.31's fused kernel for it is scalar: a MiniLM without it takes an eighth less time."""


def open_session(path: Path, threads: int) -> ort.InferenceSession:
    """A session on `threads` cores. Raises: ModelLoadError."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads that spin would take the cores from the models beside this one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=_SLOWER_FUSED
        )
    except Exception as error:  # onnxruntime's exceptions share no base below Exception
        raise ModelLoadError(f"{path.name}: {error}") from error


def open_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer from its `tokenizer.json`. Raises: ModelLoadError."""
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the binding raises bare Exception
        raise ModelLoadError(f"{path.name}: {error}") from error
