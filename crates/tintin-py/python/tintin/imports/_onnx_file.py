"""Opening ONNX files, and what to ask a node."""

from __future__ import annotations

import os
from typing import Any


def load(onnx: Any, model: Any) -> Any:
    """The ModelProto of a path, of bytes, or the one that is given."""
    if hasattr(model, "graph"):
        return model
    if not isinstance(model, (bytes, bytearray, str, os.PathLike)):
        raise TypeError(f"model must be a path, bytes or a ModelProto, got {type(model).__name__}")
    given = bytes(model) if isinstance(model, (bytes, bytearray)) else os.fspath(model)
    try:
        loaded = onnx.load_from_string(given) if isinstance(given, bytes) else onnx.load(given)
    except OSError:
        raise
    except Exception as error:  # what protobuf raises has no common base
        what = "the bytes are" if isinstance(given, bytes) else f"{given} is"
        raise ValueError(f"{what} no ONNX file: {error}") from None
    if not loaded.graph.node:
        raise ValueError("the ONNX file holds no graph")
    return loaded


def perm_of(node: Any) -> tuple[int, ...]:
    """The order of axes a Transpose makes."""
    return next((tuple(entry.ints) for entry in node.attribute if entry.name == "perm"), ())


def title(node: Any) -> str:
    """Operator and name, or what it makes."""
    return f"{node.op_type} {node.name or 'that makes ' + node.output[0]}"
