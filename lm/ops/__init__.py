"""Functions without parameters behind the layers: fast kernels, each with a naive reference beside it."""
