// The neurons on a processor, with the arithmetic of neuron.h: thresholds and gates, first one block of them, then
// whole populations.
#pragma once

#include <vector>

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

// What a potential is divided by: a unit, and the number next to its reciprocal.
template <class Real> struct Divisor {
    Real unit, inverse;
};
template <class Real> Divisor<Real> divisor_of(Real threshold, const Code &code) {
    const Real unit = threshold * las::unit_of_one<Real>(code);
    return {unit, 1 / unit};
}

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
constexpr bool HAS_FMA = true;
LAS_INLINE float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
LAS_INLINE double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }

// v/unit, rounded to nearest (Brisebarre, Muller, Raina: Accelerating correctly rounded floating-point division when the
// divisor is known in advance, IEEE Trans. Comp. 53(8), 2004). Infinite v give NaN; where a remainder underflows, so
// does v/unit nearly, and no threshold tells it from 0.
template <class Real> LAS_INLINE Real divided(Real v, const Divisor<Real> &by) {
    const Real guess = v * by.inverse;
    return fused(fused(-by.unit, guess, v), by.inverse, guess);
}
#else
constexpr bool HAS_FMA = false;
template <class Real> LAS_INLINE Real divided(Real v, const Divisor<Real> &by) { return v / by.unit; }
#endif

// Whether `divided` is exact for all potentials in range: nothing overflows, and no unit is denormal.
template <class Real> bool is_ordinary(const Thresholds<Real> &neurons) {
    const Real least = Real(1e-24), most = Real(1e24);
    return neurons.channels == 0 && neurons.normal[0] > least && neurons.outlier[0] < most;
}

