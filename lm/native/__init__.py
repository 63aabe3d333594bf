"""Kernels in C++ for a CPU: whole transformer blocks, gradient clipping and AdamW in one call each.

PHYSICS_OF_LMS_NATIVE=1 switches them on. They are compiled for the processor at hand when they are first needed
(build.py), which takes some seconds once; where there is no compiler everything works without them, more slowly. Their
sums are rounded in another order than those of the plain path of lm.model, which is their naive reference.
"""
