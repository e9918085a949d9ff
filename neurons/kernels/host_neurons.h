// The neurons on a processor, with the arithmetic of neuron.h: thresholds and gates, first one block of them, then
// whole populations.
#pragma once

#include "host_fast.h"

namespace las::host {
namespace {

// ----------------------------------------------------------------------------------------------- thresholds, one block

template <class Real> struct ThresholdBlock {
    Real v[BLOCK];          // membrane potentials
    Real unit[BLOCK];       // θ(1)/n of the sub-neuron that each goes to
    Real w[BLOCK];          // what is left of v, in these units
    Real fired[BLOCK];      // what fires, in these units: at a step, or in the window where only its sum is wanted
    Real emitted[BLOCK];    // what goes out: at a step, or the sum
    int spikes[BLOCK];      // where they are counted
    int8_t outlier[BLOCK];  // whether it exceeds the normal threshold
};

template <class Real> bool has_outliers(const Thresholds<Real> &neurons) { return neurons.normal != neurons.outlier; }

// Potentials v in units of the sub-neuron that each goes to. Returns whether the fast sums know all of them.
template <class Real>
bool scale(const Thresholds<Real> &neurons, Index start, Index count, ThresholdBlock<Real> &block, Counts &counts) {
    const Code code = neurons.code;
    const Real unit_of_one = las::unit_of_one<Real>(code);
    int outliers = 0, beyond = 0, unknown = 0;
    const auto place = [&](Index i, Real normal, Real outlier) {
        const Real size = las::magnitude(block.v[i]);
        const bool is_outlier = size > normal;
        const Real theta = is_outlier ? outlier : normal;
        block.unit[i] = theta * unit_of_one;
        block.w[i] = block.v[i] / block.unit[i];
        block.outlier[i] = is_outlier;
        outliers += is_outlier;
        beyond += size > las::limit_of(outlier);
        unknown += !las::is_known(size, theta, outlier, code.nearest);
    };
    if (neurons.channels == 0) {
        const Real normal = neurons.normal[0], outlier = neurons.outlier[0];
        for (Index i = 0; i < count; i++) place(i, normal, outlier);
    } else {
        const Index normal_stride = neurons.normal_per_channel, outlier_stride = neurons.outlier_per_channel;
        for (Index i = 0, channel = start % neurons.channels; i < count; i++) {
            place(i, neurons.normal[channel * normal_stride], neurons.outlier[channel * outlier_stride]);
            channel = channel + 1 == neurons.channels ? 0 : channel + 1;
        }
    }
    counts.outliers += has_outliers(neurons) ? outliers : 0;
    counts.beyond += beyond;
    return unknown == 0;
}

// Fire step by step; `emit` is called with the step and, for it, sees the levels times 2^-step in block.fired.
template <bool LIMITED, bool COUNTED, class Real, class Emit>
void fire_steps(const Code &code, Index count, ThresholdBlock<Real> &block, Emit emit) {
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
            block.fired[i] = level * size;
            block.w[i] = (block.w[i] - level) * 2;
        }
        emit(t);
    }
}

