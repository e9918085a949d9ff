// HG neurons in fp32, by fewer instructions than neuron.h and without fp64: the same values bit for bit. In fp64 they are
// those of neuron.h.
#pragma once

#include "cuda_structures.h"

namespace las::gpu {

// A sub-neuron of a grid, read at once; of octaves bias and amplitude.
struct alignas(16) Line {
    float start, inverse_width, bias, amplitude;
};
struct alignas(8) Pair {
    float bias, amplitude;
};

// Tables, in whichever memory they lie.
struct Tables {
    const void *lines;
    const unsigned short *cells;
};

LAS_INLINE Tables tables_of(const Curve &curve) { return {curve.lines, curve.cells}; }

LAS_INLINE bool is_beyond(float v, const Curve &curve) { return v < curve.low || v > curve.high; }
LAS_INLINE bool is_outside(float v, const Curve &curve) { return !(v >= curve.core_low && v <= curve.core_high); }

constexpr float WHOLE = 12582912.0f;  // 1.5·2^23: whole numbers are in the last bits of its sums
constexpr int WHOLE_BITS = 0x4B400000;

// Of a grid: the sub-neuron of the core. The share of its width is not cut to 1, which `fraction_of` does. Outside of the
// core, and of NaN, it is some sub-neuron, which `open_outside` puts right.
LAS_INLINE Open<float> open_in_core(float v, const Curve &curve, const Tables &tables) {
    const float inside = fminf(fmaxf(v + curve.shift, curve.core_low), curve.core_high);
    const int place = las::bits_of(__fmaf_ru(inside, curve.inverse_cell, WHOLE)) - (WHOLE_BITS + curve.first_cell);
    const Line line = static_cast<const Line *>(tables.lines)[tables.cells[place > 0 ? place : 0]];
    return {(inside - line.start) * line.inverse_width, line.bias, line.amplitude};
}

LAS_INLINE void open_outside(float v, const Curve &curve, Open<float> &open) {
    const bool is_below = v < curve.core_low, is_above = v > curve.core_high;
    if ((is_below && curve.below != HELD) || (is_above && curve.above != HELD)) {
        const float intercept = is_below ? curve.below_intercept : curve.above_intercept;
        const float slope = is_below ? curve.below_slope : curve.above_slope;
        const float widths = v * curve.inverse_tail_width;
        const float start = widths - widths == 0 ? (las::round_up(widths) - 1) * curve.tail_width : v;
        const float part = (v - start) * curve.inverse_tail_width;
        open.share = part >= 0 && slope != 0 ? part : 0.0f;  // of an infinite input it is NaN
        open.bias = slope != 0 ? intercept + slope * (start + curve.half_step) : intercept;
        open.amplitude = slope * curve.tail_width;
    }
    if (v != v) open.share = open.bias = v;
}

// x within [low, high]; NaN stays.
LAS_INLINE float clamped_by_instruction(float x, float low, float high) {
#ifdef LAS_PAIRS_IN_ONE_INSTRUCTION
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(x), "f"(low));
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(y), "f"(high));
    return y;
#else
    return las::clamped(x, low, high);
#endif
}

// Of octaves; compare octave_of in neuron.h.
LAS_INLINE Open<float> open_in_octaves(float v, const Curve &curve, const Tables &tables) {
    constexpr int mantissa_bits = Layout<float>::mantissa_bits, exponent_bias = Layout<float>::exponent_bias;
    const float x = clamped_by_instruction(curve.even ? las::magnitude(v) : v, las::power_of_two<float>(LEAST_OCTAVE),
                                           las::power_of_two<float>(MOST_OCTAVE));
    const int cut = mantissa_bits - curve.per_octave_bits, per_octave = 1 << curve.per_octave_bits;
    const int below = las::bits_of(x) + (curve.ulps - 1);
    const float start = las::real_of((below >> cut) << cut);
    const int exponent = (below >> mantissa_bits) - exponent_bias;
    const int turn = exponent >> (curve.period - 1);
    const int sub_neuron =
        ((below >> cut) & (per_octave - 1)) + ((exponent - turn * curve.period) << curve.per_octave_bits);
    const float unit = las::with_exponent_bits<float>(exponent_bias - exponent);
    const float share = (x - start) * unit * float(per_octave) + curve.octave_shift;
    const float scale = las::with_exponent_bits<float>(exponent_bias + curve.gain * turn);
    const Pair pair = static_cast<const Pair *>(tables.lines)[x == x ? sub_neuron : 0];
    const float not_a_number = share - share;  // or 0
    const float lift = float(turn) * curve.octave_step + not_a_number;
    return {share < 0 ? 0.0f : share, pair.bias * scale + lift, pair.amplitude * scale};
}

