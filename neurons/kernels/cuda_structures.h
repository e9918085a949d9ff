// What Python tells the kernels on a GPU: one structure for each, passed by value; structures.py mirrors them, field by
// field, and cuda_neurons.py works out what does not depend on an input.
#pragma once

#include "cuda_elements.h"

namespace las::gpu {

// What a population's code comes to, in units of θ(1)/n; structures.py makes it.
template <class Real> struct Coder {
    const Real *normal, *outlier;  // thresholds; the same one twice where there is one
    Real unit_of_one;              // θ(1)/n for a threshold of 1
    Real fire_at;                  // what step 1 fires from
    Real last_at, last;            // of "nearest": what step T fires from, and its spike
    Real least_large;              // what `large` of `after_spike` is at step T
    int to_large;                  // from the bits of what fires to those of `large`
    Code code;
};

// As Gates of neuron.h, with all that does not depend on the input; structures.py makes it. Cells have the width of a
// power of two and begin at multiples of it, and so do the sub-neurons of tails (neurons/fitting.py).
struct Curve {
    const void *lines;  // Line or Pair [sub_neurons]
    const unsigned short *cells;  // [cell_count]
    int is_grid, time_steps, cell_count, sub_neurons;
    float shift, core_low, core_high, inverse_cell;
    int first_cell, below, above;
    float below_intercept, below_slope, above_intercept, above_slope;
    float tail_width, inverse_tail_width, half_step;
    int per_octave_bits, period, gain, even, ulps;
    float octave_shift, octave_step;
    float low, high;      // beyond them inputs count
    float floor_by, most; // of `fraction_of`: 2^(23 − T), 1 − 2^-T
};

// A population of HG neurons in the type that is computed in.
template <class Real> struct CurveFor;
template <> struct CurveFor<float> {
    using Type = Curve;
};
template <> struct CurveFor<double> {
    using Type = Gates<double>;
};
template <class Real> using CurveOf = typename CurveFor<Real>::Type;

// What a launch reads and writes. Currents are [steps, size], `stride` apart; of `total` [size], `train` [T, size] and
// `levels` [T, size] the ones that are wanted are given, and likewise `membrane` and `kept` [size].
template <class Neurons, class Element> struct PlainWindow {
    Neurons neurons;
    const Element *currents;
    Index steps, stride, size;
    RealFor<Element> *membrane;
    Element *total, *train;
    signed char *levels, *kept;
    Counts *counts;
};

// Currents [steps, size], `stride` apart; sums [size] or trains [T, size]. Size, stride and addresses are multiples of a
// pack.
template <class Neurons, class Element> struct Window {
    Neurons neurons;
    const Element *currents;
    Index steps, stride, size;
    Element *emitted;
    Counts *counts;
};

// Currents [size] to sums [size], in packs; `table` holds those of all patterns, of which odd functions need half.
template <class Neurons, class Element> struct LookUp {
    Neurons neurons;
    const Element *currents;
    Index size;
    Element *emitted;
    Counts *counts;
    const Element *table;
    const float *made_for;  // the thresholds that the table was made for, [2]
};

// Currents [steps, rows, channels], `stride` between steps; sums [rows, channels] or trains [T, rows, channels]. `counts`
// has an entry for each population, in the order in which they fire.
template <class Element> struct NormLayer {
    Coder<RealFor<Element>> centred, scale, output;
    CurveOf<RealFor<Element>> square, rsqrt;
    const Element *currents;
    Index steps, stride, rows;
    Element *emitted;
    Counts *counts;
    const Element *gains, *bias;  // [channels], or none
    int channels, centres;
    int is_whole;     // whether packs fit rows and addresses
    int table_bytes;  // of the squares' tables in shared memory
    RealFor<Element> epsilon, root_of_epsilon, twice_root_of_channels;
};

// Currents [steps, rows, keys], `stride` between steps; sums [rows, keys] or trains [T, rows, keys]; counts as in a norm.
enum : Index { AS_GIVEN, AS_HALF, AS_BFLOAT };

template <class Element> struct SoftmaxLayer {
    Coder<RealFor<Element>> weight, scale, probability;
    CurveOf<RealFor<Element>> exponential, reciprocal;
    const Element *currents;
    Index steps, stride, rows;
    Element *emitted;
    Counts *counts;
    Mask mask;
    Index keys;
    Index table_bytes;  // of the exponential's tables in shared memory; rows come after them
    Index emitted_as;   // sums of fp32: AS_GIVEN or a type of half precision
};

// Currents [steps, size] of gates and ups; sums [size] or trains [T, size]; counts as in a norm.
template <class Element> struct GatedLayer {
    Coder<RealFor<Element>> gate, up;
    CurveOf<RealFor<Element>> activation;
    const Element *gates, *ups;
    Index gate_steps, gate_stride, up_steps, up_stride, size;
    Element *emitted;
    Counts *counts;
    Index is_whole;     // whether packs fit size, strides and addresses
    Index table_bytes;  // of the activation's tables in shared memory
};

}  // namespace las::gpu
