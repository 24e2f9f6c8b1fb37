"""Code generation: IR to artifacts."""
