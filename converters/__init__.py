"""How each scalar construct of Numba becomes MLIR, and how it comes back.

A topic is one file; the forward rule (Numba to MLIR) and the backward rule (MLIR to
LLVM IR inside a Numba intrinsic) of an operation stand in the same file.  Every rule
is entered in a table of :mod:`numba_mlir.converters.registry`.
"""
