// How the kernels on a processor go through memory: blocks of a population whose temporaries stay in the first cache,
// currents summed into them, trains written from them. Loops over a block are written for the compiler to vectorise.
//
// The host_*.h are parts of host.cpp, one translation unit: in namespaces without a name, the compiler may inline and
// specialise all of them.
#pragma once

#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "host_values.h"

namespace las::host {
namespace {

constexpr Index BLOCK = 1024;                  // elements that all temporaries of a block stay in the first cache for
constexpr Index PARALLEL_FROM = 16384;         // elements: below, starting threads costs more than they save
constexpr Index PAST_CACHES_FROM = 8ll << 20;  // bytes of a train that is larger than the caches
constexpr Index WIDE_TILE = 64, TILE = 16;     // elements whose steps are read side by side

void add(Counts &counts, const Counts &part) {
#pragma omp critical(las_counts)
    {
        counts.spikes += part.spikes;
        counts.outliers += part.outliers;
        counts.beyond += part.beyond;
    }
}

// ---------------------------------------------------------------------------------------------------- reading currents

Index size_of(const Currents &currents) { return currents.a * currents.b * currents.c * currents.run; }

bool is_contiguous(const Currents &currents) {
    return currents.c_stride == currents.run && currents.b_stride == currents.c * currents.c_stride &&
           currents.a_stride == currents.b * currents.b_stride;
}

// Sums of SIZE numbers side by side, as long as there are so many; returns how many are done.
template <Index SIZE, class Value, class Real>
Index sum_tiles(const Value *first, const Currents &currents, Index count, Real *v) {
    Index i = 0;
    for (; i + SIZE <= count; i += SIZE) {
        Real sum[SIZE];
        for (Index j = 0; j < SIZE; j++) sum[j] = value_of(first[i + j]);
        for (Index t = 1; t < currents.steps; t++) {
            const Value *step = first + t * currents.step_stride + i;
            for (Index j = 0; j < SIZE; j++) sum[j] += value_of(step[j]);
        }
        for (Index j = 0; j < SIZE; j++) v[i + j] = sum[j];
    }
    return i;
}

// In tiles, so that the steps are read side by side: processors fetch ahead of them then.
template <class Value, class Real>
void sum_steps(const Value *first, const Currents &currents, Index count, Real *v) {
    Index done = sum_tiles<WIDE_TILE>(first, currents, count, v);
    done += sum_tiles<TILE>(first + done, currents, count - done, v + done);
    sum_tiles<1>(first + done, currents, count - done, v + done);
}

// The membrane potentials [start, start + count): currents summed over their steps, in order.
template <class Value>
void integrate(const Currents &currents, Index start, Index count, ComputedIn<Value> *v) {
    const Value *data = static_cast<const Value *>(currents.data);
    if (is_contiguous(currents)) return sum_steps(data + start, currents, count, v);
    Index in_run = start % currents.run, row = start / currents.run;
    Index c = row % currents.c, b = row / currents.c % currents.b, a = row / currents.c / currents.b;
    for (Index done = 0; done < count;) {
        const Index part = std::min(currents.run - in_run, count - done);
        const Value *first = data + a * currents.a_stride + b * currents.b_stride + c * currents.c_stride + in_run;
        sum_steps(first, currents, part, v + done);
        done += part;
        in_run = 0;
        if (++c < currents.c) continue;
        c = 0;
        if (++b < currents.b) continue;
        b = 0;
        a++;
    }
}

// ------------------------------------------------------------------------------------------------------ writing trains

// Where trains go: [T, stride]. A train that is larger than the caches is written past them, which saves fetching the
// memory that it overwrites.
template <class Value> struct Train {
    Value *data;
    Index stride;
    bool past_caches;

    // One block's step, from the first cache.
    void write(const ComputedIn<Value> *spikes, int step, Index start, Index count) const {
        Value *to = data + step * stride + start;
        if (!past_caches || reinterpret_cast<uintptr_t>(to) % sizeof(Vector) != 0) return store(spikes, to, count);
        if constexpr (std::is_same<Value, ComputedIn<Value>>::value) return stream(spikes, to, count);
        Value rounded[BLOCK];
        store(spikes, rounded, count);
        stream(rounded, to, count);
    }

#if defined(__AVX512F__)
    using Vector = __m512i;
    static void put(Vector *to, const Value *from) { _mm512_stream_si512(to, _mm512_loadu_si512(from)); }
#elif defined(__SSE2__)
    using Vector = __m128i;
    static void put(Vector *to, const Value *from) {
        _mm_stream_si128(to, _mm_loadu_si128(reinterpret_cast<const Vector *>(from)));
    }
#else
    using Vector = Value;
    static void put(Vector *to, const Value *from) { *to = *from; }
#endif

    static void stream(const Value *from, Value *to, Index count) {
        constexpr Index PER_VECTOR = sizeof(Vector) / sizeof(Value);
        Index i = 0;
        for (; i + PER_VECTOR <= count; i += PER_VECTOR) put(reinterpret_cast<Vector *>(to + i), from + i);
        std::copy(from + i, from + count, to + i);
    }
};

template <class Value> Train<Value> train_at(Value *data, int time_steps, Index size) {
    return {data, size, time_steps * size * Index(sizeof(Value)) >= PAST_CACHES_FROM};
}

// Other threads may read what this one wrote.
void finish_writing() {
#ifdef __SSE2__
    _mm_sfence();
#endif
}

// ------------------------------------------------------------------------------------------------ all blocks of a call

// Calls run(start, count, block, counts) for all blocks, in parallel where it pays.
template <class Block, class Run> void for_blocks(Index size, int threads, Counts &counts, Run run) {
    const Index blocks = (size + BLOCK - 1) / BLOCK;
#pragma omp parallel num_threads(threads) if (threads > 1 && size >= PARALLEL_FROM)
    {
        Block block;
        Counts part = {};
#pragma omp for schedule(static) nowait
        for (Index index = 0; index < blocks; index++)
            run(index * BLOCK, std::min(BLOCK, size - index * BLOCK), block, part);
        finish_writing();
        add(counts, part);
    }
}

}  // namespace
}  // namespace las::host
