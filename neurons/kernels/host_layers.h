// Whole layers on a processor: a norm, a softmax and a gated product. Their populations hand sums of windows to one
// another, in one pass over memory.
#pragma once

#include <vector>

#include "host_neurons.h"

namespace las::host {
namespace {

constexpr Index LANES = 16;

// In lanes, which are added at the end, so that processors can add them side by side.
template <class Real> Real sum(const Real *x, Index count) {
    Real lanes[LANES] = {0};
    Index i = 0;
    for (; i + LANES <= count; i += LANES)
        for (Index lane = 0; lane < LANES; lane++) lanes[lane] += x[i + lane];
    for (; i < count; i++) lanes[i % LANES] += x[i];
    for (Index half = LANES / 2; half; half /= 2)
        for (Index lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

template <class Real> Real largest(const Real *x, Index count) {
    Real lanes[LANES];
    std::fill(lanes, lanes + LANES, x[0]);
    Index i = 0;
    for (; i + LANES <= count; i += LANES)
        for (Index lane = 0; lane < LANES; lane++) lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
    for (; i < count; i++) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    return *std::max_element(lanes, lanes + LANES);
}

template <class Real>
void code_row(const Thresholds<Real> &neurons, Index start, Index count, Block<Real> &block, Real *total, Counts &counts) {
    code_sum(neurons, start, count, false, block, total, counts);
}

template <class Real>
void code_row(const Gates<Real> &gates, Index, Index count, Block<Real> &block, Real *total, Counts &counts) {
    gate_sum(gates, count, false, block, total, counts);
}

// A row of channels through one population and back, block by block.
template <class Real, class Neurons>
void pass_row(const Neurons &neurons, Real *row, Index count, Block<Real> &block, Counts &counts) {
    for (Index start = 0; start < count; start += BLOCK) {
        const Index part = std::min(BLOCK, count - start);
        std::copy(row + start, row + start + part, block.v);
        code_row(neurons, start, part, block, row + start, counts);
    }
}

// Calls run(row, buffer, block, counts) for all rows; `buffer` holds 2·channels numbers.
template <class Real, int POPULATIONS, class Run>
void for_rows(Index rows, Index channels, int threads, Counts *counts, Run run) {
#pragma omp parallel num_threads(threads) if (threads > 1 && rows * channels >= PARALLEL_FROM)
    {
        Block<Real> block;
        std::vector<Real> buffer(2 * channels);
        Counts part[POPULATIONS] = {};
#pragma omp for schedule(static) nowait
        for (Index row = 0; row < rows; row++) run(row, buffer.data(), block, part);
        finish_writing();
        for (int index = 0; index < POPULATIONS; index++) add(counts[index], part[index]);
    }
}

// The train of a row of potentials through the last population; `follow` changes what each block emits at a step.
template <class Real, class Follow>
void emit_row(const Thresholds<Real> &neurons, const Real *row, Index channels, Index at, Block<Real> &block,
              const Train<Real> &train, Counts &counts, Follow follow) {
    for (Index start = 0; start < channels; start += BLOCK) {
        const Index part = std::min(BLOCK, channels - start);
        std::copy(row + start, row + start + part, block.v);
        const bool known = scale(neurons, start, part, block, counts);
        fire_all(known, neurons.code, part, false, block, [&](int t) {
            for (Index i = 0; i < part; i++) block.spare[i] *= block.unit[i];
            follow(block.spare, start, part);
            train.write(block.spare, t, at + start, part);
        });
    }
}

template <class Real>
void run_norm(const Norm<Real> &norm, const Currents &currents, Real *total, Real *train, Counts *counts, int threads) {
    const Index channels = norm.channels, size = size_of(currents);
    const Real *gains = norm.gains, *bias = norm.bias;
    const int time_steps = norm.output->code.time_steps;
    const auto trains = train_at(train, time_steps, size);
    for_rows<Real, 5>(size / channels, channels, threads, counts,
                      [&](Index index, Real *row, Block<Real> &block, Counts *part) {
        const Index at = index * channels;
        Real *squares = row + channels;
        integrate(currents, at, channels, row);
        if (norm.centres) {
            const Real mean = sum(row, channels) / Real(channels);
            for (Index i = 0; i < channels; i++) row[i] -= mean;
        }
        pass_row(*norm.centred, row, channels, block, part[0]);
        std::copy(row, row + channels, squares);
        pass_row(*norm.square, squares, channels, block, part[1]);
        Real factor = sum(squares, channels) / Real(channels) + Real(norm.epsilon);
        pass_row(*norm.rsqrt, &factor, 1, block, part[2]);
        pass_row(*norm.scale, &factor, 1, block, part[3]);
        for (Index i = 0; i < channels; i++) row[i] *= factor;
        const Real share = total == nullptr ? Real(time_steps) : Real(1);
        const auto follow = [&](Real *spikes, Index start, Index count) {
            if (gains != nullptr)
                for (Index i = 0; i < count; i++) spikes[i] *= gains[start + i];
            if (bias != nullptr)
                for (Index i = 0; i < count; i++) spikes[i] += bias[start + i] / share;
        };
        if (total == nullptr) return emit_row(*norm.output, row, channels, at, block, trains, part[4], follow);
        pass_row(*norm.output, row, channels, block, part[4]);
        follow(row, 0, channels);
        std::copy(row, row + channels, total + at);
    });
}

template <class Real> const Real *mask_row(const Mask &mask, Index row) {
    const Index d = row % mask.d, c = row / mask.d % mask.c, b = row / mask.d / mask.c % mask.b;
    const Index a = row / mask.d / mask.c / mask.b;
    return static_cast<const Real *>(mask.data) + a * mask.a_stride + b * mask.b_stride + c * mask.c_stride +
           d * mask.d_stride;
}

template <class Real>
void run_softmax(const Softmax<Real> &softmax, const Currents &currents, const Mask &mask, Real *total, Real *train,
                 Counts *counts, int threads) {
    const Index keys = currents.run, size = size_of(currents);
    const auto trains = train_at(train, softmax.probability->code.time_steps, size);
    const Real silent = Real(softmax.exponential->core_low);  // below it the exponential is 0
    for_rows<Real, 5>(size / keys, keys, threads, counts, [&](Index index, Real *row, Block<Real> &block, Counts *part) {
        const Index at = index * keys;
        integrate(currents, at, keys, row);
        if (mask.data != nullptr) {
            const Real *added = mask_row<Real>(mask, index);
            for (Index i = 0; i < keys; i++) row[i] += added[i];
        }
        const Real most = largest(row, keys);
        for (Index i = 0; i < keys; i++) row[i] -= most;
        Index live = keys;  // what is masked at the end of a row takes no part
        while (live > 1 && row[live - 1] < silent) live--;
        std::fill(row + live, row + keys, Real(0));
        pass_row(*softmax.exponential, row, live, block, part[0]);
        pass_row(*softmax.weight, row, live, block, part[1]);
        Real factor = sum(row, live);
        pass_row(*softmax.reciprocal, &factor, 1, block, part[2]);
        pass_row(*softmax.scale, &factor, 1, block, part[3]);
        for (Index i = 0; i < live; i++) row[i] *= factor;
        if (total == nullptr)
            return emit_row(*softmax.probability, row, keys, at, block, trains, part[4], [](Real *, Index, Index) {});
        pass_row(*softmax.probability, row, live, block, part[4]);
        std::copy(row, row + keys, total + at);
    });
}

// Gate and up of a gated block, through an activation, each coded, and their product.
template <class Real>
void run_gated(const Gates<Real> &activation, const Thresholds<Real> &gate, const Thresholds<Real> &up, const Currents &gate_currents,
               const Currents &up_currents, Real *total, Real *train, Counts *counts, int threads) {
    const Index size = size_of(gate_currents);
    const int time_steps = gate.code.time_steps;
    const auto trains = train_at(train, time_steps, size);
    constexpr Index PART = 256;
#pragma omp parallel num_threads(threads) if (threads > 1 && size >= PARALLEL_FROM)
    {
        Block<Real> block;
        Counts part[3] = {};
        std::vector<Real> gates(time_steps * PART);
        Real gate_sum_of[PART], up_sum[PART];
#pragma omp for schedule(static) nowait
        for (Index start = 0; start < size; start += PART) {
            const Index count = std::min(PART, size - start);
            integrate(gate_currents, start, count, block.v);
            gate_sum(activation, count, false, block, gate_sum_of, part[0]);
            std::copy(gate_sum_of, gate_sum_of + count, block.v);
            if (total != nullptr) {
                code_sum(gate, start, count, false, block, gate_sum_of, part[1]);
                integrate(up_currents, start, count, block.v);
                code_sum(up, start, count, false, block, up_sum, part[2]);
                for (Index i = 0; i < count; i++) total[start + i] = gate_sum_of[i] * up_sum[i];
                continue;
            }
            // The offset of `start` is taken back, so that the train of this part lies at the beginning of `gates`.
            code_train(gate, start, count, false, block, Train<Real>{gates.data() - start, PART, false}, part[1]);
            integrate(up_currents, start, count, block.v);
            const bool known = scale(up, start, count, block, part[2]);
            std::fill(gate_sum_of, gate_sum_of + count, Real(0));
            std::fill(up_sum, up_sum + count, Real(0));
            fire_all(known, up.code, count, false, block, [&](int t) {
                const Real *gate_spikes = gates.data() + t * PART;
                for (Index i = 0; i < count; i++) {
                    const Real up_spike = block.spare[i] * block.unit[i];
                    gate_sum_of[i] += gate_spikes[i];
                    block.spare[i] = gate_sum_of[i] * up_spike + gate_spikes[i] * up_sum[i];
                    up_sum[i] += up_spike;
                }
                trains.write(block.spare, t, start, count);
            });
        }
        finish_writing();
        for (int index = 0; index < 3; index++) add(counts[index], part[index]);
    }
}

}  // namespace
}  // namespace las::host
