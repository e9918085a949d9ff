// A softmax with all of its populations, a warp for a row: what host_layers.h computes, in its order.
#pragma once

#include "cuda_gates.h"
#include "cuda_rows.h"
#include "cuda_thresholds.h"

namespace las::gpu {

constexpr int SOFTMAX_POPULATIONS = 5;

template <class Real> struct SoftmaxShared {
    Scale<Real> weight, scale, probability;
};

// One row. HELD: it stays in shared memory, where each thread has its own keys; else scores are computed again and again.
template <bool QUICK, bool HELD, class Element> struct SoftmaxRow {
    using Real = RealFor<Element>;
    const SoftmaxLayer<Element> &layer;
    const SoftmaxShared<Real> &shared;
    Tables tables;
    unsigned *beyond;
    const Element *from, *mask;
    Real *held;  // [keys]
    Real most, silent, factor;
    int live;  // keys that take part: what is masked at the end does not

    LAS_METHOD Real score(int i) const {
        Real x = value_of(read_once(from + i));
        for (Index t = 1; t < layer.steps; t++) x += value_of(read_once(from + t * layer.stride + i));
        return mask ? x + value_of(mask[i]) : x;
    }

    LAS_METHOD bool is_silent(Real lowered) const { return lowered < silent; }

    // Of a lowered score.
    LAS_METHOD Real weight(Real lowered, unsigned *beyond) const {
        beyond[0] += is_beyond(lowered, layer.exponential);
        const Real value = sum_of<QUICK>(open_of(lowered, layer.exponential, tables), layer.exponential);
        return coded<QUICK>(value, layer.weight, shared.weight, beyond[1]);
    }

    // Lanes 0 … 15 have the sums of host_layers.h: of 32 keys their own, then those of the other half.
    static LAS_METHOD void add(Real &sum, Real x) {
        const Real other = __shfl_down_sync(ALL_OF_WARP, x, LANES);
        sum += x;
        sum += other;
    }

    // From the sums in lanes to what weights are multiplied by.
    LAS_METHOD void find_factor(Real sum) {
        for (int half = LANES / 2; half; half /= 2) sum += __shfl_down_sync(ALL_OF_WARP, sum, half);
        sum = __shfl_sync(ALL_OF_WARP, sum, 0);
        unsigned far[2] = {is_beyond(sum, layer.reciprocal), 0};
        factor = sum_of<QUICK>(open_of(sum, layer.reciprocal, tables_of(layer.reciprocal)), layer.reciprocal);
        factor = coded<QUICK>(factor, layer.scale, shared.scale, far[1]);
        if (threadIdx.x % WARP == 0) beyond[2] += far[0], beyond[3] += far[1];
    }

    template <class Other> LAS_METHOD void write_as(Index at, Real value) {
        Other y;
        set(y, value);
        write_once(reinterpret_cast<Other *>(layer.emitted) + at, y);
    }

    LAS_METHOD void write_sum(Index at, Real value) {
        if constexpr (sizeof(Element) == sizeof(float)) {
            if (layer.emitted_as == AS_HALF) return write_as<Half>(at, value);
            if (layer.emitted_as == AS_BFLOAT) return write_as<BFloat>(at, value);
        }
        write_as<Element>(at, value);
    }

    LAS_METHOD void put(Index index, int i, Real weight, bool as_train) {
        const Index at = index * layer.keys + i;
        const Real v = i < live ? weight * factor : Real(0);
        if (!as_train) return write_sum(at, coded<QUICK>(v, layer.probability, shared.probability, beyond[4]));
        Element *to = layer.emitted + at;
        auto train = train_of<QUICK, true, 1>(&v, layer.probability, shared.probability);
        beyond[4] += count_beyond<1>(&v, shared.probability);
        fire<true>(layer.probability, train, [&](int, const Real *spikes) {
            set(*to, *spikes);
            to += layer.rows * layer.keys;
        });
    }
};

template <bool QUICK, bool TRAIN, bool HELD, class Element>
LAS_INLINE void run_row(SoftmaxRow<QUICK, HELD, Element> &row, Index index, int keys) {
    using Real = RealFor<Element>;
    const int lane = threadIdx.x % WARP;
    unsigned again[2];  // what was counted before
    const auto lowered = [&](int i) { return (HELD ? row.held[i] : row.score(i)) - row.most; };
    row.most = row.score(0);
    for (int i = lane; i < keys; i += WARP) {
        const Real x = row.score(i);
        if (HELD) row.held[i] = x;
        row.most = x > row.most ? x : row.most;
    }
    row.most = largest_of_warp(row.most);
    int live = 1;
    for (int i = lane; i < keys; i += WARP) live = row.is_silent(lowered(i)) ? live : i + 1;
    row.live = largest_of_warp(live);
    Real sum = 0;
    for (int start = 0; start < row.live; start += WARP) {
        const int i = start + lane;
        const Real x = i < row.live ? lowered(i) : Real(0);
        const bool takes_part = i < row.live && !row.is_silent(x);
        if (!__any_sync(ALL_OF_WARP, takes_part)) {
            if (HELD && i < row.live) row.held[i] = 0;
            continue;
        }
        const Real weight = takes_part ? row.weight(x, row.beyond) : Real(0);
        if (HELD && i < row.live) row.held[i] = weight;
        row.add(sum, weight);
    }
    row.find_factor(sum);
    for (int i = lane; i < keys; i += WARP) {
        Real weight = 0;
        if (i < row.live) weight = HELD ? row.held[i] : row.weight(lowered(i), again);
        row.put(index, i, weight, TRAIN);
    }
}

// The row of the mask for a row of scores.
template <class Element> LAS_INLINE const Element *mask_row(const Mask &mask, Index index) {
    if (!mask.data) return nullptr;
    unsigned row = unsigned(index);
    const unsigned d = row % unsigned(mask.d), c = (row /= unsigned(mask.d)) % unsigned(mask.c);
    const unsigned b = (row /= unsigned(mask.c)) % unsigned(mask.b), a = row / unsigned(mask.b);
    return static_cast<const Element *>(mask.data) + a * mask.a_stride + b * mask.b_stride + c * mask.c_stride +
           d * mask.d_stride;
}

template <class Element, bool QUICK, bool TRAIN, bool HELD> LAS_INLINE void softmax(const SoftmaxLayer<Element> &layer) {
    using Real = RealFor<Element>;
    __shared__ SoftmaxShared<Real> shared;
    if (threadIdx.x == 0) {
        shared.weight = scale_of(layer.weight);
        shared.scale = scale_of(layer.scale);
        shared.probability = scale_of(layer.probability);
    }
    const Tables tables = fetch_some(layer.exponential, shared_memory(), layer.table_bytes);
    __syncthreads();
    unsigned beyond[SOFTMAX_POPULATIONS] = {0, 0, 0, 0, 0};
    const unsigned warps = blockDim.x / WARP;
    const Real silent = Real(layer.exponential.core_low);
    Real *held = reinterpret_cast<Real *>(shared_memory() + layer.table_bytes) + threadIdx.x / WARP * layer.keys;
    for (Index index = blockIdx.x * Index(warps) + threadIdx.x / WARP; index < layer.rows; index += gridDim.x * Index(warps)) {
        const Element *from = layer.currents + index * layer.keys;
        const Element *mask = mask_row<Element>(layer.mask, index);
        SoftmaxRow<QUICK, HELD, Element> row = {layer, shared, tables, beyond, from, mask, held, 0, silent, 0, 0};
        run_row<QUICK, TRAIN>(row, index, int(layer.keys));
    }
    for (int population = 0; population < SOFTMAX_POPULATIONS; population++)
        add_rare(layer.counts[population].beyond, beyond[population]);
}

}  // namespace las::gpu
