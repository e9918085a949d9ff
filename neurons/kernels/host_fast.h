// Sums of windows in fewer instructions than the general way of host_neurons.h, for populations of the common kinds and
// inputs in range; the results are the same bit for bit. Everything about one element stays in registers.
#pragma once

#include "host_blocks.h"

namespace las::host {
namespace {

// --------------------------------------------------------------------------------------------------------- thresholds

// What does not depend on the element, of a population in fp32 with one threshold for all, or two.
struct SpikeSum {
    float normal, unit, outlier_unit;  // the threshold of the normal sub-neuron, and θ(1)/n of both
    float limit;                       // beyond it inputs are out of range
    float last, last_at;               // the spike of the last step, and from where on it fires; in units of θ(1)/n
    float least_large;                 // see `after_spike`
    int to_large;
};

SpikeSum spike_sum_of(const Thresholds<float> &neurons) {
    const Code &code = neurons.code;
    const float unit = las::unit_of_one<float>(code), outlier = neurons.outlier[0];
    const float last = las::power_of_two<float>(1 - code.time_steps) * float(code.levels);
    return {neurons.normal[0],
            neurons.normal[0] * unit,
            outlier * unit,
            las::limit_of(outlier),
            last,
            last / 2,
            las::power_of_two<float>(Layout<float>::mantissa_bits + 1 - code.time_steps),
            las::bits_of(las::power_of_two<float>(Layout<float>::mantissa_bits)) -
                las::bits_of(las::fire_at<float>(code))};
}

// What is left of a remainder, in units of θ(1)/n, after its next spike by "nearest"; as it is where none fires. Adding
// ±2^(23 + e), with its sign, rounds it to a multiple of 2^e. e is the exponent of remainder/fire_at, rounded down, which
// subtracting the bits of fire_at leaves in place. In range it is 0 at most, but from 2·fire_at on, where a multiple of 2
// is what rounding to a whole number gives too: 2n.
LAS_INLINE float after_spike(float rest, const SpikeSum &sum) {
    const unsigned bits = unsigned(las::bits_of(rest)) + unsigned(sum.to_large);
    const float large = las::real_of(int(bits & 0xff800000u));
    const float spike = rest + large - large;
    return las::magnitude(large) >= sum.least_large ? rest - spike : rest;
}

// Returns how many inputs are out of range, whose sums are not right.
template <int SPIKES>
int add_spikes(const SpikeSum &sum, Index count, const float *__restrict v, float *__restrict total, int &outliers) {
    int unknown = 0, above = 0;
    for (Index i = 0; i < count; i++) {
        const float size = las::magnitude(v[i]);
        const bool is_outlier = size > sum.normal;
        const float unit = is_outlier ? sum.outlier_unit : sum.unit;
        const float w = v[i] / unit;
        float rest = w;
#pragma GCC unroll 8
        for (int spike = 0; spike < SPIKES; spike++) rest = after_spike(rest, sum);
        rest -= las::magnitude(rest) < sum.last_at ? 0.0f : las::with_sign_of(sum.last, rest);
        total[i] = (w - rest) * unit;
        above += is_outlier;
        unknown += !(size <= sum.limit);
    }
    outliers = above;
    return unknown;
}

// Sums of windows of `v`, to `total`, which is not `v`. Returns whether they are known; else nothing is counted.
bool sum_fast(const Thresholds<float> &neurons, Index count, const float *v, float *total, Counts &counts) {
    const Code &code = neurons.code;
    constexpr int MOST_LEVELS = 255;  // from 2n + 1/2 on, which is out of range then, a multiple of 2 is something else
    if (neurons.channels != 0 || !code.nearest || code.levels == 1 || code.levels > MOST_LEVELS || code.max_spikes)
        return false;
    const SpikeSum sum = spike_sum_of(neurons);
    int outliers = 0, unknown = 1;
    switch (code.spike_bound) {
    case 1: unknown = add_spikes<1>(sum, count, v, total, outliers); break;
    case 2: unknown = add_spikes<2>(sum, count, v, total, outliers); break;
    case 3: unknown = add_spikes<3>(sum, count, v, total, outliers); break;
    case 4: unknown = add_spikes<4>(sum, count, v, total, outliers); break;
    case 5: unknown = add_spikes<5>(sum, count, v, total, outliers); break;
    case 6: unknown = add_spikes<6>(sum, count, v, total, outliers); break;
    default: break;
    }
    if (unknown) return false;
    counts.outliers += neurons.normal != neurons.outlier ? outliers : 0;
    return true;
}

bool sum_fast(const Thresholds<double> &, Index, const double *, double *, Counts &) { return false; }

// --------------------------------------------------------------------------------------------------------------- gates

// A grid whose sub-neurons have as many cells each, the last one aside: which of them is open, and where it starts,
// follows without tables. Made from the tables, of which it is true that they say the same.
template <class Real> struct EvenGrid {
    bool is_even = false;
    int reciprocal = 0;  // of the cells of a sub-neuron, times 2^16
    Real first = 0, width = 0, inverse_width = 0, last_inverse_width = 0;
};

template <class Real> EvenGrid<Real> even_grid_of(const Gates<Real> &gates) {
    if (!gates.is_grid || gates.sub_neurons < 3 || gates.cell_count >= 1 << 15 || gates.above != HELD ||
        gates.below != FLAT)
        return {};
    int each = 1;
    while (each < gates.cell_count && gates.cells[each] == 0) each++;
    EvenGrid<Real> grid;
    grid.reciprocal = ((1 << 16) + each - 1) / each;
    grid.first = gates.start[0];
    grid.width = gates.start[1] - gates.start[0];
    grid.inverse_width = gates.inverse_width[0];
    grid.last_inverse_width = gates.inverse_width[gates.sub_neurons - 1];
    int others = 0;
    for (int cell = 0; cell < gates.cell_count; cell++) others += gates.cells[cell] != (cell * grid.reciprocal) >> 16;
    others += gates.cells[gates.cell_count - 1] != gates.sub_neurons - 1;
    for (int index = 0; index < gates.sub_neurons; index++) {
        others += gates.start[index] != grid.first + Real(index) * grid.width;
        others += gates.inverse_width[index] != grid.inverse_width && index < gates.sub_neurons - 1;
    }
    grid.is_even = others == 0;
    return grid;
}

// Sums of windows of a block of potentials, in place. `bias` and `amplitude` are the grid's tables, which the compiler
// must know to be apart from the rest.
template <class Real>
void sum_on_even_grid(const Gates<Real> &gates, const EvenGrid<Real> &grid, Index count, const Real *__restrict bias,
                      const Real *__restrict amplitude, Real *__restrict row, Counts &counts) {
    const Real shift = Real(gates.shift), low = Real(gates.core_low), high = Real(gates.core_high);
    const Real inverse_cell = Real(gates.inverse_cell), first_cell = Real(gates.first_cell);
    const Real last_cell = Real(gates.cell_count - 1), beyond_at = Real(las::range_of(gates).high);
    const Real intercept = Real(gates.below_intercept);
    const int last = gates.sub_neurons - 1, time_steps = gates.time_steps, reciprocal = grid.reciprocal;
    const Real first = grid.first, width = grid.width;
    const Real inverse_width = grid.inverse_width, last_inverse_width = grid.last_inverse_width;
    int sub_neuron[BLOCK];
    Real share[BLOCK];
    int beyond = 0;
    for (Index i = 0; i < count; i++) {
        const Real inside = las::clamped(row[i] + shift, low, high);
        const Real place = las::round_up(inside * inverse_cell) - first_cell;
        const Real from_first = place > Real(0) ? place : Real(0);
        const int index = (int(from_first > last_cell ? last_cell : from_first) * reciprocal) >> 16;
        const Real scale = index == last ? last_inverse_width : inverse_width;
        sub_neuron[i] = index;
        share[i] = las::clamped((inside - (first + Real(index) * width)) * scale, Real(0), Real(1));
        beyond += row[i] > beyond_at;
    }
    for (Index i = 0; i < count; i++) {
        const Real digits = las::digits_of(share[i], time_steps);
        const Real sum = las::sum_of({share[i], bias[sub_neuron[i]], amplitude[sub_neuron[i]]}, digits, time_steps);
        row[i] = row[i] < low ? intercept : sum;
    }
    counts.beyond += beyond;
}

}  // namespace
}  // namespace las::host
