"""CPU code generation: MLIR text, LLVM, object files."""
