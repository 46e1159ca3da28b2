"""JSON shapes in, vocabulary records out. No SDK: mappings, strings and bytes only.

shape = shape_for("chat")
shape.read_completion(payload, native)   # -> Completion
shape.read_chunk(payload, native)        # -> Chunk
shape.read_event(event, data, native)    # -> Chunk
"""

from __future__ import annotations

from .shape import Shape, shape_for
from .sse import SSEReader

__all__ = ["SSEReader", "Shape", "shape_for"]
