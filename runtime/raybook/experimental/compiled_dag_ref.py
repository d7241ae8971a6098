"""Ray's address of the references to results of compiled graphs."""

from raybook.dag.references import CompiledDAGFuture, CompiledDAGRef

__all__ = ["CompiledDAGFuture", "CompiledDAGRef"]
