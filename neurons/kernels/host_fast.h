// Sums of windows in fewer instructions than the general way of host_neurons.h, for populations of the common kinds and
// inputs in range; the results are the same bit for bit. Everything about one element stays in registers.
#pragma once

#include "host_blocks.h"

namespace las::host {
namespace {

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
