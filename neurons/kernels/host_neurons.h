// The neurons on a processor, with the arithmetic of neuron.h: thresholds and gates, first one block of them, then whole
// populations.
#pragma once

#include "host_blocks.h"

namespace las::host {
namespace {

// ------------------------------------------------------------------------------------------------ thresholds, one block

// Potentials v in units of θ(1)/n of the sub-neuron that each goes to. Returns whether the fast sums know all of them.
template <class Real>
bool scale(const Thresholds<Real> &neurons, Index start, Index count, Block<Real> &block, Counts &counts) {
    const Code code = neurons.code;
    const Real factor = Real(0.5 / code.levels);
    int outliers = 0, beyond = 0, unknown = 0;
    const auto element = [&](Index i, Real normal, Real outlier) {
        const Real size = las::magnitude(block.v[i]);
        const bool is_outlier = size > normal;
        const Real theta = is_outlier ? outlier : normal;
        block.unit[i] = theta * factor;
        block.w[i] = block.v[i] / block.unit[i];
        const bool inside = size <= las::limit_of(outlier);
        // "floor" never emits 2θ(1), so the top of a range needs the dynamics too
        const bool known = code.nearest ? inside : size < theta * Real(1 - 1.0 / 1024);
        block.outlier[i] = is_outlier;
        outliers += is_outlier;
        beyond += size > las::limit_of(outlier);
        unknown += !known;
    };
    if (neurons.channels == 0) {
        const Real normal = neurons.normal[0], outlier = neurons.outlier[0];
        for (Index i = 0; i < count; i++) element(i, normal, outlier);
    } else {
        const Index normal_stride = neurons.normal_per_channel, outlier_stride = neurons.outlier_per_channel;
        for (Index i = 0, channel = start % neurons.channels; i < count; i++) {
            element(i, neurons.normal[channel * normal_stride], neurons.outlier[channel * outlier_stride]);
            channel = channel + 1 == neurons.channels ? 0 : channel + 1;
        }
    }
    counts.outliers += outliers;
    counts.beyond += beyond;
    return unknown == 0;
}

// Fire step by step; `emit` is called with the step and, for it, sees the levels times 2^-step in block.spare.
template <bool LIMITED, bool COUNTED, class Real, class Emit>
void fire_steps(const Code &code, Index count, Block<Real> &block, Emit emit) {
    Real left[LIMITED ? BLOCK : 1];
    if (LIMITED) std::fill(left, left + count, Real(code.max_spikes));
    const bool nearest = code.nearest;
    for (int t = 0; t < code.time_steps; t++) {
        const auto step = las::step_of<Real>(code, t);
        const Real size = las::power_of_two<Real>(-t);
        for (Index i = 0; i < count; i++) {
            Real level = las::level_of(block.w[i], step, nearest);
            if (LIMITED) {
                level = las::if_spikes_left(level, left[i]);
                left[i] -= level != Real(0) ? Real(1) : Real(0);
            }
            if (COUNTED) block.spikes[i] += level != Real(0);
            block.spare[i] = level * size;
            block.w[i] = (block.w[i] - level) * 2;
        }
        emit(t);
    }
}

// The same for inputs in range, by fewer operations.
template <bool LIMITED, bool COUNTED, class Real, class Emit>
void fire_steps_in_range(const Code &code, Index count, Block<Real> &block, Emit emit) {
    Real left[LIMITED ? BLOCK : 1];
    if (LIMITED) std::fill(left, left + count, Real(code.max_spikes));
    const bool nearest = code.nearest;
    const Real fire_at = las::fire_at<Real>(code);
    const auto fire = [&](Index i, Real level, Real size) {
        if (LIMITED) {
            level = left[i] > Real(0) ? level : Real(0);
            left[i] -= level != Real(0) ? Real(1) : Real(0);
        }
        if (COUNTED) block.spikes[i] += level != Real(0);
        block.spare[i] = level * size;
        block.w[i] = (block.w[i] - level) * 2;
    };
    for (int t = 0; t < code.time_steps; t++) {
        const Real size = las::power_of_two<Real>(-t);
        if (nearest && t == code.time_steps - 1) {
            const auto last = las::step_of<Real>(code, t);
            for (Index i = 0; i < count; i++) fire(i, las::level_of(block.w[i], last, true), size);
        } else {
            for (Index i = 0; i < count; i++) fire(i, las::level_in_range(block.w[i], fire_at, nearest), size);
        }
        emit(t);
    }
}

template <bool LIMITED, bool COUNTED, class Real, class Emit>
void fire_either(bool known, const Code &code, Index count, Block<Real> &block, Emit emit) {
    known ? fire_steps_in_range<LIMITED, COUNTED>(code, count, block, emit)
          : fire_steps<LIMITED, COUNTED>(code, count, block, emit);
}

template <class Real, class Emit>
void fire_all(bool known, const Code &code, Index count, bool counted, Block<Real> &block, Emit emit) {
    if (counted) std::fill(block.spikes, block.spikes + count, 0);
    if (code.max_spikes)
        counted ? fire_either<true, true>(known, code, count, block, emit)
                : fire_either<true, false>(known, code, count, block, emit);
    else
        counted ? fire_either<false, true>(known, code, count, block, emit)
                : fire_either<false, false>(known, code, count, block, emit);
}

// Sums of windows of inputs in range, spike by spike. Leaves them in block.spare.
template <bool LIMITED, bool COUNTED, class Real> void fire_spikes(const Code &code, Index count, Block<Real> &block) {
    Real *rest = block.spare;
    std::copy(block.w, block.w + count, rest);
    Real left[LIMITED ? BLOCK : 1];
    if (LIMITED) std::fill(left, left + count, Real(code.max_spikes));
    const Real fire_at = las::fire_at<Real>(code);
    const int last = code.time_steps - 1;
    const bool nearest = code.nearest;
    const int spikes = code.max_spikes ? std::min(code.max_spikes, code.spike_bound) : code.spike_bound;
    for (int index = 0; index < spikes; index++) {
        for (Index i = 0; i < count; i++) {
            const Real spike = las::next_spike(rest[i], fire_at, last, nearest);
            rest[i] -= spike;
            if (LIMITED) left[i] -= spike != Real(0) ? Real(1) : Real(0);
            if (COUNTED) block.spikes[i] += spike != Real(0);
        }
    }
    if (nearest) {
        for (Index i = 0; i < count; i++) {
            Real spike = las::last_spike(rest[i], code);
            if (LIMITED) spike = left[i] > Real(0) ? spike : Real(0);
            rest[i] -= spike;
            if (COUNTED) block.spikes[i] += spike != Real(0);
        }
    }
    for (Index i = 0; i < count; i++) rest[i] = block.w[i] - rest[i];
}

template <class Real> void fire_known(const Code &code, Index count, bool counted, Block<Real> &block) {
    if (code.levels == 1 && code.time_steps > 1 && !code.max_spikes && !counted) {
        for (Index i = 0; i < count; i++) block.spare[i] = las::binary_sum(block.w[i], code);
    } else if (code.max_spikes) {
        counted ? fire_spikes<true, true>(code, count, block) : fire_spikes<true, false>(code, count, block);
    } else {
        counted ? fire_spikes<false, true>(code, count, block) : fire_spikes<false, false>(code, count, block);
    }
}

// Sums of windows of potentials block.v, to `total`.
template <class Real>
void code_sum(const Thresholds<Real> &neurons, Index start, Index count, bool counted, Block<Real> &block, Real *total,
              Counts &counts) {
    if (scale(neurons, start, count, block, counts)) {
        if (counted) std::fill(block.spikes, block.spikes + count, 0);
        fire_known(neurons.code, count, counted, block);
        for (Index i = 0; i < count; i++) total[i] = block.spare[i] * block.unit[i];
        return;
    }
    Real sums[BLOCK] = {0};
    fire_all(false, neurons.code, count, counted, block, [&](int) {
        for (Index i = 0; i < count; i++) sums[i] += block.spare[i];
    });
    for (Index i = 0; i < count; i++) total[i] = sums[i] * block.unit[i];
}

// Trains of potentials block.v.
template <class Real>
void code_train(const Thresholds<Real> &neurons, Index start, Index count, bool counted, Block<Real> &block,
                const Train<Real> &train, Counts &counts) {
    const bool known = scale(neurons, start, count, block, counts);
    fire_all(known, neurons.code, count, counted, block, [&](int t) {
        for (Index i = 0; i < count; i++) block.spare[i] *= block.unit[i];
        train.write(block.spare, t, start, count);
    });
}

// ----------------------------------------------------------------------------------------------------- gates, one block

// `share`, `bias` and `amplitude` are apart from the tables, which the compiler must know to vectorise.
template <class Real>
void open_on_grid(Gates<Real> gates, Index count, const Real *v, Real *__restrict share, Real *__restrict bias,
                  Real *__restrict amplitude) {
    int sub_neuron[BLOCK];
    for (Index i = 0; i < count; i++) sub_neuron[i] = las::cell_of(v[i], gates);
    for (Index i = 0; i < count; i++) sub_neuron[i] = gates.cells[sub_neuron[i]];
    for (Index i = 0; i < count; i++) {
        const auto open = las::open_on_grid(v[i], sub_neuron[i], gates);
        share[i] = open.share;
        bias[i] = open.bias;
        amplitude[i] = open.amplitude;
    }
    if (gates.below == las::HELD && gates.above == las::HELD) return;
    for (Index i = 0; i < count; i++) las::follow_tails(v[i], gates, share[i], bias[i], amplitude[i]);
}

template <class Real>
void open_in_octaves(Gates<Real> gates, Index count, const Real *v, Real *__restrict share, Real *__restrict bias,
                     Real *__restrict amplitude) {
    int sub_neuron[BLOCK];
    Real scale[BLOCK];
    for (Index i = 0; i < count; i++) {
        const auto octave = las::octave_of(v[i], gates);
        sub_neuron[i] = octave.sub_neuron;
        share[i] = octave.share;
        scale[i] = octave.scale;
    }
    for (Index i = 0; i < count; i++) {
        bias[i] = gates.bias[sub_neuron[i]] * scale[i];
        amplitude[i] = gates.amplitude[sub_neuron[i]] * scale[i];
    }
}

// The open sub-neurons of block.v: shares in w, biases in unit, amplitudes in spare.
template <class Real> void open(const Gates<Real> &gates, Index count, Block<Real> &block, Counts &counts) {
    const auto range = las::range_of(gates);
    const Real low = Real(range.low), high = Real(range.high);
    int beyond = 0;
    for (Index i = 0; i < count; i++) beyond += block.v[i] < low || block.v[i] > high;
    counts.beyond += beyond;
    (gates.is_grid ? open_on_grid<Real> : open_in_octaves<Real>)(gates, count, block.v, block.w, block.unit, block.spare);
}

template <class Real> void count_ones(int time_steps, Index count, Block<Real> &block) {
    for (Index i = 0; i < count; i++) {
        const Real digits = las::digits_of(block.w[i], time_steps);
        block.spikes[i] = las::ones_in(digits > Real(0) ? unsigned(int(digits)) : 0u);  // NaN: none
    }
}

template <class Real>
void gate_sum(const Gates<Real> &gates, Index count, bool counted, Block<Real> &block, Real *total, Counts &counts) {
    open(gates, count, block, counts);
    if (counted) count_ones(gates.time_steps, count, block);
    for (Index i = 0; i < count; i++) {
        const Real digits = las::digits_of(block.w[i], gates.time_steps);
        total[i] = las::sum_of({block.w[i], block.unit[i], block.spare[i]}, digits, gates.time_steps);
    }
}

template <class Real>
void gate_train(const Gates<Real> &gates, Index start, Index count, bool counted, Block<Real> &block, const Train<Real> &train,
                Counts &counts) {
    open(gates, count, block, counts);
    if (counted) count_ones(gates.time_steps, count, block);
    int digits[BLOCK];
    for (Index i = 0; i < count; i++) {
        const Real share = las::digits_of(block.w[i], gates.time_steps);
        digits[i] = share > Real(0) ? int(share) : 0;
        block.unit[i] += share - share;  // NaN reaches no threshold
    }
    for (int t = 0; t < gates.time_steps; t++) {
        const Real size = las::power_of_two<Real>(-t - 1);
        const int digit = 1 << (gates.time_steps - 1 - t);
        Real *step = block.w;
        for (Index i = 0; i < count; i++) step[i] = digits[i] & digit ? block.spare[i] * size : Real(0);
        if (t == 0)
            for (Index i = 0; i < count; i++) step[i] += block.unit[i];
        train.write(step, t, start, count);
    }
}

// ------------------------------------------------------------------------------------------------------ whole populations

// Of one block, after it fired.
template <class Real>
void note_spikes(const Block<Real> &block, bool has_outliers, Index start, Index count, int8_t *kept, Counts &counts) {
    Index spikes = 0;
    for (Index i = 0; i < count; i++) spikes += block.spikes[i];
    counts.spikes += spikes;
    if (kept == nullptr) return;
    for (Index i = 0; i < count; i++)
        kept[start + i] = int8_t(block.spikes[i] + (has_outliers && block.outlier[i] ? OUTLIER_FLAG : 0));
}

template <class Real>
void run_thresholds(const Thresholds<Real> &neurons, const Currents &currents, Real *membrane, Real *total, Real *train,
                    bool counted, int8_t *kept, Counts &counts, int threads) {
    const Index size = size_of(currents);
    const bool has_outliers = neurons.normal != neurons.outlier;
    const auto trains = train_at(train, neurons.code.time_steps, size);
    for_blocks<Real>(size, threads, counts, [&](Index start, Index count, Block<Real> &block, Counts &part) {
        integrate(currents, start, count, block.v);
        if (membrane != nullptr) std::copy(block.v, block.v + count, membrane + start);
        if (total != nullptr)
            code_sum(neurons, start, count, counted, block, total + start, part);
        else
            code_train(neurons, start, count, counted, block, trains, part);
        if (!has_outliers) part.outliers = 0;
        if (counted) note_spikes(block, has_outliers, start, count, kept, part);
    });
}

template <class Real>
void run_gates(const Gates<Real> &gates, const Currents &currents, Real *membrane, Real *total, Real *train, bool counted,
               int8_t *kept, Counts &counts, int threads) {
    const Index size = size_of(currents);
    const auto trains = train_at(train, gates.time_steps, size);
    for_blocks<Real>(size, threads, counts, [&](Index start, Index count, Block<Real> &block, Counts &part) {
        integrate(currents, start, count, block.v);
        if (membrane != nullptr) std::copy(block.v, block.v + count, membrane + start);
        if (total != nullptr)
            gate_sum(gates, count, counted, block, total + start, part);
        else
            gate_train(gates, start, count, counted, block, trains, part);
        if (counted) note_spikes(block, false, start, count, kept, part);
    });
}

}  // namespace
}  // namespace las::host
