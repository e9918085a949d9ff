// Populations as neuron.h has them, one thread PACK neurons that lie side by side: for all that the faster kernels do not
// know. That is thresholds per channel, fp64, limits of spikes, sizes that no pack divides, tables that shared memory does
// not hold, and windows whose membranes, levels or numbers of spikes of each neuron are wanted.
#pragma once

#include "cuda_counts.h"
#include "cuda_gates.h"
#include "cuda_thresholds.h"

namespace las::gpu {

template <int PACK, class Window, class Real> LAS_INLINE void integrate(const Window &window, Index at, Real *v) {
    sum_steps<PACK>(window.currents + at, window.steps, window.stride, v);
    if (window.membrane)
        LAS_EACH(i) window.membrane[at + i] = v[i];
}

template <int PACK, class Window, class Real>
LAS_INLINE void emit(const Window &window, int step, Index at, const Real *values, const Real *levels) {
    if (window.train) write_pack<PACK>(window.train + step * window.size + at, values);
    if (window.levels) {
        Pack<signed char, PACK> pack;
        LAS_EACH(i) pack.values[i] = levels[i] == levels[i] ? (signed char)(int)levels[i] : 0;
        *reinterpret_cast<Pack<signed char, PACK> *>(window.levels + step * window.size + at) = pack;
    }
}

template <int PACK, class Window>
LAS_INLINE void keep(const Window &window, Index at, const int *spikes, const bool *is_outlier) {
    if (!window.kept) return;
    Pack<signed char, PACK> pack;
    LAS_EACH(i) pack.values[i] = (signed char)(spikes[i] + (is_outlier[i] ? OUTLIER_FLAG : 0));
    *reinterpret_cast<Pack<signed char, PACK> *>(window.kept + at) = pack;
}

// ---------------------------------------------------------------------------------------------------------- thresholds

template <int PACK, class Real> struct ThresholdPack {
    Scaled<Real> scaled[PACK];
    int spikes[PACK];
    bool is_outlier[PACK];
};

// Potentials v in units of the sub-neuron that each goes to; `at`: the first one's index.
template <int PACK, class Real>
LAS_INLINE void scale(const Thresholds<Real> &neurons, Index at, const Real *v, ThresholdPack<PACK, Real> &pack,
                      Found &found) {
    LAS_EACH(i) {
        const Index channel = neurons.channels ? (at + i) % neurons.channels : 0;
        const Real normal = neurons.normal[channel * neurons.normal_per_channel];
        const Real outlier = neurons.outlier[channel * neurons.outlier_per_channel];
        pack.scaled[i] = scaled_by(v[i], normal, outlier, neurons.code);
        pack.is_outlier[i] = pack.scaled[i].is_outlier && neurons.normal != neurons.outlier;
        pack.spikes[i] = 0;
        found.outliers += pack.is_outlier[i];
        found.beyond += pack.scaled[i].is_beyond;
    }
}

template <int PACK, class Window, class Real>
LAS_INLINE void emit_train(const Code &code, const Window &window, Index at, ThresholdPack<PACK, Real> &pack) {
    Remainder<Real> rest[PACK];
    Real levels[PACK], emitted[PACK];
    LAS_EACH(i) rest[i] = remainder_of(pack.scaled[i].w, code);
    for (int t = 0; t < code.time_steps; t++) {
        const auto step = las::step_of<Real>(code, t);
        LAS_EACH(i) {
            levels[i] = fire_level(rest[i], step, code);
            pack.spikes[i] += levels[i] != 0;
            emitted[i] = levels[i] * las::power_of_two<Real>(-t) * pack.scaled[i].unit;
        }
        emit<PACK>(window, t, at, emitted, levels);
    }
}

template <int PACK, class Real, class Window>
LAS_INLINE void run(const Thresholds<Real> &neurons, const Window &window, Index at, Found &found) {
    Real v[PACK];
    ThresholdPack<PACK, Real> pack;
    integrate<PACK>(window, at, v);
    scale<PACK>(neurons, at, v, pack, found);
    if (window.total) {
        LAS_EACH(i) {
            const Fired<Real> fired = sum_of(pack.scaled[i], neurons.code);
            v[i] = fired.total * pack.scaled[i].unit;
            pack.spikes[i] = fired.spikes;
        }
        write_pack<PACK>(window.total + at, v);
    } else {
        emit_train<PACK>(neurons.code, window, at, pack);
    }
    LAS_EACH(i) found.spikes += pack.spikes[i];
    keep<PACK>(window, at, pack.spikes, pack.is_outlier);
}

// --------------------------------------------------------------------------------------------------------------- gates

template <int PACK, class Real> struct GatePack {
    Real bias[PACK], amplitude[PACK], sum[PACK];
    int digits[PACK], spikes[PACK];
};

// The open sub-neurons of potentials v, what they code and its sum.
template <int PACK, class Gates, class Real>
LAS_INLINE void open(const Gates &gates, const Real *v, GatePack<PACK, Real> &pack, Found &found) {
    const Tables tables = tables_of(gates);
    LAS_EACH(i) {
        const Open<Real> open = open_of(v[i], gates, tables);
        found.beyond += is_beyond(v[i], gates);
        pack.digits[i] = train_of<false>(open.share, gates);
        pack.spikes[i] = las::ones_in(pack.digits[i]);
        found.spikes += pack.spikes[i];
        pack.bias[i] = open.bias;
        pack.amplitude[i] = open.amplitude;
        pack.sum[i] = sum_of<false>(open, gates);
    }
}

// What a step of a train carries: its digit times the amplitude, and the first one the bias.
template <class Real> LAS_INLINE Real emitted_at(int step, bool fires, Real amplitude, Real bias) {
    return (fires ? amplitude * las::power_of_two<Real>(-step - 1) : Real(0)) + (step ? Real(0) : bias);
}

template <int PACK, class Window, class Gates, class Real>
LAS_INLINE void run_gates(const Gates &gates, const Window &window, Index at, Real *v, Found &found) {
    GatePack<PACK, Real> pack;
    integrate<PACK>(window, at, v);
    open<PACK>(gates, v, pack, found);
    const bool is_outlier[PACK] = {};
    keep<PACK>(window, at, pack.spikes, is_outlier);
    if (window.total) return write_pack<PACK>(window.total + at, pack.sum);
    Real levels[PACK], emitted[PACK];
    for (int t = 0; t < gates.time_steps; t++) {
        LAS_EACH(i) {
            levels[i] = Real((pack.digits[i] >> (gates.time_steps - 1 - t)) & 1);
            emitted[i] = emitted_at(t, levels[i] != 0, pack.amplitude[i], pack.bias[i]);
        }
        emit<PACK>(window, t, at, emitted, levels);
    }
}
template <int PACK, class Window>
LAS_INLINE void run(const Curve &curve, const Window &window, Index at, Found &found) {
    float v[PACK];
    run_gates<PACK>(curve, window, at, v, found);
}
template <int PACK, class Window>
LAS_INLINE void run(const Gates<double> &gates, const Window &window, Index at, Found &found) {
    double v[PACK];
    run_gates<PACK>(gates, window, at, v, found);
}

// PACK > 1 needs a size, a stride and addresses that are multiples of it.
template <int PACK, class Window> LAS_INLINE void run_plain(const Window &window) {
    Found found = {0, 0, 0};
    const Index stride = Index(gridDim.x) * blockDim.x * PACK;
    for (Index at = (Index(blockIdx.x) * blockDim.x + threadIdx.x) * PACK; at < window.size; at += stride)
        run<PACK>(window.neurons, window, at, found);
    if (window.counts) add_up(*window.counts, found);
}

}  // namespace las::gpu