// The open sub-neuron of any input; of NaN its bias is NaN.
LAS_INLINE Open<float> open_of(float v, const Curve &curve, const Tables &tables) {
    if (!curve.is_grid) return open_in_octaves(v, curve, tables);
    Open<float> open = open_in_core(v, curve, tables);
    if (is_outside(v, curve)) open_outside(v, curve, open);
    return open;
}

// What a share codes, digits·2^-T: rounded down by adding and subtracting, for T up to QUICK_STEPS. Of NaN anything.
template <bool QUICK> LAS_INLINE float fraction_of(float share, const Curve &curve) {
    if (QUICK) return fminf(__fadd_rd(share, curve.floor_by) - curve.floor_by, curve.most);
    return las::digits_of(share, curve.time_steps) * las::power_of_two<float>(-curve.time_steps);
}

template <bool QUICK> LAS_INLINE float sum_of(const Open<float> &open, const Curve &curve) {
    return open.bias + fraction_of<QUICK>(open.share, curve) * open.amplitude;
}

// The train as one whole number, its first step the highest of T digits; of NaN 0.
template <bool QUICK> LAS_INLINE int train_of(float share, const Curve &curve) {
    if (QUICK) {
        const float digits = fraction_of<true>(share, curve) + curve.floor_by;
        return share == share ? las::bits_of(digits) & ((1 << curve.time_steps) - 1) : 0;
    }
    const float digits = las::digits_of(share, curve.time_steps);
    return digits > 0 ? int(digits) : 0;
}

// ---------------------------------------------------------------------------------------------------------------- fp64

LAS_INLINE Tables tables_of(const Gates<double> &) { return {nullptr, nullptr}; }
LAS_INLINE bool is_beyond(double v, const Gates<double> &gates) {
    const auto range = las::range_of(gates);
    return v < range.low || v > range.high;
}
LAS_NOINLINE Open<double> open_of(double v, const Gates<double> &gates, const Tables &) {
    Open<double> open = las::open_of(v, gates);
    open.bias += open.share - open.share;  // NaN reaches no threshold
    return open;
}
template <bool> LAS_INLINE double sum_of(const Open<double> &open, const Gates<double> &gates) {
    return las::sum_of(open, las::digits_of(open.share, gates.time_steps), gates.time_steps);
}
template <bool> LAS_INLINE int train_of(double share, const Gates<double> &gates) {
    const double digits = las::digits_of(share, gates.time_steps);
    return digits > 0 ? int(digits) : 0;
}

// ----------------------------------------------------------------------------------------------------- shared memory

// Copies the tables to `to`, as many bytes as structures.py says; a barrier must follow.
LAS_INLINE Tables fetch(const Curve &curve, char *to) {
    const int words = curve.sub_neurons * int(curve.is_grid ? sizeof(Line) : sizeof(Pair)) / int(sizeof(Pair));
    const auto *lines = static_cast<const Pair *>(curve.lines);
    for (int i = threadIdx.x; i < words; i += blockDim.x) reinterpret_cast<Pair *>(to)[i] = lines[i];
    const int after = words * int(sizeof(Pair));
    const auto *cells = reinterpret_cast<const Pair *>(curve.cells);  // padded to whole ones
    const int pairs = (curve.cell_count * int(sizeof(short)) + int(sizeof(Pair)) - 1) / int(sizeof(Pair));
    for (int i = threadIdx.x; i < pairs; i += blockDim.x) reinterpret_cast<Pair *>(to + after)[i] = cells[i];
    return {to, reinterpret_cast<const unsigned short *>(to + after)};
}
LAS_INLINE Tables fetch(const Gates<double> &gates, char *) { return tables_of(gates); }

// The same where there is room for them in shared memory; else they are read where they lie.
template <class Gates> LAS_INLINE Tables fetch_some(const Gates &gates, char *to, Index bytes) {
    return bytes ? fetch(gates, to) : tables_of(gates);
}

}  // namespace las::gpu
