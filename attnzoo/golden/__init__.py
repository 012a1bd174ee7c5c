"""Golden files: prove that a block computes what a reference computed.

A golden file (safetensors) holds the inputs, tensors, outputs and gradients of one call of a reference, and in its
metadata which reference, how it was constructed and called. `verify` finds the dialect for it among the installed
cards, builds the block with the translated arguments, loads the translated tensors, calls it, and compares.
"""

from attnzoo.golden.compare import Comparison
from attnzoo.golden.files import GoldenFile, read_golden
from attnzoo.golden.match import find_dialects
from attnzoo.golden.verify import Verdict, load_foreign, verify

__all__ = ["Comparison", "GoldenFile", "Verdict", "find_dialects", "load_foreign", "read_golden", "verify"]
