// Whole layers on a processor: a norm, a softmax and a gated product. Their populations hand sums of windows to one
// another, in one pass over memory.
#pragma once

#include <cmath>
#include <vector>

#include "host_neurons.h"

namespace las::host {
namespace {

// The populations of a layer in the order in which they fire, which is the order of its counts.
struct InNorm {
    enum { CENTRED, SQUARE, RSQRT, SCALE, OUTPUT, POPULATIONS };
};
struct InSoftmax {
    enum { EXPONENTIAL, WEIGHT, RECIPROCAL, SCALE, PROBABILITY, POPULATIONS };
};
struct InGated {
    enum { ACTIVATION, GATE, UP, POPULATIONS };
};

void add_all(Counts *counts, const Counts *parts, int populations) {
    for (int index = 0; index < populations; index++) add(counts[index], parts[index]);
}

// ---------------------------------------------------------------------------------------------------------------- rows

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

// The largest magnitude, infinite or NaN where one is: bits of numbers without a sign are in the order of the numbers.
template <class Real> Real largest_magnitude(const Real *x, Index count) {
    IntegerOf<Real> lanes[LANES] = {0};
    const auto take = [&](Index lane, Real value) {
        const auto bits = las::bits_of(las::magnitude(value));
        lanes[lane] = bits > lanes[lane] ? bits : lanes[lane];
    };
    Index i = 0;
    for (; i + LANES <= count; i += LANES)
        for (Index lane = 0; lane < LANES; lane++) take(lane, x[i + lane]);
    for (; i < count; i++) take(0, x[i]);
    return las::real_of(*std::max_element(lanes, lanes + LANES));
}

template <class Real> void multiply(Real *row, Index count, Real factor) {
    for (Index i = 0; i < count; i++) row[i] *= factor;
}

// A row of channels through one population and back, block by block.
template <class Neurons, class Real> void pass_row(const Neurons &neurons, Real *row, Index count, Counts &counts) {
    BlockOf<Neurons> block;
    for (Index start = 0; start < count; start += BLOCK) {
        const Index part = std::min(BLOCK, count - start);
        std::copy(row + start, row + start + part, block.v);
        code_sum(neurons, start, part, false, block, row + start, counts);
    }
}

// The train of a row of potentials through the last population, written from neuron `at` on; `follow` changes what each
// block emits at a step.
template <class Real, class Value, class Follow>
void emit_row(const Thresholds<Real> &neurons, const Real *row, Index channels, const Train<Value> &train, Index at,
              Counts &counts, Follow follow) {
    ThresholdBlock<Real> block;
    for (Index start = 0; start < channels; start += BLOCK) {
        const Index part = std::min(BLOCK, channels - start);
        std::copy(row + start, row + start + part, block.v);
        code_train(neurons, start, part, false, block, train, at + start, counts,
                   [&](int) { follow(block.emitted, start, part); });
    }
}

constexpr Index GROUP = 16;             // rows at a time, so that what each needs once is computed side by side
constexpr Index GROUP_ELEMENTS = 4096;  // of a group: they stay in the first cache

// A group of rows: the first one's index, how many, their numbers side by side, and room for as many again.
template <class Real> struct Rows {
    Index first, count;
    Real *x, *room;
};

Index rows_at_a_time(Index rows, Index channels, int threads) {
    const Index most = std::min(GROUP_ELEMENTS / channels, rows / (4 * threads));  // all threads have something to do
    return std::clamp(most, Index(1), GROUP);
}

// Calls run(group, counts) for all rows, in groups.
template <class Real, int POPULATIONS, class Run>
void for_groups(Index rows, Index channels, int threads, Counts *counts, Run run) {
    const Index each = rows_at_a_time(rows, channels, threads);
#pragma omp parallel num_threads(threads) if (threads > 1 && rows * channels >= PARALLEL_FROM)
    {
        std::vector<Real> buffer(2 * each * channels);
        Counts parts[POPULATIONS] = {};
#pragma omp for schedule(static) nowait
        for (Index first = 0; first < rows; first += each) {
            const Index count = std::min(each, rows - first);
            run(Rows<Real>{first, count, buffer.data(), buffer.data() + each * channels}, parts);
        }
        finish_writing();
        add_all(counts, parts, POPULATIONS);
    }
}

// ----------------------------------------------------------------------------------------------------- octaves of rows

template <class Real> Real limit_of(const Thresholds<Real> &neurons) { return neurons.outlier[0]; }

// Of centred values: neither their code nor that of the scale saturates.
template <class Real> Bounds<Real> bounds_of(const Norm<Real> &norm) {
    const Real limit = limit_of(*norm.centred), largest_scale = limit_of(*norm.scale);
    const Real least = 1 / largest_scale, left = least * least - Real(norm.epsilon);
    const Real target = Real(2 * std::sqrt(double(norm.channels))) / (limit * largest_scale);
    return {std::sqrt(left > 0 ? left : Real(0)) * Real(1 - ROUNDING_ALLOWANCE) / limit, target > 1 ? Real(1) : target,
            Real(std::sqrt(norm.epsilon)) / limit};
}

// --------------------------------------------------------------------------------------------------------------- norms

template <class Real> void centre(Real *row, Index channels) {
    const Real mean = sum(row, channels) / Real(channels);
    for (Index i = 0; i < channels; i++) row[i] -= mean;
}

// The inverse root of a row's mean square, as the population of scales emits it.
template <class Real>
void scale_rows(const Norm<Real> &norm, const Rows<Real> &rows, const Real *units, Real *factors, Counts *counts) {
    const Index channels = norm.channels;
    Real scale_units[GROUP];
    for (Index r = 0; r < rows.count; r++)
        factors[r] = sum(rows.room + r * channels, channels) / Real(channels) + Real(norm.epsilon) * units[r] * units[r];
    pass_row(*norm.rsqrt, factors, rows.count, counts[InNorm::RSQRT]);
    for (Index r = 0; r < rows.count; r++) {
        scale_units[r] = unit_of_row(las::magnitude(factors[r]), limit_of(*norm.scale), {});
        factors[r] *= scale_units[r];
    }
    pass_row(*norm.scale, factors, rows.count, counts[InNorm::SCALE]);
    for (Index r = 0; r < rows.count; r++) factors[r] /= scale_units[r];
}

// Inputs to the potentials of the last population, each row in units of its octave, 2^k, which `sizes` receives.
template <class Real>
void normalise(const Norm<Real> &norm, const Bounds<Real> &bounds, const Rows<Real> &rows, Real *sizes, Counts *counts) {
    const Index channels = norm.channels, all = rows.count * channels;
    Real units[GROUP], factors[GROUP];
    for (Index r = 0; r < rows.count; r++) {
        Real *row = rows.x + r * channels;
        if (norm.centres) centre(row, channels);
        units[r] = unit_of_row(largest_magnitude(row, channels), limit_of(*norm.centred), bounds);
        if (units[r] != 1) multiply(row, channels, units[r]);
    }
    pass_row(*norm.centred, rows.x, all, counts[InNorm::CENTRED]);
    std::copy(rows.x, rows.x + all, rows.room);
    pass_row(*norm.square, rows.room, all, counts[InNorm::SQUARE]);
    scale_rows(norm, rows, units, factors, counts);
    for (Index r = 0; r < rows.count; r++) {
        Real *row = rows.x + r * channels;
        multiply(row, channels, factors[r]);
        const Real output_unit = unit_of_row(largest_magnitude(row, channels), limit_of(*norm.output), {});
        if (output_unit != 1) multiply(row, channels, output_unit);
        sizes[r] = 1 / output_unit;
    }
}

// What follows the last population, by channel; each step of a train has its part of the bias. Empty where there is none.
template <class Real> struct Affine {
    std::vector<Real> gains, bias;

    template <class Value> static Affine of(const Norm<Real> &norm, int parts) {
        const Value *gains = static_cast<const Value *>(norm.gains), *bias = static_cast<const Value *>(norm.bias);
        Affine affine;
        for (Index i = 0; gains != nullptr && i < norm.channels; i++) affine.gains.push_back(value_of(gains[i]));
        for (Index i = 0; bias != nullptr && i < norm.channels; i++)
            affine.bias.push_back(value_of(bias[i]) / Real(parts));
        return affine;
    }

    // Of so many channels from `start` on, which were emitted in units of `size`.
    void follow(Real *__restrict y, Index start, Index count, Real size) const {
        if (size != 1) multiply(y, count, size);
        const Real *__restrict gain = gains.data() + start, *__restrict added = bias.data() + start;
        if (!gains.empty())
            for (Index i = 0; i < count; i++) y[i] *= gain[i];
        if (!bias.empty())
            for (Index i = 0; i < count; i++) y[i] += added[i];
    }
};

template <class Value>
void run_norm(const Norm<ComputedIn<Value>> &norm, const Currents &currents, Value *total, Value *train, Counts *counts,
              int threads) {
    using Real = ComputedIn<Value>;
    const Index channels = norm.channels, size = size_of(currents);
    const int time_steps = norm.output->code.time_steps;
    const auto affine = Affine<Real>::template of<Value>(norm, total == nullptr ? time_steps : 1);
    const auto trains = train_at(train, time_steps, size);
    const auto bounds = bounds_of(norm);
    const auto run = [&](const Rows<Real> &rows, Counts *part) {
        const Index at = rows.first * channels, all = rows.count * channels;
        Real sizes[GROUP];
        integrate<Value>(currents, at, all, rows.x);
        normalise(norm, bounds, rows, sizes, part);
        if (total != nullptr) pass_row(*norm.output, rows.x, all, part[InNorm::OUTPUT]);
        for (Index r = 0; r < rows.count; r++) {
            Real *row = rows.x + r * channels;
            const auto follow = [&](Real *y, Index start, Index count) { affine.follow(y, start, count, sizes[r]); };
            if (total != nullptr)
                follow(row, 0, channels);
            else
                emit_row(*norm.output, row, channels, trains, at + r * channels, part[InNorm::OUTPUT], follow);
        }
        if (total != nullptr) store(rows.x, total + at, all);
    };
    for_groups<Real, InNorm::POPULATIONS>(size / channels, channels, threads, counts, run);
}

// ------------------------------------------------------------------------------------------------------------- softmax

template <class Value> const Value *mask_row(const Mask &mask, Index row) {
    const Index d = row % mask.d, c = row / mask.d % mask.c, b = row / mask.d / mask.c % mask.b;
    const Index a = row / mask.d / mask.c / mask.b;
    return static_cast<const Value *>(mask.data) + a * mask.a_stride + b * mask.b_stride + c * mask.c_stride +
           d * mask.d_stride;
}

// The keys of a row that take part: what is masked at its ends does not. It starts at a multiple of the lanes, so that
// sums are added in the order of the whole row.
struct Span {
    Index first, last;
};

// Takes a row's largest score from all of them.
template <class Real> Span lower(Real *row, Index keys, Real silent) {
    const Real most = largest(row, keys);
    for (Index i = 0; i < keys; i++) row[i] -= most;
    Index first = 0, last = keys;
    while (last > 1 && row[last - 1] < silent) last--;
    while (first < last && row[first] < silent) first++;
    first -= first % LANES;
    std::fill(row, row + first, Real(0));
    std::fill(row + last, row + keys, Real(0));
    return {first, last};
}

// Lowered scores to the weights of their keys, in place.
template <class Real>
void weigh(const Softmax<Real> &softmax, const EvenGrid<Real> &grid, Real *x, Index count, Counts *counts) {
    const auto &exponential = *softmax.exponential;
    for (Index start = 0; start < count; start += BLOCK) {  // exponentials stay in the first cache
        const Index part = std::min(BLOCK, count - start);
        if (grid.is_even)
            sum_on_even_grid(exponential, grid, part, exponential.bias, exponential.amplitude, x + start,
                             counts[InSoftmax::EXPONENTIAL]);
        else
            pass_row(exponential, x + start, part, counts[InSoftmax::EXPONENTIAL]);
        pass_row(*softmax.weight, x + start, part, counts[InSoftmax::WEIGHT]);
    }
}

// Calls run(x, count) for the keys that take part: at once where all do, which are side by side, else row by row.
template <class Real, class Run> void for_spans(const Rows<Real> &rows, const Span *spans, Index keys, Run run) {
    Index all = 0;
    for (Index r = 0; r < rows.count; r++) all += spans[r].last - spans[r].first;
    if (all == rows.count * keys) return run(rows.x, all);
    for (Index r = 0; r < rows.count; r++) run(rows.x + r * keys + spans[r].first, spans[r].last - spans[r].first);
}

// Lowered scores to the potentials of the last population.
template <class Real>
void share_out(const Softmax<Real> &softmax, const EvenGrid<Real> &grid, const Rows<Real> &rows, const Span *spans,
               Index keys, Counts *counts) {
    Real factors[GROUP];
    for_spans(rows, spans, keys, [&](Real *x, Index count) { weigh(softmax, grid, x, count, counts); });
    for (Index r = 0; r < rows.count; r++)
        factors[r] = sum(rows.x + r * keys + spans[r].first, spans[r].last - spans[r].first);
    pass_row(*softmax.reciprocal, factors, rows.count, counts[InSoftmax::RECIPROCAL]);
    pass_row(*softmax.scale, factors, rows.count, counts[InSoftmax::SCALE]);
    for (Index r = 0; r < rows.count; r++)
        multiply(rows.x + r * keys + spans[r].first, spans[r].last - spans[r].first, factors[r]);
}

constexpr Index LOOK_OVER_FROM = 1 << 18;  // scores: below, looking over a grid's tables costs more than it saves

template <class Value>
void run_softmax(const Softmax<ComputedIn<Value>> &given, const Currents &currents, const Mask &mask, Value *total,
                 Value *train, Counts *counts, int threads) {
    using Real = ComputedIn<Value>;
    const Index keys = currents.run, size = size_of(currents);
    const auto trains = train_at(train, given.probability->code.time_steps, size);
    const Real silent = Real(given.exponential->core_low);  // below it the exponential is 0
    const auto grid = size < LOOK_OVER_FROM ? EvenGrid<Real>{} : even_grid_of(*given.exponential);
    std::vector<Line<Real>> memory;
    const auto exponential = with_lines(*given.exponential, size, memory);
    Softmax<Real> softmax = given;
    softmax.exponential = &exponential;
    const auto run = [&](const Rows<Real> &rows, Counts *part) {
        const Index at = rows.first * keys;
        Span spans[GROUP];
        integrate<Value>(currents, at, rows.count * keys, rows.x);
        for (Index r = 0; r < rows.count; r++) {
            Real *row = rows.x + r * keys;
            if (mask.data != nullptr) {
                const Value *added = mask_row<Value>(mask, rows.first + r);
                for (Index i = 0; i < keys; i++) row[i] += value_of(added[i]);
            }
            spans[r] = lower(row, keys, silent);
        }
        share_out(softmax, grid, rows, spans, keys, part);
        Counts &of_last = part[InSoftmax::PROBABILITY];
        if (total == nullptr)
            return emit_row(*softmax.probability, rows.x, rows.count * keys, trains, at, of_last,
                            [](Real *, Index, Index) {});
        for_spans(rows, spans, keys, [&](Real *x, Index count) { pass_row(*softmax.probability, x, count, of_last); });
        store(rows.x, total + at, rows.count * keys);
    };
    for_groups<Real, InSoftmax::POPULATIONS>(size / keys, keys, threads, counts, run);
}

// ------------------------------------------------------------------------------------------------------ gated products

constexpr Index GATED_PART = 256;  // elements whose trains of gates stay in the caches
static_assert(GATED_PART <= BLOCK, "a part fits into a block");

// The populations of a gated block: of an activation, of the gates that it gives, of ups.
template <class Real> struct Gated {
    const Gates<Real> &activation;
    const Thresholds<Real> &gate, &up;
    const Currents &gate_currents, &up_currents;
};

// The potentials of gates: sums of the activation's windows.
template <class Value, class Real>
void activate(const Gated<Real> &gated, Index start, Index count, Real *potentials, Counts *counts) {
    GateBlock<Real> block;
    integrate<Value>(gated.gate_currents, start, count, block.v);
    code_sum(gated.activation, start, count, false, block, potentials, counts[InGated::ACTIVATION]);
}

template <class Value, class Real>
void gated_sum(const Gated<Real> &gated, Index start, Index count, Value *total, Counts *counts) {
    ThresholdBlock<Real> block;
    Real gate[GATED_PART], up[GATED_PART];
    activate<Value>(gated, start, count, block.v, counts);
    code_sum(gated.gate, start, count, false, block, gate, counts[InGated::GATE]);
    integrate<Value>(gated.up_currents, start, count, block.v);
    code_sum(gated.up, start, count, false, block, up, counts[InGated::UP]);
    for (Index i = 0; i < count; i++) set(total[start + i], gate[i] * up[i]);
}

// At each step, by how much the product of both sums so far grows. `gates` has room for T·GATED_PART numbers.
template <class Value, class Real>
void gated_train(const Gated<Real> &gated, Index start, Index count, Real *gates, const Train<Value> &train,
                 Counts *counts) {
    ThresholdBlock<Real> block;
    activate<Value>(gated, start, count, block.v, counts);
    const Train<Real> gate_train = {gates, GATED_PART, false};
    code_train(gated.gate, start, count, false, block, gate_train, 0, counts[InGated::GATE], [](int) {});
    integrate<Value>(gated.up_currents, start, count, block.v);
    const bool known = scale(gated.up, start, count, block, counts[InGated::UP]);
    Real gate_so_far[GATED_PART] = {0}, up_so_far[GATED_PART] = {0};
    fire(known, gated.up.code, count, false, block, [&](int t) {
        const Real *gate_spikes = gates + t * GATED_PART;
        for (Index i = 0; i < count; i++) {
            const Real up_spike = block.fired[i] * block.unit[i];
            gate_so_far[i] += gate_spikes[i];
            block.emitted[i] = gate_so_far[i] * up_spike + gate_spikes[i] * up_so_far[i];
            up_so_far[i] += up_spike;
        }
        train.write(block.emitted, t, start, count);
    });
}

template <class Value>
void run_gated(const Gated<ComputedIn<Value>> &given, Value *total, Value *train, Counts *counts, int threads) {
    const Index size = size_of(given.gate_currents);
    const int time_steps = given.gate.code.time_steps;
    std::vector<Line<ComputedIn<Value>>> memory;
    const auto activation = with_lines(given.activation, size, memory);
    const Gated<ComputedIn<Value>> gated = {activation, given.gate, given.up, given.gate_currents, given.up_currents};
    const auto trains = train_at(train, time_steps, size);
#pragma omp parallel num_threads(threads) if (threads > 1 && size >= PARALLEL_FROM)
    {
        Counts parts[InGated::POPULATIONS] = {};
        std::vector<ComputedIn<Value>> gates(time_steps * GATED_PART);
#pragma omp for schedule(static) nowait
        for (Index start = 0; start < size; start += GATED_PART) {
            const Index count = std::min(GATED_PART, size - start);
            if (total != nullptr)
                gated_sum(gated, start, count, total, parts);
            else
                gated_train(gated, start, count, gates.data(), trains, parts);
        }
        finish_writing();
        add_all(counts, parts, InGated::POPULATIONS);
    }
}

}  // namespace
}  // namespace las::host
