// RMSNorm and LayerNorm with all of their populations, a block for a row: what host_layers.h computes, in its order. The
// row stays in shared memory in the type that is computed in; only inputs and outputs have another one.
#pragma once

#include "cuda_gates.h"
#include "cuda_rows.h"
#include "cuda_thresholds.h"

namespace las::gpu {

constexpr int NORM_POPULATIONS = 5;

// As `bounds_of` in host_layers.h.
template <class Element, class Real = RealFor<Element>> LAS_INLINE Bounds<Real> bounds_of(const NormLayer<Element> &layer) {
    const Real limit = *layer.centred.outlier, largest_scale = *layer.scale.outlier;
    const Real least = 1 / largest_scale, left = least * least - layer.epsilon;
    const Real target = layer.twice_root_of_channels / (limit * largest_scale);
    return {root_of(left > 0 ? left : Real(0)) * Real(1 - ROUNDING_ALLOWANCE) / limit, target > 1 ? Real(1) : target,
            layer.root_of_epsilon / limit};
}

// What the threads of a block share, besides a row and its squares.
template <class Real> struct NormShared {
    Scale<Real> centred, scale, output;
    Real low, target, floor;  // of `Bounds`, which shared memory cannot hold as such
    IntegerOf<Real> largest[2][MOST_WARPS];
    Real mean, factor;
};

template <bool QUICK, class Element> struct NormBlock {
    using Real = RealFor<Element>;
    static constexpr int PACK = 2;  // more would take more registers than there are
    const NormLayer<Element> &layer;
    NormShared<Real> &shared;
    Tables squares_tables;
    Real *row, *squares;  // [channels], to whole packs
    unsigned beyond[NORM_POPULATIONS];

    // Calls run(i, count) for the packs of this thread: the first channel and how many there are.
    template <class Run> LAS_METHOD void for_packs(Run run) {
        for (int i = threadIdx.x * PACK; i < layer.channels; i += blockDim.x * PACK) run(i, layer.channels - i);
    }

    // By all threads.
    template <int SLOT> LAS_METHOD Real largest_magnitude(IntegerOf<Real> largest) {
        return las::real_of(largest_of_block(largest, shared.largest[SLOT]));
    }

    static LAS_METHOD void take(IntegerOf<Real> &largest, const Real *v) {
        LAS_EACH(i) {
            const auto bits = las::bits_of(las::magnitude(v[i]));
            largest = bits > largest ? bits : largest;
        }
    }

    // Reads a row and centres it; returns its largest magnitude.
    LAS_METHOD Real read(Index index) {
        const Element *from = layer.currents + index * layer.channels;
        IntegerOf<Real> largest = 0;
        for_packs([&](int i, int count) {
            sum_some<PACK>(from + i, layer.steps, layer.stride, count, layer.is_whole, row + i);
            if (!layer.centres) take(largest, row + i);
        });
        if (layer.centres) {
            __syncthreads();
            if (threadIdx.x < WARP) {
                const Real mean = sum_in_lanes(row, layer.channels) / Real(layer.channels);
                if (threadIdx.x == 0) shared.mean = mean;
            }
            __syncthreads();
            for_packs([&](int i, int count) {
                LAS_EACH(j) row[i + j] = j < count ? row[i + j] - shared.mean : Real(0);
                take(largest, row + i);
            });
        }
        return largest_magnitude<0>(largest);
    }

    // Codes a row of this unit, and its squares.
    LAS_METHOD void code(Real unit) {
        for_packs([&](int i, int count) {
            LAS_EACH(j) {
                const Real v = unit == 1 ? row[i + j] : row[i + j] * unit;
                row[i + j] = coded<QUICK>(v, layer.centred, shared.centred, beyond[0]);
                const bool is_there = j < count;
                beyond[1] += is_there && is_beyond(row[i + j], layer.square);
                squares[i + j] = sum_of<QUICK>(open_of(row[i + j], layer.square, squares_tables), layer.square);
            }
        });
    }

    // What the row is multiplied by, from its squares; by a warp.
    LAS_METHOD Real factor_of(Real unit) {
        Real factor = sum_in_lanes(squares, layer.channels) / Real(layer.channels) + layer.epsilon * unit * unit;
        unsigned far[2] = {is_beyond(factor, layer.rsqrt), 0};
        factor = sum_of<QUICK>(open_of(factor, layer.rsqrt, tables_of(layer.rsqrt)), layer.rsqrt);
        const Real scale_unit = unit_of_row(las::magnitude(factor), *layer.scale.outlier, Bounds<Real>());
        factor = coded<QUICK>(factor * scale_unit, layer.scale, shared.scale, far[1]);
        if (threadIdx.x == 0) beyond[2] += far[0], beyond[3] += far[1];
        return factor / scale_unit;
    }

    // Multiplies the row; returns the unit of what comes out.
    LAS_METHOD Real multiply(Real factor) {
        IntegerOf<Real> largest = 0;
        for_packs([&](int i, int) {
            LAS_EACH(j) row[i + j] *= factor;
            take(largest, row + i);
        });
        return unit_of_row(largest_magnitude<1>(largest), *layer.output.outlier, Bounds<Real>());
    }

    // What follows the last population: its unit, gains and, of a train, each step's share of the bias.
    LAS_METHOD void follow(Real size, int i, int count, Real share, Real *y) {
        Real gains[PACK], bias[PACK];
        if (layer.gains) read_some<PACK>(layer.gains + i, count, layer.is_whole, gains);
        if (layer.bias) read_some<PACK>(layer.bias + i, count, layer.is_whole, bias);
        LAS_EACH(j) {
            if (size != 1) y[j] *= size;
            if (layer.gains) y[j] *= gains[j];
            if (layer.bias) y[j] += bias[j] / share;
        }
    }

    LAS_METHOD void emit_sums(Index index, Real unit) {
        for_packs([&](int i, int count) {
            Real y[PACK];
            LAS_EACH(j) {
                const Real v = unit == 1 ? row[i + j] : row[i + j] * unit;
                y[j] = coded<QUICK>(v, layer.output, shared.output, beyond[4]);
            }
            follow(1 / unit, i, count, Real(1), y);
            write_some<PACK>(layer.emitted + index * layer.channels + i, count, layer.is_whole, y);
        });
    }

    LAS_METHOD void emit_trains(Index index, Real unit) {
        for_packs([&](int i, int count) {
            Real v[PACK];
            LAS_EACH(j) v[j] = unit == 1 ? row[i + j] : row[i + j] * unit;
            auto train = train_of<QUICK, true, PACK>(v, layer.output, shared.output);
            beyond[4] += count_beyond<PACK>(v, shared.output);
            Element *to = layer.emitted + index * layer.channels + i;
            fire<true>(layer.output, train, [&](int, const Real *spikes) {
                Real y[PACK];
                LAS_EACH(j) y[j] = spikes[j];
                follow(1 / unit, i, count, Real(layer.output.code.time_steps), y);
                write_some<PACK>(to, count, layer.is_whole, y);
                to += layer.rows * layer.channels;
            });
        });
    }

    template <bool TRAIN> LAS_METHOD void run(Index index) {
        const Bounds<Real> bounds = {shared.low, shared.target, shared.floor};
        const Real unit = unit_of_row(read(index), *layer.centred.outlier, bounds);
        code(unit);
        __syncthreads();
        if (threadIdx.x < WARP) {
            const Real factor = factor_of(unit);
            if (threadIdx.x == 0) shared.factor = factor;
        }
        __syncthreads();
        const Real output_unit = multiply(shared.factor);
        if (TRAIN) emit_trains(index, output_unit);
        else emit_sums(index, output_unit);
    }
};

template <class Element, bool QUICK, bool TRAIN> LAS_INLINE void norm(const NormLayer<Element> &layer) {
    using Real = RealFor<Element>;
    __shared__ NormShared<Real> shared;
    if (threadIdx.x == 0) {
        shared.centred = scale_of(layer.centred);
        shared.scale = scale_of(layer.scale);
        shared.output = scale_of(layer.output);
        const Bounds<Real> bounds = bounds_of(layer);
        shared.low = bounds.low, shared.target = bounds.target, shared.floor = bounds.floor;
    }
    const Tables tables = fetch_some(layer.square, shared_memory(), layer.table_bytes);
    __syncthreads();
    Real *row = reinterpret_cast<Real *>(shared_memory() + layer.table_bytes);
    Real *squares = row + (layer.channels + LANES - 1) / LANES * LANES;
    NormBlock<QUICK, Element> block = {layer, shared, tables, row, squares, {0, 0, 0, 0, 0}};
    for (Index index = blockIdx.x; index < layer.rows; index += gridDim.x) block.template run<TRAIN>(index);
    for (int population = 0; population < NORM_POPULATIONS; population++)
        add_rare(layer.counts[population].beyond, block.beyond[population]);
}

}  // namespace las::gpu
