// Sums in half precision by table: what a neuron gives is a function of 16 bits. Tables are made by running the plain
// kernel on all patterns, so that they are right by construction.
#pragma once

#include "cuda_counts.h"
#include "cuda_gates.h"
#include "cuda_thresholds.h"

namespace las::gpu {

constexpr int PATTERNS = 1 << 16, SIGN = PATTERNS >> 1;

template <class Element> LAS_INLINE const Element *fetch_table(const Element *table, int patterns) {
    constexpr int PACK = PACK_OF<Element>;
    auto *to = reinterpret_cast<Pack<Element, PACK> *>(shared_memory());
    const auto *from = reinterpret_cast<const Pack<Element, PACK> *>(table);
    for (int i = threadIdx.x; i < patterns / PACK; i += blockDim.x) to[i] = from[i];
    __syncthreads();
    return reinterpret_cast<const Element *>(to);
}

// Calls run(element) for all elements, whose results are written; the next pack is read before this one is used.
template <class Element, class Window, class Run> LAS_INLINE void map_packs(const Window &window, Run run) {
    constexpr int PACK = PACK_OF<Element>;
    const Index stride = Index(gridDim.x) * blockDim.x * PACK;
    Index at = (Index(blockIdx.x) * blockDim.x + threadIdx.x) * PACK;
    Pack<Element, PACK> next, pack;
    if (at < window.size) next = read_pack<PACK>(window.currents + at);
    for (; at < window.size; at += stride) {
        pack = next;
        if (at + stride < window.size) next = read_pack<PACK>(window.currents + at + stride);
        LAS_EACH(i) pack.values[i] = run(pack.values[i]);
        write_once(reinterpret_cast<Pack<Element, PACK> *>(window.emitted + at), pack);
    }
}

// Where somebody has written to a threshold since the table was made, neurons compute.
template <class Element> LAS_INLINE void look_up_thresholds(const LookUp<Coder<float>, Element> &window) {
    const Coder<float> &coder = window.neurons;
    const float normal = *coder.normal, outlier = *coder.outlier, limit = las::limit_of(outlier);
    const bool is_valid = normal == window.made_for[0] && outlier == window.made_for[1];
    const Element *table = fetch_table(window.table, SIGN);
    unsigned beyond = 0;
    map_packs<Element>(window, [&](Element x) {
        const float v = value_of(x);
        beyond += las::magnitude(v) > limit;
        Element y;
        if (is_valid) y.bits = table[x.bits & (SIGN - 1)].bits ^ (x.bits & SIGN);
        else set(y, plain_sum(v, normal, outlier, coder.code));
        return y;
    });
    add_rare(window.counts->beyond, beyond);
}

template <class Element> LAS_INLINE void look_up_gates(const LookUp<Curve, Element> &window) {
    const Element *table = fetch_table(window.table, PATTERNS);
    unsigned beyond = 0;
    map_packs<Element>(window, [&](Element x) {
        beyond += is_beyond(value_of(x), window.neurons);
        return table[x.bits];
    });
    add_rare(window.counts->beyond, beyond);
}

}  // namespace las::gpu
