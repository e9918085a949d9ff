"""Compiled kernels: the same neurons as the torch code, in one pass over memory.

`neuron.h` holds what one neuron does; `host.cpp` runs populations of them on a processor (built at first use by the
system's C++ compiler, see `host`), `window.cu` on a GPU (built by CuPy, see `cuda`).
"""
