// Runs the kernels of cuda.cu on a processor: every thread of every block, one after the other.
struct Coordinate {
    unsigned x;
};
static Coordinate threadIdx, blockIdx, blockDim, gridDim;
#define __global__
#include "cuda.cu"

using Kernel = void (*)(const void *, const void *, long long, long long, long long, void *, void *, void *, void *, void *,
                        void *);

extern "C" void launch(Kernel kernel, unsigned blocks, unsigned threads, const void *neurons, const void *currents,
                       long long steps, long long stride, long long size, void *membrane, void *total, void *train,
                       void *levels, void *kept, void *counts) {
    gridDim.x = blocks;
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++)
        for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++)
            kernel(neurons, currents, steps, stride, size, membrane, total, train, levels, kept, counts);
}
