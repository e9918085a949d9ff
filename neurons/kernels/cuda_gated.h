// A gated product with all of its populations: activation(gate) and up, both coded, and their product.
#pragma once

#include "cuda_gates.h"
#include "cuda_rows.h"
#include "cuda_thresholds.h"

namespace las::gpu {

constexpr int GATED_POPULATIONS = 3;

// At each step, by how much the product of both sums so far grows. next(t, gates, ups) gives the spikes of both.
template <int PACK, class Real, class Next, class Put>
LAS_INLINE void emit_growth(int time_steps, Next next, Put put) {
    Real gates_so_far[PACK] = {}, ups_so_far[PACK] = {};
    for (int t = 0; t < time_steps; t++) {
        Real gates[PACK], ups[PACK], grown[PACK];
        next(t, gates, ups);
        LAS_EACH(i) {
            gates_so_far[i] += gates[i];
            grown[i] = gates_so_far[i] * ups[i] + gates[i] * ups_so_far[i];
            ups_so_far[i] += ups[i];
        }
        put(grown);
    }
}

template <int PACK, class Real, class Put>
LAS_INLINE void emit_product_by_steps(const Code &gate_code, const Code &up_code, const Train<PACK, Real> &gate,
                                      const Train<PACK, Real> &up, Put put) {
    Remainder<Real> gate_rest[PACK], up_rest[PACK];
    LAS_EACH(i) {
        gate_rest[i] = remainder_of(gate.w[i], gate_code);
        up_rest[i] = remainder_of(up.w[i], up_code);
    }
    const auto next = [&](int t, Real *gates, Real *ups) {
        const auto gate_step = las::step_of<Real>(gate_code, t), up_step = las::step_of<Real>(up_code, t);
        const Real size = las::power_of_two<Real>(-t);
        LAS_EACH(i) {
            gates[i] = fire_level(gate_rest[i], gate_step, gate_code) * size * gate.unit[i];
            ups[i] = fire_level(up_rest[i], up_step, up_code) * size * up.unit[i];
        }
    };
    emit_growth<PACK, Real>(gate_code.time_steps, next, put);
}

template <int PACK>
LAS_INLINE void quick_spikes(const Coder<float> &coder, Train<PACK, float> &train, const QuickStep<true> &step,
                             bool is_last, float *spikes) {
    LAS_EACH(i) {
        const float spike = is_last ? last_spike_of(train.w[i], coder, step.large)
                                    : spike_of<true>(train.w[i], step.fire_at, step.large);
        train.w[i] -= spike;
        spikes[i] = spike * train.unit[i];
    }
}

template <int PACK, class Put>
LAS_INLINE void emit_product(const Coder<float> &gate_coder, const Coder<float> &up_coder, Train<PACK, float> &gate,
                             Train<PACK, float> &up, Put put) {
    if (!gate.is_known || !up.is_known)
        return emit_product_by_steps<PACK>(gate_coder.code, up_coder.code, gate, up, put);
    QuickStep<true> gate_step = {gate_coder.fire_at}, up_step = {up_coder.fire_at};
    const int last = gate_coder.code.time_steps - 1;
    const auto next = [&](int t, float *gates, float *ups) {
        quick_spikes<PACK>(gate_coder, gate, gate_step, t == last, gates);
        quick_spikes<PACK>(up_coder, up, up_step, t == last, ups);
        gate_step.advance(), up_step.advance();
    };
    emit_growth<PACK, float>(gate_coder.code.time_steps, next, put);
}
template <int PACK, class Put>
LAS_INLINE void emit_product(const Coder<double> &gate_coder, const Coder<double> &up_coder, Train<PACK, double> &gate,
                             Train<PACK, double> &up, Put put) {
    emit_product_by_steps<PACK>(gate_coder.code, up_coder.code, gate, up, put);
}

template <bool QUICK, int PACK, class Element> struct GatedPack {
    using Real = RealFor<Element>;
    const GatedLayer<Element> &layer;
    const Scale<Real> &gate_scale, &up_scale;
    Tables tables;
    unsigned *beyond;

    // Reads gates and ups, and activates the gates.
    LAS_METHOD void read(Index at, int count, Real *gates, Real *ups) const {
        sum_some<PACK>(layer.gates + at, layer.gate_steps, layer.gate_stride, count, layer.is_whole, gates);
        sum_some<PACK>(layer.ups + at, layer.up_steps, layer.up_stride, count, layer.is_whole, ups);
        LAS_EACH(i) {
            beyond[0] += i < count && is_beyond(gates[i], layer.activation);
            gates[i] = sum_of<QUICK>(open_of(gates[i], layer.activation, tables), layer.activation);
        }
    }

    LAS_METHOD void emit_sums(Index at, int count, Real *gates, Real *ups) const {
        LAS_EACH(i) {
            gates[i] = coded<QUICK>(gates[i], layer.gate, gate_scale, beyond[1]);
            ups[i] = coded<QUICK>(ups[i], layer.up, up_scale, beyond[2]);
            gates[i] *= ups[i];
        }
        write_some<PACK>(layer.emitted + at, count, layer.is_whole, gates);
    }

    LAS_METHOD void emit_trains(Index at, int count, const Real *gates, const Real *ups) const {
        auto gate = train_of<QUICK, true, PACK>(gates, layer.gate, gate_scale);
        auto up = train_of<QUICK, true, PACK>(ups, layer.up, up_scale);
        beyond[1] += count_beyond<PACK>(gates, gate_scale);
        beyond[2] += count_beyond<PACK>(ups, up_scale);
        Element *to = layer.emitted + at;
        emit_product<PACK>(layer.gate, layer.up, gate, up, [&](const Real *grown) {
            write_some<PACK>(to, count, layer.is_whole, grown);
            to += layer.size;
        });
    }
};

template <class Element, bool QUICK, bool TRAIN> LAS_INLINE void gated(const GatedLayer<Element> &layer) {
    using Real = RealFor<Element>;
    constexpr int PACK = sizeof(Real) > sizeof(float) ? 1 : TRAIN ? SMALL_PACK_OF<Element> : PACK_OF<Element>;
    __shared__ Scale<Real> scales[2];
    if (threadIdx.x == 0) {
        scales[0] = scale_of(layer.gate);
        scales[1] = scale_of(layer.up);
    }
    const Tables tables = fetch_some(layer.activation, shared_memory(), layer.table_bytes);
    __syncthreads();
    unsigned beyond[GATED_POPULATIONS] = {0, 0, 0};
    const GatedPack<QUICK, PACK, Element> pack = {layer, scales[0], scales[1], tables, beyond};
    const Index stride = Index(gridDim.x) * blockDim.x * PACK;
    for (Index at = (Index(blockIdx.x) * blockDim.x + threadIdx.x) * PACK; at < layer.size; at += stride) {
        const int count = layer.size - at < PACK ? int(layer.size - at) : PACK;
        Real gates[PACK], ups[PACK];
        pack.read(at, count, gates, ups);
        if (TRAIN) pack.emit_trains(at, count, gates, ups);
        else pack.emit_sums(at, count, gates, ups);
    }
    for (int population = 0; population < GATED_POPULATIONS; population++)
        add_rare(layer.counts[population].beyond, beyond[population]);
}

}  // namespace las::gpu