// The same for inputs in range, by fewer operations.
template <bool LIMITED, bool COUNTED, class Real, class Emit>
void fire_steps_in_range(const Code &code, Index count, ThresholdBlock<Real> &block, Emit emit) {
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
        block.fired[i] = level * size;
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
void fire_either(bool known, const Code &code, Index count, ThresholdBlock<Real> &block, Emit emit) {
    known ? fire_steps_in_range<LIMITED, COUNTED>(code, count, block, emit)
          : fire_steps<LIMITED, COUNTED>(code, count, block, emit);
}

// `known`: whether all inputs are in range.
template <class Real, class Emit>
void fire(bool known, const Code &code, Index count, bool counted, ThresholdBlock<Real> &block, Emit emit) {
    if (counted) std::fill(block.spikes, block.spikes + count, 0);
    if (code.max_spikes)
        counted ? fire_either<true, true>(known, code, count, block, emit)
                : fire_either<true, false>(known, code, count, block, emit);
    else
        counted ? fire_either<false, true>(known, code, count, block, emit)
                : fire_either<false, false>(known, code, count, block, emit);
}

// Sums of windows of inputs in range, spike by spike, to block.fired.
template <bool LIMITED, bool COUNTED, class Real>
void fire_spikes(const Code &code, Index count, ThresholdBlock<Real> &block) {
    Real rest[BLOCK], left[LIMITED ? BLOCK : 1];
    std::copy(block.w, block.w + count, rest);
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
    for (Index i = 0; i < count; i++) block.fired[i] = block.w[i] - rest[i];
}

// Sums of windows of inputs in range, to block.fired, by the shortest way.
template <class Real> void fire_window(const Code &code, Index count, bool counted, ThresholdBlock<Real> &block) {
    if (code.levels == 1 && code.time_steps > 1 && !code.max_spikes && !counted) {
        for (Index i = 0; i < count; i++) block.fired[i] = las::binary_sum(block.w[i], code);
        return;
    }
    if (counted) std::fill(block.spikes, block.spikes + count, 0);
    if (code.max_spikes)
        counted ? fire_spikes<true, true>(code, count, block) : fire_spikes<true, false>(code, count, block);
    else
        counted ? fire_spikes<false, true>(code, count, block) : fire_spikes<false, false>(code, count, block);
}

// Sums of windows of potentials block.v, to `total`.
template <class Real>
void code_sum(const Thresholds<Real> &neurons, Index start, Index count, bool counted, ThresholdBlock<Real> &block,
              Real *total, Counts &counts) {
    if (!counted && sum_fast(neurons, count, block.v, total, counts)) return;
    if (scale(neurons, start, count, block, counts)) {
        fire_window(neurons.code, count, counted, block);
        for (Index i = 0; i < count; i++) total[i] = block.fired[i] * block.unit[i];
        return;
    }
    Real sums[BLOCK] = {0};
    fire(false, neurons.code, count, counted, block, [&](int) {
        for (Index i = 0; i < count; i++) sums[i] += block.fired[i];
    });
    for (Index i = 0; i < count; i++) total[i] = sums[i] * block.unit[i];
}

// Trains of potentials block.v, written from neuron `at` on; `follow` may change what a step emits, block.emitted.
template <class Real, class Value, class Follow>
void code_train(const Thresholds<Real> &neurons, Index start, Index count, bool counted, ThresholdBlock<Real> &block,
                const Train<Value> &train, Index at, Counts &counts, Follow follow) {
    const bool known = scale(neurons, start, count, block, counts);
    fire(known, neurons.code, count, counted, block, [&](int t) {
        for (Index i = 0; i < count; i++) block.emitted[i] = block.fired[i] * block.unit[i];
        follow(t);
        train.write(block.emitted, t, at, count);
    });
}

template <class Real, class Value>
void code_train(const Thresholds<Real> &neurons, Index start, Index count, bool counted, ThresholdBlock<Real> &block,
                const Train<Value> &train, Counts &counts) {
    code_train(neurons, start, count, counted, block, train, start, counts, [](int) {});
}

// ---------------------------------------------------------------------------------------------------- gates, one block

template <class Real> struct GateBlock {
    Real v[BLOCK];          // membrane potentials
    Real share[BLOCK];      // of the width of the open sub-neuron: what it codes
    Real bias[BLOCK];       // its bias
    Real amplitude[BLOCK];  // its amplitude
    Real emitted[BLOCK];    // what goes out: at a step, or the sum
    int spikes[BLOCK];      // where they are counted
};

// `share`, `bias` and `amplitude` are apart from the tables, which the compiler must know to vectorise.
template <class Real>
void open_on_grid(Gates<Real> gates, Index count, const Real *v, Real *__restrict share, Real *__restrict bias,
                  Real *__restrict amplitude) {
    int sub_neuron[BLOCK];
    for (Index i = 0; i < count; i++) sub_neuron[i] = las::cell_of(v[i], gates);
    for (Index i = 0; i < count; i++) sub_neuron[i] = las::owner_of(sub_neuron[i], gates);
    for (Index i = 0; i < count; i++) {
        const auto open = las::open_on_grid(v[i], sub_neuron[i], gates);
        share[i] = open.share;
        bias[i] = open.bias;
        amplitude[i] = open.amplitude;
    }
    if (gates.below == HELD && gates.above == HELD) return;
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

// The open sub-neurons of block.v.
template <class Real> void open(const Gates<Real> &gates, Index count, GateBlock<Real> &block, Counts &counts) {
    const auto range = las::range_of(gates);
    const Real low = Real(range.low), high = Real(range.high);
    int beyond = 0;
    for (Index i = 0; i < count; i++) beyond += block.v[i] < low || block.v[i] > high;
    counts.beyond += beyond;
    const auto open_all = gates.is_grid ? open_on_grid<Real> : open_in_octaves<Real>;
    open_all(gates, count, block.v, block.share, block.bias, block.amplitude);
}

template <class Real> void count_ones(int time_steps, Index count, GateBlock<Real> &block) {
    for (Index i = 0; i < count; i++) {
        const Real digits = las::digits_of(block.share[i], time_steps);
        block.spikes[i] = las::ones_in(digits > Real(0) ? unsigned(int(digits)) : 0u);  // NaN: none
    }
}

// Sums of windows of potentials block.v, to `total`.
template <class Real>
void code_sum(const Gates<Real> &gates, Index, Index count, bool counted, GateBlock<Real> &block, Real *total,
              Counts &counts) {
    open(gates, count, block, counts);
    if (counted) count_ones(gates.time_steps, count, block);
    for (Index i = 0; i < count; i++) {
        const Real digits = las::digits_of(block.share[i], gates.time_steps);
        total[i] = las::sum_of({block.share[i], block.bias[i], block.amplitude[i]}, digits, gates.time_steps);
    }
}

// Trains of potentials block.v.
template <class Real, class Value>
void code_train(const Gates<Real> &gates, Index start, Index count, bool counted, GateBlock<Real> &block,
                const Train<Value> &train, Counts &counts) {
    open(gates, count, block, counts);
    if (counted) count_ones(gates.time_steps, count, block);
    int digits[BLOCK];
    for (Index i = 0; i < count; i++) {
        const Real share = las::digits_of(block.share[i], gates.time_steps);
        digits[i] = share > Real(0) ? int(share) : 0;
        block.bias[i] += share - share;  // NaN reaches no threshold
    }
    for (int t = 0; t < gates.time_steps; t++) {
        const Real size = las::power_of_two<Real>(-t - 1);
        const int digit = 1 << (gates.time_steps - 1 - t);
        for (Index i = 0; i < count; i++) block.emitted[i] = digits[i] & digit ? block.amplitude[i] * size : Real(0);
        if (t == 0)
            for (Index i = 0; i < count; i++) block.emitted[i] += block.bias[i];
        train.write(block.emitted, t, start, count);
    }
}

// --------------------------------------------------------------------------------------------------- whole populations

template <class Neurons> struct KindOf;
template <class Number> struct KindOf<Thresholds<Number>> {
    using Block = ThresholdBlock<Number>;
};
template <class Number> struct KindOf<Gates<Number>> {
    using Block = GateBlock<Number>;
};
template <class Neurons> using BlockOf = typename KindOf<Neurons>::Block;

template <class Real> int time_steps_of(const Thresholds<Real> &neurons) { return neurons.code.time_steps; }
template <class Real> int time_steps_of(const Gates<Real> &gates) { return gates.time_steps; }

// What a population writes: `total` [N] or `train` [T, N], one of which is given; membrane potentials [N] and the
// spikes of each neuron, `kept` [N], where they are given.
template <class Value> struct Outputs {
    ComputedIn<Value> *membrane;
    Value *total, *train;
    bool counted;
    int8_t *kept;
};

// Of one block, after it fired: spikes and flags of outliers. `kept` is the block's, or none.
void note_spikes(const int *spikes, const int8_t *outlier, Index count, int8_t *kept, Counts &counts) {
    Index sum = 0;
    for (Index i = 0; i < count; i++) sum += spikes[i];
    counts.spikes += sum;
    if (kept == nullptr) return;
    for (Index i = 0; i < count; i++)
        kept[i] = int8_t(spikes[i] + (outlier != nullptr && outlier[i] ? OUTLIER_FLAG : 0));
}

template <class Real>
const int8_t *outliers_of(const Thresholds<Real> &neurons, const ThresholdBlock<Real> &block) {
    return has_outliers(neurons) ? block.outlier : nullptr;
}
template <class Real> const int8_t *outliers_of(const Gates<Real> &, const GateBlock<Real> &) { return nullptr; }

// Thresholds or gates.
template <class Neurons, class Value>
void run_population(const Neurons &neurons, const Currents &currents, const Outputs<Value> &out, Counts &counts,
                    int threads) {
    using Block = BlockOf<Neurons>;
    const Index size = size_of(currents);
    const auto train = train_at(out.train, time_steps_of(neurons), size);
    for_blocks<Block>(size, threads, counts, [&](Index start, Index count, Block &block, Counts &part) {
        integrate<Value>(currents, start, count, block.v);
        if (out.membrane != nullptr) std::copy(block.v, block.v + count, out.membrane + start);
        if (out.total != nullptr) {
            auto *total = computed_at(out.total + start, block.emitted);
            code_sum(neurons, start, count, out.counted, block, total, part);
            store(total, out.total + start, count);
        } else {
            code_train(neurons, start, count, out.counted, block, train, part);
        }
        int8_t *kept = out.kept == nullptr ? nullptr : out.kept + start;
        if (out.counted) note_spikes(block.spikes, outliers_of(neurons, block), count, kept, part);
    });
}

}  // namespace
}  // namespace las::host
