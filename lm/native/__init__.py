"""Kernels in C++ for a CPU: loss and gradients of a whole decoder, clipping with AdamW, and sampling, in a call each;
and one block as an operation of autograd.

They are on by default and compiled for the processor at hand when they are first needed (build.py), which takes some
seconds once; PHYSICS_OF_LMS_NATIVE=0 switches them off, and where there is no compiler everything works without them,
more slowly. Their sums are rounded in another order than those of the plain path of lm.model, their naive reference.
"""
