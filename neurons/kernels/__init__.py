"""Compiled kernels: the same neurons as the torch code, in one pass over memory.

`neuron.h` holds what one neuron does. `host.cpp` and its headers (`host_blocks.h`, `host_neurons.h`, `host_layers.h`)
run populations of them on a processor, built at first use by the system's C++ compiler; see `host`. `cuda.cu` and its
headers (`cuda_*.h`) run populations and layers on a GPU, built by CuPy; see `cuda`.
"""