// Potentials v in units of the sub-neuron that each goes to. Returns whether the fast sums know all of them.
template <class Real>
bool scale(const Thresholds<Real> &neurons, Index start, Index count, ThresholdBlock<Real> &block, Counts &counts) {
    const Code code = neurons.code;
    int outliers = 0, beyond = 0, unknown = 0;
    const auto place = [&](Index i, Real normal, Real outlier, const auto &divide) {
        const Real size = las::magnitude(block.v[i]);
        const bool is_outlier = size > normal;
        block.w[i] = divide(block.v[i], is_outlier, block.unit[i]);
        block.outlier[i] = is_outlier;
        outliers += is_outlier;
        beyond += size > las::limit_of(outlier);
        unknown += !las::is_known(size, is_outlier ? outlier : normal, outlier, code.nearest);
    };
    if (neurons.channels == 0) {
        const Real normal = neurons.normal[0], outlier = neurons.outlier[0];
        const auto by_normal = divisor_of(normal, code), by_outlier = divisor_of(outlier, code);
        const auto exactly = [&](Real v, bool is_outlier, Real &unit) {
            unit = is_outlier ? by_outlier.unit : by_normal.unit;
            return v / unit;
        };
        const auto fast = [&](Real v, bool is_outlier, Real &unit) {
            unit = is_outlier ? by_outlier.unit : by_normal.unit;
            return divided<Real>(v, {unit, is_outlier ? by_outlier.inverse : by_normal.inverse});
        };
        if (is_ordinary(neurons)) {
            for (Index i = 0; i < count; i++) place(i, normal, outlier, fast);
            if (unknown)
                for (Index i = 0; i < count; i++) block.w[i] = block.v[i] / block.unit[i];
        } else {
            for (Index i = 0; i < count; i++) place(i, normal, outlier, exactly);
        }
    } else {
        const Real unit_of_one = las::unit_of_one<Real>(code);
        const Index normal_stride = neurons.normal_per_channel, outlier_stride = neurons.outlier_per_channel;
        for (Index i = 0, channel = start % neurons.channels; i < count; i++) {
            const Real normal = neurons.normal[channel * normal_stride], outlier = neurons.outlier[channel * outlier_stride];
            place(i, normal, outlier, [&](Real v, bool is_outlier, Real &unit) {
                unit = (is_outlier ? outlier : normal) * unit_of_one;
                return v / unit;
            });
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

// What sums in one pass need to know of a code, computed once.
template <class Real> struct Passes {
    IntegerOf<Real> to_large;  // from the bits of a remainder to those of a number whose last digit is its spike's
    Real least_large;          // below it, no step fires
    Real last, last_at;        // the spike of the last step of "nearest", and where it comes from

    explicit Passes(const Code &code)
        : to_large(las::bits_of(las::power_of_two<Real>(Layout<Real>::mantissa_bits)) -
                   las::bits_of(las::fire_at<Real>(code))),
          least_large(las::power_of_two<Real>(Layout<Real>::mantissa_bits + 1 - code.time_steps)),
          last(las::power_of_two<Real>(1 - code.time_steps) * Real(code.levels)),
          last_at(last / 2) {}
};

// x or 0, by its bits: compilers make branches of a choice between differences.
template <class Real> LAS_INLINE Real kept_if(bool condition, Real x) {
    return las::real_of(las::bits_of(x) & -IntegerOf<Real>(condition));
}

// What is left of a remainder in range after its next spike, as `next_spike` has it. Adding a large number and taking it
// away again rounds the remainder to multiples of the last digit of the sum, which is the first step that fires: the
// exponent of remainder/fire_at, rounded down.
template <bool NEAREST, class Real> LAS_INLINE Real next_rest(Real rest, const Passes<Real> &passes) {
    using Unsigned = typename Layout<Real>::Unsigned;
    constexpr Unsigned digits = (Unsigned(1) << Layout<Real>::mantissa_bits) - 1;
    const Unsigned bits = (Unsigned(las::bits_of(rest)) + Unsigned(passes.to_large)) & ~digits;
    const Real large = las::real_of(IntegerOf<Real>(bits));
    Real spike = (rest + large) - large;
    if (!NEAREST) {
        const Real digit = large * las::power_of_two<Real>(-Layout<Real>::mantissa_bits);
        spike = las::magnitude(spike) > las::magnitude(rest) ? spike - digit : spike;
    }
    return rest - kept_if(las::magnitude(large) >= passes.least_large, spike);
}

// Sums of windows of potentials v, to `total`; SPIKES: as many as there can be, 0: of one level. Returns whether all are
// in range, and right.
template <bool NEAREST, int SPIKES, class Real>
bool sum_in_one_pass(const Thresholds<Real> &neurons, Index count, const Real *__restrict v, Real *__restrict total) {
    const Code code = neurons.code;
    const Passes<Real> passes(code);
    const Real normal = neurons.normal[0], outlier = neurons.outlier[0];
    const auto by_normal = divisor_of(normal, code), by_outlier = divisor_of(outlier, code);
    int unknown = 0;
    for (Index i = 0; i < count; i++) {
        const Real size = las::magnitude(v[i]);
        const bool is_outlier = size > normal;
        const Divisor<Real> by = {is_outlier ? by_outlier.unit : by_normal.unit,
                                  is_outlier ? by_outlier.inverse : by_normal.inverse};
        unknown |= !las::is_known(size, is_outlier ? outlier : normal, outlier, NEAREST);
        const Real w = divided(v[i], by);
        if (SPIKES == 0) {
            total[i] = las::binary_sum(w, code) * by.unit;
            continue;
        }
        Real rest = w;
        for (int spike = 0; spike < SPIKES; spike++) rest = next_rest<NEAREST>(rest, passes);
        if (NEAREST) {
            rest -= kept_if(las::magnitude(rest) >= passes.last_at, las::with_sign_of(passes.last, rest));
        }
        total[i] = (w - rest) * by.unit;
    }
    return unknown == 0;
}

template <int SPIKES, class Real>
bool sum_in_one_pass(const Thresholds<Real> &neurons, Index count, const Real *v, Real *total) {
    return neurons.code.nearest ? sum_in_one_pass<true, SPIKES>(neurons, count, v, total)
                                : sum_in_one_pass<false, SPIKES>(neurons, count, v, total);
}

// The same where it is known how; otherwise false, and `total` is to be written again.
template <class Real> bool sum_at_once(const Thresholds<Real> &neurons, Index count, const Real *v, Real *total) {
    const Code &code = neurons.code;
    if (!is_ordinary(neurons) || code.max_spikes) return false;
    if (code.levels == 1) return code.time_steps > 1 && sum_in_one_pass<0>(neurons, count, v, total);
    switch (code.spike_bound) {
        case 1: return sum_in_one_pass<1>(neurons, count, v, total);
        case 2: return sum_in_one_pass<2>(neurons, count, v, total);
        case 3: return sum_in_one_pass<3>(neurons, count, v, total);
        case 4: return sum_in_one_pass<4>(neurons, count, v, total);
        default: return false;
    }
}

// Sums of windows of potentials block.v, to `total`.
template <class Real>
void code_sum(const Thresholds<Real> &neurons, Index start, Index count, bool counted, ThresholdBlock<Real> &block,
              Real *total, Counts &counts) {
    if (!counted && sum_at_once(neurons, count, block.v, total)) return;
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

// The tables of a grid with the numbers of each sub-neuron side by side, which takes one load instead of four.
template <class Real> struct alignas(4 * sizeof(Real)) Line {
    Real start, inverse_width, bias, amplitude;
};

// Gates with their tables as lines in `memory`, where there are enough inputs to pay for making them; else as they are.
template <class Real>
Gates<Real> with_lines(Gates<Real> gates, Index inputs, std::vector<Line<Real>> &memory) {
    if (!gates.is_grid || inputs < gates.sub_neurons) return gates;
    memory.resize(gates.sub_neurons);
    for (int i = 0; i < gates.sub_neurons; i++)
        memory[i] = {gates.start[i], gates.inverse_width[i], gates.bias[i], gates.amplitude[i]};
    gates.lines = memory.data();
    return gates;
}

// The lines of the sub-neurons that own cells, number by number.
template <class Real>
void take_lines(const Gates<Real> &gates, const int *cell, Index count, Real *__restrict start,
                Real *__restrict inverse_width, Real *__restrict bias, Real *__restrict amplitude) {
    const auto *lines = static_cast<const Line<Real> *>(gates.lines);
    Index i = 0;
#ifdef __SSE2__
    if constexpr (std::is_same<Real, float>::value) {
        const auto load = [&](Index at) { return _mm_load_ps(&lines[las::owner_of(cell[at], gates)].start); };
        for (; i + 4 <= count; i += 4) {
            __m128 a = load(i), b = load(i + 1), c = load(i + 2), d = load(i + 3);
            _MM_TRANSPOSE4_PS(a, b, c, d);
            _mm_storeu_ps(start + i, a), _mm_storeu_ps(inverse_width + i, b);
            _mm_storeu_ps(bias + i, c), _mm_storeu_ps(amplitude + i, d);
        }
    }
#endif
    for (; i < count; i++) {
        const auto &line = lines[las::owner_of(cell[i], gates)];
        start[i] = line.start, inverse_width[i] = line.inverse_width, bias[i] = line.bias, amplitude[i] = line.amplitude;
    }
}

constexpr Index TAIL_TILE = 64;  // inputs whose tails are followed if one of them lies in a tail

template <class Real>
void follow_all_tails(const Gates<Real> &gates, Index count, const Real *v, Real *__restrict share,
                      Real *__restrict bias, Real *__restrict amplitude) {
    const Real low = Real(gates.core_low), high = Real(gates.core_high);
    for (Index start = 0; start < count; start += TAIL_TILE) {
        const Index end = std::min(start + TAIL_TILE, count);
        int outside = 0;
        for (Index i = start; i < end; i++) outside |= v[i] < low || v[i] > high;
        if (!outside) continue;
        for (Index i = start; i < end; i++) las::follow_tails(v[i], gates, share[i], bias[i], amplitude[i]);
    }
}

// `share`, `bias` and `amplitude` are apart from the tables, which the compiler must know to vectorise.
template <class Real>
void open_on_grid(Gates<Real> gates, Index count, const Real *v, Real *__restrict share, Real *__restrict bias,
                  Real *__restrict amplitude) {
    int cell[BLOCK];
    for (Index i = 0; i < count; i++) cell[i] = las::cell_of(v[i], gates);
    if (gates.lines != nullptr) {
        Real start[BLOCK], inverse_width[BLOCK];
        take_lines(gates, cell, count, start, inverse_width, bias, amplitude);
        for (Index i = 0; i < count; i++) share[i] = las::share_on_grid(v[i], start[i], inverse_width[i], gates);
    } else {
        for (Index i = 0; i < count; i++) cell[i] = las::owner_of(cell[i], gates);
        for (Index i = 0; i < count; i++) {
            const auto open = las::open_on_grid(v[i], cell[i], gates);
            share[i] = open.share;
            bias[i] = open.bias;
            amplitude[i] = open.amplitude;
        }
    }
    if (gates.below == HELD && gates.above == HELD) return;
    follow_all_tails(gates, count, v, share, bias, amplitude);
}

template <class Real>
void open_in_octaves(Gates<Real> gates, Index count, const Real *v, Real *__restrict share, Real *__restrict bias,
                     Real *__restrict amplitude) {
    int sub_neuron[BLOCK];
    Real scale[BLOCK], lift[BLOCK];
    for (Index i = 0; i < count; i++) {
        const auto octave = las::octave_of(v[i], gates);
        sub_neuron[i] = octave.sub_neuron;
        share[i] = octave.share;
        scale[i] = octave.scale;
        lift[i] = octave.lift;
    }
    for (Index i = 0; i < count; i++) {
        bias[i] = gates.bias[sub_neuron[i]] * scale[i] + lift[i];
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

// A population as its blocks take it for so many inputs; `memory` is what it may point to.
template <class Real>
const Thresholds<Real> &prepared(const Thresholds<Real> &neurons, Index, std::vector<Line<Real>> &) {
    return neurons;
}
template <class Real>
Gates<Real> prepared(const Gates<Real> &gates, Index inputs, std::vector<Line<Real>> &memory) {
    return with_lines(gates, inputs, memory);
}

// Thresholds or gates.
template <class Neurons, class Value>
void run_population(const Neurons &given, const Currents &currents, const Outputs<Value> &out, Counts &counts,
                    int threads) {
    using Block = BlockOf<Neurons>;
    const Index size = size_of(currents);
    std::vector<Line<ComputedIn<Value>>> memory;
    const auto &neurons = prepared(given, size, memory);
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
