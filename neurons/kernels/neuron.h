// What one neuron does with its membrane potential: the arithmetic of every compiled kernel, on processors (host.cpp)
// and on GPUs (window.cu). Its oracle is the torch code of neurons/code.py and neurons/hg.py, which it equals bit for
// bit; compile it without contraction of products and sums (-ffp-contract=off, --fmad=false).
#pragma once

#ifdef __CUDACC__
#define LAS_INLINE __device__ __forceinline__
#else
#include <cmath>
#include <cstring>
#define LAS_INLINE static inline __attribute__((always_inline))
#endif

namespace las {

// ---------------------------------------------------------------------------------------------- floating point as bits

template <class Real> struct Layout;
template <> struct Layout<float> {
    using Integer = int;
    static constexpr int mantissa_bits = 23, exponent_bias = 127;
};
template <> struct Layout<double> {
    using Integer = long long;
    static constexpr int mantissa_bits = 52, exponent_bias = 1023;
};
template <class Real> using IntegerOf = typename Layout<Real>::Integer;

#ifdef __CUDACC__
LAS_INLINE int bits_of(float x) { return __float_as_int(x); }
LAS_INLINE long long bits_of(double x) { return __double_as_longlong(x); }
LAS_INLINE float real_of(int bits) { return __int_as_float(bits); }
LAS_INLINE double real_of(long long bits) { return __longlong_as_double(bits); }
LAS_INLINE float magnitude(float x) { return fabsf(x); }
LAS_INLINE double magnitude(double x) { return fabs(x); }
LAS_INLINE float nearest_even(float x) { return rintf(x); }
LAS_INLINE double nearest_even(double x) { return rint(x); }
LAS_INLINE float round_down(float x) { return floorf(x); }
LAS_INLINE double round_down(double x) { return floor(x); }
LAS_INLINE float round_up(float x) { return ceilf(x); }
LAS_INLINE double round_up(double x) { return ceil(x); }
LAS_INLINE float with_sign_of(float x, float y) { return copysignf(x, y); }
LAS_INLINE double with_sign_of(double x, double y) { return copysign(x, y); }
LAS_INLINE int ones_in(unsigned digits) { return __popc(digits); }
#else
LAS_INLINE int bits_of(float x) { return __builtin_bit_cast(int, x); }
LAS_INLINE long long bits_of(double x) { return __builtin_bit_cast(long long, x); }
LAS_INLINE float real_of(int bits) { return __builtin_bit_cast(float, bits); }
LAS_INLINE double real_of(long long bits) { return __builtin_bit_cast(double, bits); }
LAS_INLINE float magnitude(float x) { return __builtin_fabsf(x); }
LAS_INLINE double magnitude(double x) { return __builtin_fabs(x); }
LAS_INLINE float nearest_even(float x) { return __builtin_rintf(x); }
LAS_INLINE double nearest_even(double x) { return __builtin_rint(x); }
LAS_INLINE float round_down(float x) { return __builtin_floorf(x); }
LAS_INLINE double round_down(double x) { return __builtin_floor(x); }
LAS_INLINE float round_up(float x) { return __builtin_ceilf(x); }
LAS_INLINE double round_up(double x) { return __builtin_ceil(x); }
LAS_INLINE float with_sign_of(float x, float y) { return __builtin_copysignf(x, y); }
LAS_INLINE double with_sign_of(double x, double y) { return __builtin_copysign(x, y); }
LAS_INLINE int ones_in(unsigned digits) { return __builtin_popcount(digits); }
#endif

// 2^exponent, for exponents of normal numbers.
template <class Real> LAS_INLINE Real power_of_two(IntegerOf<Real> exponent) {
    return real_of((exponent + Layout<Real>::exponent_bias) << Layout<Real>::mantissa_bits);
}

// x within [low, high]; NaN stays.
template <class Real> LAS_INLINE Real clamped(Real x, Real low, Real high) {
    x = x < low ? low : x;
    return x > high ? high : x;
}

// ------------------------------------------------------------------------------------------- the multi-threshold neuron

// Settings of the code; see MultiThresholdCode in neurons/code.py.
struct Code {
    int time_steps, levels, nearest;
    int max_spikes;   // 0: no limit
    int spike_bound;  // spikes that an input in range can cause, the special rule of the last step aside
};

// What step t fires by, in units of θ(t)/n.
template <class Real> struct Step {
    Real fire_at, least, most;
};

template <class Real> LAS_INLINE Real fire_at(const Code &code) {
    return code.nearest ? Real(code.levels) - Real(0.25) : Real(code.levels);
}

// step: 0 … T − 1.
template <class Real> LAS_INLINE Step<Real> step_of(const Code &code, int step) {
    const bool last_of_nearest = code.nearest && step == code.time_steps - 1;
    const Real levels = Real(code.levels);
    return {last_of_nearest ? levels / 2 : fire_at<Real>(code), last_of_nearest ? levels : Real(0),
            code.nearest && step == 0 ? 2 * levels : 2 * levels - 1};
}

// The level that a potential w, in units of θ(t)/n, fires at, with its sign; 0 where it stays silent.
template <class Real> LAS_INLINE Real level_of(Real w, const Step<Real> &step, bool nearest) {
    const Real size = magnitude(w);
    Real level = size < step.fire_at ? Real(0) : size;  // NaN stays
    level = level > Real(0) && level < step.least ? step.least : level;
    level = nearest ? nearest_even(level) : round_down(level);
    level = level > step.most ? step.most : level;
    return with_sign_of(level, w);
}

// The same for a potential in range, but for the last step of "nearest": no level exceeds the most.
template <class Real> LAS_INLINE Real level_in_range(Real w, Real fire_at, bool nearest) {
    const Real rounded = nearest ? nearest_even(w) : with_sign_of(round_down(magnitude(w)), w);
    return magnitude(w) < fire_at ? Real(0) : rounded;
}

// The level where spikes are left; of NaN still NaN.
template <class Real> LAS_INLINE Real if_spikes_left(Real level, Real spikes_left) {
    return spikes_left > Real(0) ? level : level - level;
}

// The first spike of a remainder in range, in units of θ(1)/n, 0 if no step 0 … last fires. The step is found from the
// exponents: subtracting the bits of two positive numbers gives the exponent of their ratio, rounded down.
template <class Real> LAS_INLINE Real next_spike(Real remainder, Real fire_at, int last, bool nearest) {
    using Integer = IntegerOf<Real>;
    const Integer ratio = bits_of(magnitude(remainder)) - bits_of(fire_at);
    Integer exponent = ratio >> Layout<Real>::mantissa_bits;
    exponent = exponent > 0 ? 0 : exponent;
    const bool fires = exponent >= -Integer(last);
    exponent = fires ? exponent : 0;
    Real level = remainder * power_of_two<Real>(-exponent);
    const Real rounded = nearest_even(level);
    // trunc: rounding to even first leaves the vector units one instruction for both rules
    const Real cut = magnitude(rounded) > magnitude(level) ? rounded - with_sign_of(Real(1), level) : rounded;
    level = (nearest ? rounded : cut) * power_of_two<Real>(exponent);
    return fires ? level : Real(0);
}

// The spike of the last step by the special rule of "nearest": from θ(T)/2 on, θ(T).
template <class Real> LAS_INLINE Real last_spike(Real remainder, const Code &code) {
    const Real smallest = power_of_two<Real>(1 - code.time_steps) * Real(code.levels);
    return magnitude(remainder) < smallest / 2 ? Real(0) : with_sign_of(smallest, remainder);
}

// The sum over the window of one level, T > 1, for inputs in range.
template <class Real> LAS_INLINE Real binary_sum(Real w, const Code &code) {
    const Real last = power_of_two<Real>(code.time_steps - 1);
    Real total = w * last;
    if (!code.nearest) {
        const Real cut = with_sign_of(round_down(magnitude(total)), total);
        return clamped(cut / last, Real(-2) + 1 / last, Real(2) - 1 / last);
    }
    total = clamped(total, Real(-3) * last + 1, Real(3) * last - 1);
    const Real rounded = nearest_even(total), rest = total - rounded;
    const Real tie = magnitude(rest) < Real(0.5) ? Real(0) : rest;  // ±1/2, or 0
    return (rounded + 2 * tie) / last;
}

// --------------------------------------------------------------------------------------------------------- the HG neuron

enum Tail { HELD = 0, FLAT = 1, SLOPED = 2 };

// Tables and settings of an HG neuron; see HGNode in neurons/hg.py.
template <class Real> struct Gates {
    int is_grid, time_steps;
    const Real *bias, *amplitude;  // [M]
    // Of a grid: inputs are shifted, clamped to the core, and find their sub-neuron through equal cells.
    const Real *start, *inverse_width;  // [M]
    const int *cells;                    // [cell_count]
    int cell_count, below, above;        // the last two: Tail
    double shift, core_low, core_high, inverse_cell, first_cell;
    double below_intercept, below_slope, above_intercept, above_slope, tail_width;
    // Of octaves: `per_octave` sub-neurons in each, the same ones again after `period` octaves, times 2^gain.
    int per_octave_bits, period, gain, even;
    double octave_shift;
    double low, high;  // the range
};

// The sub-neuron that is open for an input: the coded share of its width, its bias and amplitude.
template <class Real> struct Open {
    Real share, bias, amplitude;
};

// Of a grid: the cell that an input lies in.
template <class Real> LAS_INLINE int cell_of(Real v, const Gates<Real> &gates) {
    const Real inside = clamped(v + Real(gates.shift), Real(gates.core_low), Real(gates.core_high));
    const Real place = round_up(inside * Real(gates.inverse_cell)) - Real(gates.first_cell);
    const Real last = Real(gates.cell_count - 1);
    const Real from_first = place > Real(0) ? place : Real(0);  // NaN too
    return int(from_first > last ? last : from_first);
}

// Of a grid: the sub-neuron that owns the input's cell.
template <class Real> LAS_INLINE Open<Real> open_on_grid(Real v, int sub_neuron, const Gates<Real> &gates) {
    const Real inside = clamped(v + Real(gates.shift), Real(gates.core_low), Real(gates.core_high));
    const Real share = (inside - gates.start[sub_neuron]) * gates.inverse_width[sub_neuron];
    return {clamped(share, Real(0), Real(1)), gates.bias[sub_neuron], gates.amplitude[sub_neuron]};
}

// Beyond the core, what goes on as a line.
template <class Real>
LAS_INLINE void follow_tails(Real v, const Gates<Real> &gates, Real &share, Real &bias, Real &amplitude) {
    const Real width = Real(gates.tail_width), half_step = Real(gates.tail_width / double(2 << gates.time_steps));
    const bool below = (gates.below != HELD) & (v < Real(gates.core_low));
    const bool above = (gates.above != HELD) & (v > Real(gates.core_high));
    const Real intercept = below ? Real(gates.below_intercept) : Real(gates.above_intercept);
    const Real slope = below ? Real(gates.below_slope) : Real(gates.above_slope);
    const Real start = (round_up(v / width) - 1) * width;
    const Real within = (v - start) / width;
    const Real part = within >= Real(0) && slope != Real(0) ? within : Real(0);  // of an infinite input it is NaN
    const Real line = slope != Real(0) ? intercept + slope * (start + half_step) : intercept;
    share = below | above ? part : share;
    bias = below | above ? line : bias;
    amplitude = below | above ? slope * width : amplitude;
}

// Of octaves: the sub-neuron, the coded share of its width, and what its bias and amplitude are multiplied by.
template <class Real> struct Octave {
    int sub_neuron;
    Real share, scale;
};

template <class Real> LAS_INLINE Octave<Real> octave_of(Real v, const Gates<Real> &gates) {
    using Integer = IntegerOf<Real>;
    constexpr int mantissa_bits = Layout<Real>::mantissa_bits, exponent_bias = Layout<Real>::exponent_bias;
    Real x = gates.even ? magnitude(v) : v;
    x = clamped(x, power_of_two<Real>(-60), power_of_two<Real>(63));
    const int cut = mantissa_bits - gates.per_octave_bits;
    const int coded = cut - gates.time_steps;
    const Integer ulps = Integer(gates.octave_shift * double(1ll << (coded > 0 ? coded : 0)));
    const Integer below = bits_of(x) + (ulps - 1);
    const Real start = real_of((below >> cut) << cut);
    const Integer exponent = (below >> mantissa_bits) - exponent_bias;
    const Integer turn = exponent >> (gates.period - 1);  // periods are one or two octaves
    const Integer per_octave = Integer(1) << gates.per_octave_bits;
    const Integer sub_neuron = ((below >> cut) & (per_octave - 1)) + (exponent - turn * gates.period) * per_octave;
    const Real unit = real_of((exponent_bias - exponent) << mantissa_bits);
    const Real shift = ulps ? Real(gates.octave_shift / double(1 << gates.time_steps)) : Real(0);
    const Real share = (x - start) * unit * Real(per_octave) + shift;
    return {int(sub_neuron), clamped(share, Real(0), Real(1)),
            real_of((exponent_bias + gates.gain * turn) << mantissa_bits)};
}

template <class Real> LAS_INLINE Open<Real> open_of(Real v, const Gates<Real> &gates) {
    if (!gates.is_grid) {
        const Octave<Real> octave = octave_of(v, gates);
        return {octave.share, gates.bias[octave.sub_neuron] * octave.scale,
                gates.amplitude[octave.sub_neuron] * octave.scale};
    }
    Open<Real> open = open_on_grid(v, gates.cells[cell_of(v, gates)], gates);
    follow_tails(v, gates, open.share, open.bias, open.amplitude);
    return open;
}

// The train of a share as one whole number, its first step the highest of T binary digits; NaN stays.
template <class Real> LAS_INLINE Real digits_of(Real share, int time_steps) {
    const Real size = power_of_two<Real>(time_steps);
    const Real digits = round_down(share * size);
    return digits > size - 1 ? size - 1 : digits;
}

template <class Real> LAS_INLINE Real sum_of(const Open<Real> &open, Real digits, int time_steps) {
    return open.bias + digits * power_of_two<Real>(-time_steps) * open.amplitude;
}

// ------------------------------------------------------------------------------------------------- what lies out of range

// Inputs so little above the range are coded as its end.
template <class Real> LAS_INLINE Real limit_of(Real theta) { return theta * Real(1 + 1.0 / 1024); }

struct Range {
    double low, high;
};

// Beyond it inputs count; infinite in a direction where the function is flat.
template <class Real> LAS_INLINE Range range_of(const Gates<Real> &gates) {
    const double infinity = 1e300 * 1e300, allowance = 1e-3;
    if (!gates.is_grid) return {gates.even ? -gates.high : gates.low, gates.high};
    return {gates.below == FLAT ? -infinity : gates.low - allowance,
            gates.above == FLAT ? infinity : gates.high + allowance};
}

}  // namespace las
