// Whole populations in fp32 and half precision, with one threshold for all or tables in shared memory: a thread has its
// next loads under way while it computes, and what nobody counts is not counted.
#pragma once

#include "cuda_counts.h"
#include "cuda_gates.h"
#include "cuda_plain.h"
#include "cuda_thresholds.h"

namespace las::gpu {

// Of counts that are not wanted but for inputs out of range, these alone are added.
template <bool COUNTED> LAS_INLINE void add_found(Counts &counts, const Found &found) {
    if (COUNTED) add_up(counts, found);
    else add_rare(counts.beyond, found.beyond);
}

template <class Element, bool SMALL> constexpr int SUM_PACK = SMALL ? SMALL_PACK_OF<Element> : PACK_OF<Element>;
template <class Element, bool SMALL> constexpr int TRAIN_PACK = SMALL ? PACK_OF<Element> / 2 : PACK_OF<Element>;

// Calls code(v, found) with potentials that it turns into sums, in place. The next pack is read before this one is coded.
template <int PACK, class Element, class Window, class Run>
LAS_INLINE void for_packs(const Window &window, Run code, Found &found) {
    const Index stride = Index(gridDim.x) * blockDim.x * PACK;
    Index at = (Index(blockIdx.x) * blockDim.x + threadIdx.x) * PACK;
    Pack<Element, PACK> next;
    if (at < window.size && window.steps == 1) next = read_pack<PACK>(window.currents + at);
    for (; at < window.size; at += stride) {
        float v[PACK];
        if (window.steps == 1) unpack<PACK>(next, v);
        else sum_steps<PACK>(window.currents + at, window.steps, window.stride, v);
        if (at + stride < window.size && window.steps == 1) next = read_pack<PACK>(window.currents + at + stride);
        code(v, found);
        write_pack<PACK>(window.emitted + at, v);
    }
}

// ---------------------------------------------------------------------------------------------------------- thresholds

template <int PACK, bool NEAREST, int SPIKES, bool COUNTED>
LAS_INLINE void code_pack(const Coder<float> &coder, const Scale<float> &scale, float *v, Found &found) {
    float totals[PACK], units[PACK];
    bool all_known = true;
    LAS_EACH(i) {
        const Scaled<float> scaled = scaled_by<NEAREST>(v[i], scale);
        const Fired<float> fired = sum_in_range<NEAREST, SPIKES>(scaled.w, coder);
        totals[i] = fired.total;
        units[i] = scaled.unit;
        all_known &= scaled.is_known;
        if (COUNTED) found.spikes += scaled.is_known ? fired.spikes : 0;
        if (COUNTED) found.outliers += scaled.is_outlier && coder.normal != coder.outlier;
    }
    if (!all_known)
        LAS_EACH(i) {
            const Scaled<float> scaled = scaled_by<NEAREST>(v[i], scale);
            if (scaled.is_known) continue;
            const Fired<float> fired = sum_by_steps(__fdiv_rn(v[i], units[i]), coder.code);
            totals[i] = fired.total;
            found.spikes += fired.spikes;
            found.beyond += scaled.is_beyond;
        }
    LAS_EACH(i) v[i] = totals[i] * units[i];
}

template <class Element, bool NEAREST, int SPIKES, bool COUNTED>
LAS_INLINE void threshold_sums(const Window<Coder<float>, Element> &window) {
    const Coder<float> &coder = window.neurons;
    const Scale<float> scale = scale_of(coder);
    constexpr int PACK = SUM_PACK<Element, COUNTED || SPIKES == IN_CLOSED_FORM>;
    Found all = {0, 0, 0};
    for_packs<PACK, Element>(
        window, [&](float *v, Found &found) { code_pack<PACK, NEAREST, SPIKES, COUNTED>(coder, scale, v, found); }, all);
    add_found<COUNTED>(*window.counts, all);
}

template <class Element, bool NEAREST, bool COUNTED>
LAS_INLINE void threshold_trains(const Window<Coder<float>, Element> &window) {
    constexpr int PACK = TRAIN_PACK<Element, COUNTED>;
    const Coder<float> &coder = window.neurons;
    const Scale<float> scale = scale_of(coder);
    Found found = {0, 0, 0};
    const Index stride = Index(gridDim.x) * blockDim.x * PACK;
    for (Index at = (Index(blockIdx.x) * blockDim.x + threadIdx.x) * PACK; at < window.size; at += stride) {
        float v[PACK];
        sum_steps<PACK>(window.currents + at, window.steps, window.stride, v);
        Train<PACK, float> train = train_of<true, NEAREST, PACK>(v, coder, scale);
        if (!train.is_known) found.beyond += count_beyond<PACK>(v, scale);
        if (COUNTED && coder.normal != coder.outlier)
            LAS_EACH(i) found.outliers += train.is_outlier[i];
        Element *to = window.emitted + at;
        fire<NEAREST>(coder, train, [&](int, const float *spikes) {
            if (COUNTED)
                LAS_EACH(i) found.spikes += spikes[i] != 0;
            write_pack<PACK>(to, spikes);
            to += window.size;
        });
    }
    add_found<COUNTED>(*window.counts, found);
}

// --------------------------------------------------------------------------------------------------------------- gates

// The open sub-neurons of a pack; counts inputs out of range.
template <int PACK, bool GRID>
LAS_INLINE void open_pack(const Curve &curve, const Tables &tables, const float *v, Open<float> *open, unsigned &beyond) {
    bool any_outside = false;
    LAS_EACH(i) {
        open[i] = GRID ? open_in_core(v[i], curve, tables) : open_in_octaves(v[i], curve, tables);
        if (GRID) any_outside |= is_outside(v[i], curve);
        beyond += is_beyond(v[i], curve);
    }
    if (any_outside)
        LAS_EACH(i) if (is_outside(v[i], curve)) open_outside(v[i], curve, open[i]);
}

template <class Element, bool GRID, bool COUNTED> LAS_INLINE void gate_sums(const Window<Curve, Element> &window) {
    constexpr int PACK = SUM_PACK<Element, COUNTED>;
    const Curve &curve = window.neurons;
    const Tables tables = fetch(curve, shared_memory());
    __syncthreads();
    Found all = {0, 0, 0};
    for_packs<PACK, Element>(
        window,
        [&](float *v, Found &found) {
            Open<float> open[PACK];
            open_pack<PACK, GRID>(curve, tables, v, open, found.beyond);
            LAS_EACH(i) {
                if (COUNTED) found.spikes += las::ones_in(train_of<true>(open[i].share, curve));
                v[i] = sum_of<true>(open[i], curve);
            }
        },
        all);
    add_found<COUNTED>(*window.counts, all);
}

template <int PACK, class Element>
LAS_INLINE void emit_digits(int time_steps, Open<float> *open, unsigned *digits, Element *to, Index size) {
    float spikes[PACK], share = 0.5f;
    LAS_UNROLL_SOME for (int t = 0; t < time_steps; t++, to += size, share *= 0.5f) {
        LAS_EACH(i) {
            spikes[i] = (int(digits[i]) < 0 ? open[i].amplitude * share : 0.0f) + open[i].bias;
            open[i].bias = 0;
            digits[i] <<= 1;
        }
        write_pack<PACK>(to, spikes);
    }
}

template <class Element, bool GRID, bool COUNTED> LAS_INLINE void gate_trains(const Window<Curve, Element> &window) {
    constexpr int PACK = TRAIN_PACK<Element, COUNTED>, BITS = 32;
    const Curve &curve = window.neurons;
    const Tables tables = fetch(curve, shared_memory());
    __syncthreads();
    Found found = {0, 0, 0};
    const Index stride = Index(gridDim.x) * blockDim.x * PACK;
    for (Index at = (Index(blockIdx.x) * blockDim.x + threadIdx.x) * PACK; at < window.size; at += stride) {
        float v[PACK];
        Open<float> open[PACK];
        unsigned digits[PACK];  // the sign is the next step's
        sum_steps<PACK>(window.currents + at, window.steps, window.stride, v);
        open_pack<PACK, GRID>(curve, tables, v, open, found.beyond);
        LAS_EACH(i) {
            digits[i] = unsigned(train_of<true>(open[i].share, curve)) << (BITS - curve.time_steps);
            if (COUNTED) found.spikes += las::ones_in(digits[i]);
        }
        emit_digits<PACK>(curve.time_steps, open, digits, window.emitted + at, window.size);
    }
    add_found<COUNTED>(*window.counts, found);
}

}  // namespace las::gpu
