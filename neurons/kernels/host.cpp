// The neurons on a processor: whole populations, with the arithmetic of neuron.h, block by block in its cache. Plain C
// functions over raw pointers, for host.py. Loops over a block are written for the compiler to vectorise.
#include <algorithm>
#include <cstdint>
#include <vector>
#ifdef __SSE2__
#include <immintrin.h>
#endif

#include "neuron.h"

namespace {

using las::Code;
using las::Gates;

constexpr long BLOCK = 1024;            // elements that all temporaries of a block are kept in the first cache for
constexpr long PARALLEL_FROM = 16384;  // elements: below, starting threads costs more than they save

// The structures of structures.py, with tables of the input's type.

// Thresholds of a population, one or one per channel each; an MT neuron has the same one twice.
template <class Real> struct Thresholds {
    const Real *normal, *outlier;
    long channels;  // of the input's last dimension, where a threshold has one value per channel; else 0
    int normal_per_channel, outlier_per_channel;
    Code code;
};

// Currents [steps, a, b, c, run] with any strides but that of the run, which is 1.
struct Currents {
    const void *data;
    long steps, step_stride;
    long a, b, c, run, a_stride, b_stride, c_stride;
};

// What a call counts.
struct Counts {
    int64_t spikes, outliers, beyond;
};

// The populations of an RMSNorm, or of a LayerNorm (`centres`), and what follows them, [channels] of the input's type.
template <class Real> struct Norm {
    const Thresholds<Real> *centred, *scale, *output;
    const Gates<Real> *square, *rsqrt;
    long channels;
    int centres;
    double epsilon;
    const Real *gains, *bias;  // or none
};

// The populations of a softmax.
template <class Real> struct Softmax {
    const Gates<Real> *exponential, *reciprocal;
    const Thresholds<Real> *weight, *scale, *probability;
};

// An additive mask of rows [a, b, c, d] with any strides but that of the row, which is 1; no data: none.
struct Mask {
    const void *data;
    long b, c, d, a_stride, b_stride, c_stride, d_stride;
};

void add(Counts &counts, const Counts &part) {
#pragma omp critical(las_counts)
    {
        counts.spikes += part.spikes;
        counts.outliers += part.outliers;
        counts.beyond += part.beyond;
    }
}

long size_of(const Currents &currents) { return currents.a * currents.b * currents.c * currents.run; }

bool is_contiguous(const Currents &currents) {
    return currents.c_stride == currents.run && currents.b_stride == currents.c * currents.c_stride &&
           currents.a_stride == currents.b * currents.b_stride;
}

// In tiles, so that the steps are read side by side: processors fetch ahead of them then.
template <class Real> void sum_steps(const Real *first, const Currents &currents, long count, Real *v) {
    constexpr long TILE = 256 / sizeof(Real);
    long i = 0;
    for (; i + TILE <= count; i += TILE) {
        Real sum[TILE];
        for (long j = 0; j < TILE; j++) sum[j] = first[i + j];
        for (long t = 1; t < currents.steps; t++) {
            const Real *step = first + t * currents.step_stride + i;
            for (long j = 0; j < TILE; j++) sum[j] += step[j];
        }
        for (long j = 0; j < TILE; j++) v[i + j] = sum[j];
    }
    for (; i < count; i++) {
        v[i] = first[i];
        for (long t = 1; t < currents.steps; t++) v[i] += first[t * currents.step_stride + i];
    }
}

// The membrane potentials [start, start + count): currents summed over their steps, in order.
template <class Real> void integrate(const Currents &currents, long start, long count, Real *v) {
    const Real *data = static_cast<const Real *>(currents.data);
    if (is_contiguous(currents)) return sum_steps(data + start, currents, count, v);
    for (long done = 0; done < count;) {
        const long at = start + done, in_run = at % currents.run, row = at / currents.run;
        const long c = row % currents.c, b = row / currents.c % currents.b, a = row / currents.c / currents.b;
        const long part = std::min(currents.run - in_run, count - done);
        const Real *first = data + a * currents.a_stride + b * currents.b_stride + c * currents.c_stride + in_run;
        sum_steps(first, currents, part, v + done);
        done += part;
    }
}

// ------------------------------------------------------------------------------------------------------- writing trains

// Where trains go: [T, stride]. A train that is larger than the caches is written past them, which saves fetching the
// memory that it overwrites.
template <class Real> struct Train {
    Real *data;
    long stride;
    bool past_caches;

    // One block's step, from the first cache.
    void write(const Real *spikes, int step, long start, long count) const {
        Real *to = data + step * stride + start;
        if (past_caches && reinterpret_cast<uintptr_t>(to) % sizeof(Vector) == 0)
            stream(spikes, to, count);
        else
            std::copy(spikes, spikes + count, to);
    }

#if defined(__AVX512F__)
    using Vector = __m512i;
    static void put(Vector *to, const Real *from) { _mm512_stream_si512(to, _mm512_loadu_si512(from)); }
#elif defined(__SSE2__)
    using Vector = __m128i;
    static void put(Vector *to, const Real *from) {
        _mm_stream_si128(to, _mm_loadu_si128(reinterpret_cast<const Vector *>(from)));
    }
#else
    using Vector = Real;
    static void put(Vector *to, const Real *from) { *to = *from; }
#endif

    static void stream(const Real *from, Real *to, long count) {
        constexpr long PER_VECTOR = sizeof(Vector) / sizeof(Real);
        long i = 0;
        for (; i + PER_VECTOR <= count; i += PER_VECTOR) put(reinterpret_cast<Vector *>(to + i), from + i);
        std::copy(from + i, from + count, to + i);
    }
};

constexpr long PAST_CACHES_FROM = 8l << 20;  // bytes of a train

template <class Real> Train<Real> train_at(Real *data, int time_steps, long size) {
    return {data, size, time_steps * size * long(sizeof(Real)) >= PAST_CACHES_FROM};
}

// Other threads may read what this one wrote.
void finish_writing() {
#ifdef __SSE2__
    _mm_sfence();
#endif
}

// ------------------------------------------------------------------------------------------------ thresholds, one block

template <class Real> struct Block {
    Real v[BLOCK], w[BLOCK], unit[BLOCK], spare[BLOCK];
    int spikes[BLOCK];  // of each neuron, where they are counted
    int8_t outlier[BLOCK];
};

// Potentials v in units of θ(1)/n of the sub-neuron that each goes to. Returns whether the fast sums know all of them.
template <class Real>
bool scale(const Thresholds<Real> &neurons, long start, long count, Block<Real> &block, Counts &counts) {
    const Code code = neurons.code;
    const Real factor = Real(0.5 / code.levels);
    int outliers = 0, beyond = 0, unknown = 0;
    const auto element = [&](long i, Real normal, Real outlier) {
        const Real size = las::magnitude(block.v[i]);
        const bool is_outlier = size > normal;
        const Real theta = is_outlier ? outlier : normal;
        block.unit[i] = theta * factor;
        block.w[i] = block.v[i] / block.unit[i];
        const bool inside = size <= las::limit_of(outlier);
        // "floor" never emits 2θ(1), so the top of a range needs the dynamics too
        const bool known = code.nearest ? inside : size < theta * Real(1 - 1.0 / 1024);
        block.outlier[i] = is_outlier;
        outliers += is_outlier;
        beyond += size > las::limit_of(outlier);
        unknown += !known;
    };
    if (neurons.channels == 0) {
        const Real normal = neurons.normal[0], outlier = neurons.outlier[0];
        for (long i = 0; i < count; i++) element(i, normal, outlier);
    } else {
        const long normal_stride = neurons.normal_per_channel, outlier_stride = neurons.outlier_per_channel;
        for (long i = 0, channel = start % neurons.channels; i < count; i++) {
            element(i, neurons.normal[channel * normal_stride], neurons.outlier[channel * outlier_stride]);
            channel = channel + 1 == neurons.channels ? 0 : channel + 1;
        }
    }
    counts.outliers += outliers;
    counts.beyond += beyond;
    return unknown == 0;
}

// Fire step by step; `emit` is called with the step and, for it, sees the levels times 2^-step in block.spare.
template <bool LIMITED, bool COUNTED, class Real, class Emit>
void fire_steps(const Code &code, long count, Block<Real> &block, Emit emit) {
    Real left[LIMITED ? BLOCK : 1];
    if (LIMITED) std::fill(left, left + count, Real(code.max_spikes));
    const bool nearest = code.nearest;
    for (int t = 0; t < code.time_steps; t++) {
        const auto step = las::step_of<Real>(code, t);
        const Real size = las::power_of_two<Real>(-t);
        for (long i = 0; i < count; i++) {
            Real level = las::level_of(block.w[i], step, nearest);
            if (LIMITED) {
                level = las::if_spikes_left(level, left[i]);
                left[i] -= level != Real(0) ? Real(1) : Real(0);
            }
            if (COUNTED) block.spikes[i] += level != Real(0);
            block.spare[i] = level * size;
            block.w[i] = (block.w[i] - level) * 2;
        }
        emit(t);
    }
}

// The same for inputs in range, by fewer operations.
template <bool LIMITED, bool COUNTED, class Real, class Emit>
void fire_steps_in_range(const Code &code, long count, Block<Real> &block, Emit emit) {
    Real left[LIMITED ? BLOCK : 1];
    if (LIMITED) std::fill(left, left + count, Real(code.max_spikes));
    const bool nearest = code.nearest;
    const Real fire_at = las::fire_at<Real>(code);
    const auto fire = [&](long i, Real level, Real size) {
        if (LIMITED) {
            level = left[i] > Real(0) ? level : Real(0);
            left[i] -= level != Real(0) ? Real(1) : Real(0);
        }
        if (COUNTED) block.spikes[i] += level != Real(0);
        block.spare[i] = level * size;
        block.w[i] = (block.w[i] - level) * 2;
    };
    for (int t = 0; t < code.time_steps; t++) {
        const Real size = las::power_of_two<Real>(-t);
        if (nearest && t == code.time_steps - 1) {
            const auto last = las::step_of<Real>(code, t);
            for (long i = 0; i < count; i++) fire(i, las::level_of(block.w[i], last, true), size);
        } else {
            for (long i = 0; i < count; i++) fire(i, las::level_in_range(block.w[i], fire_at, nearest), size);
        }
        emit(t);
    }
}

template <bool LIMITED, bool COUNTED, class Real, class Emit>
void fire_either(bool known, const Code &code, long count, Block<Real> &block, Emit emit) {
    known ? fire_steps_in_range<LIMITED, COUNTED>(code, count, block, emit)
          : fire_steps<LIMITED, COUNTED>(code, count, block, emit);
}

template <class Real, class Emit>
void fire_all(bool known, const Code &code, long count, bool counted, Block<Real> &block, Emit emit) {
    if (counted) std::fill(block.spikes, block.spikes + count, 0);
    if (code.max_spikes)
        counted ? fire_either<true, true>(known, code, count, block, emit)
                : fire_either<true, false>(known, code, count, block, emit);
    else
        counted ? fire_either<false, true>(known, code, count, block, emit)
                : fire_either<false, false>(known, code, count, block, emit);
}

// Sums of windows of inputs in range, spike by spike. Leaves them in block.spare.
template <bool LIMITED, bool COUNTED, class Real> void fire_spikes(const Code &code, long count, Block<Real> &block) {
    Real *rest = block.spare;
    std::copy(block.w, block.w + count, rest);
    Real left[LIMITED ? BLOCK : 1];
    if (LIMITED) std::fill(left, left + count, Real(code.max_spikes));
    const Real fire_at = las::fire_at<Real>(code);
    const int last = code.time_steps - 1;
    const bool nearest = code.nearest;
    const int spikes = code.max_spikes ? std::min(code.max_spikes, code.spike_bound) : code.spike_bound;
    for (int index = 0; index < spikes; index++) {
        for (long i = 0; i < count; i++) {
            const Real spike = las::next_spike(rest[i], fire_at, last, nearest);
            rest[i] -= spike;
            if (LIMITED) left[i] -= spike != Real(0) ? Real(1) : Real(0);
            if (COUNTED) block.spikes[i] += spike != Real(0);
        }
    }
    if (nearest) {
        for (long i = 0; i < count; i++) {
            Real spike = las::last_spike(rest[i], code);
            if (LIMITED) spike = left[i] > Real(0) ? spike : Real(0);
            rest[i] -= spike;
            if (COUNTED) block.spikes[i] += spike != Real(0);
        }
    }
    for (long i = 0; i < count; i++) rest[i] = block.w[i] - rest[i];
}

template <class Real> void fire_known(const Code &code, long count, bool counted, Block<Real> &block) {
    if (code.levels == 1 && code.time_steps > 1 && !code.max_spikes && !counted) {
        for (long i = 0; i < count; i++) block.spare[i] = las::binary_sum(block.w[i], code);
    } else if (code.max_spikes) {
        counted ? fire_spikes<true, true>(code, count, block) : fire_spikes<true, false>(code, count, block);
    } else {
        counted ? fire_spikes<false, true>(code, count, block) : fire_spikes<false, false>(code, count, block);
    }
}

// Sums of windows of potentials block.v, to `total`.
template <class Real>
void code_sum(const Thresholds<Real> &neurons, long start, long count, bool counted, Block<Real> &block, Real *total,
              Counts &counts) {
    if (scale(neurons, start, count, block, counts)) {
        if (counted) std::fill(block.spikes, block.spikes + count, 0);
        fire_known(neurons.code, count, counted, block);
        for (long i = 0; i < count; i++) total[i] = block.spare[i] * block.unit[i];
        return;
    }
    Real sums[BLOCK] = {0};
    fire_all(false, neurons.code, count, counted, block, [&](int) {
        for (long i = 0; i < count; i++) sums[i] += block.spare[i];
    });
    for (long i = 0; i < count; i++) total[i] = sums[i] * block.unit[i];
}

// Trains of potentials block.v.
template <class Real>
void code_train(const Thresholds<Real> &neurons, long start, long count, bool counted, Block<Real> &block,
                const Train<Real> &train, Counts &counts) {
    const bool known = scale(neurons, start, count, block, counts);
    fire_all(known, neurons.code, count, counted, block, [&](int t) {
        for (long i = 0; i < count; i++) block.spare[i] *= block.unit[i];
        train.write(block.spare, t, start, count);
    });
}

// ----------------------------------------------------------------------------------------------------- gates, one block

// `share`, `bias` and `amplitude` are apart from the tables, which the compiler must know to vectorise.
template <class Real>
void open_on_grid(Gates<Real> gates, long count, const Real *v, Real *__restrict share, Real *__restrict bias,
                  Real *__restrict amplitude) {
    int sub_neuron[BLOCK];
    for (long i = 0; i < count; i++) sub_neuron[i] = las::cell_of(v[i], gates);
    for (long i = 0; i < count; i++) sub_neuron[i] = gates.cells[sub_neuron[i]];
    for (long i = 0; i < count; i++) {
        const auto open = las::open_on_grid(v[i], sub_neuron[i], gates);
        share[i] = open.share;
        bias[i] = open.bias;
        amplitude[i] = open.amplitude;
    }
    if (gates.below == las::HELD && gates.above == las::HELD) return;
    for (long i = 0; i < count; i++) las::follow_tails(v[i], gates, share[i], bias[i], amplitude[i]);
}

template <class Real>
void open_in_octaves(Gates<Real> gates, long count, const Real *v, Real *__restrict share, Real *__restrict bias,
                     Real *__restrict amplitude) {
    int sub_neuron[BLOCK];
    Real scale[BLOCK];
    for (long i = 0; i < count; i++) {
        const auto octave = las::octave_of(v[i], gates);
        sub_neuron[i] = octave.sub_neuron;
        share[i] = octave.share;
        scale[i] = octave.scale;
    }
    for (long i = 0; i < count; i++) {
        bias[i] = gates.bias[sub_neuron[i]] * scale[i];
        amplitude[i] = gates.amplitude[sub_neuron[i]] * scale[i];
    }
}

// The open sub-neurons of block.v: shares in w, biases in unit, amplitudes in spare.
template <class Real> void open(const Gates<Real> &gates, long count, Block<Real> &block, Counts &counts) {
    const auto range = las::range_of(gates);
    const Real low = Real(range.low), high = Real(range.high);
    int beyond = 0;
    for (long i = 0; i < count; i++) beyond += block.v[i] < low || block.v[i] > high;
    counts.beyond += beyond;
    (gates.is_grid ? open_on_grid<Real> : open_in_octaves<Real>)(gates, count, block.v, block.w, block.unit, block.spare);
}

template <class Real> void count_ones(int time_steps, long count, Block<Real> &block) {
    for (long i = 0; i < count; i++) {
        const Real digits = las::digits_of(block.w[i], time_steps);
        block.spikes[i] = las::ones_in(digits > Real(0) ? unsigned(int(digits)) : 0u);  // NaN: none
    }
}

template <class Real>
void gate_sum(const Gates<Real> &gates, long count, bool counted, Block<Real> &block, Real *total, Counts &counts) {
    open(gates, count, block, counts);
    if (counted) count_ones(gates.time_steps, count, block);
    for (long i = 0; i < count; i++) {
        const Real digits = las::digits_of(block.w[i], gates.time_steps);
        total[i] = las::sum_of({block.w[i], block.unit[i], block.spare[i]}, digits, gates.time_steps);
    }
}

template <class Real>
void gate_train(const Gates<Real> &gates, long start, long count, bool counted, Block<Real> &block, const Train<Real> &train,
                Counts &counts) {
    open(gates, count, block, counts);
    if (counted) count_ones(gates.time_steps, count, block);
    int digits[BLOCK];
    for (long i = 0; i < count; i++) {
        const Real share = las::digits_of(block.w[i], gates.time_steps);
        digits[i] = share > Real(0) ? int(share) : 0;
        block.unit[i] += share - share;  // NaN reaches no threshold
    }
    for (int t = 0; t < gates.time_steps; t++) {
        const Real size = las::power_of_two<Real>(-t - 1);
        const int digit = 1 << (gates.time_steps - 1 - t);
        Real *step = block.w;
        for (long i = 0; i < count; i++) step[i] = digits[i] & digit ? block.spare[i] * size : Real(0);
        if (t == 0)
            for (long i = 0; i < count; i++) step[i] += block.unit[i];
        train.write(step, t, start, count);
    }
}

// ------------------------------------------------------------------------------------------------------ whole populations

constexpr int8_t OUTLIER_FLAG = 1 << 6;  // of neurons/tally.py

// Calls run(start, count, block, counts) for all blocks, in parallel where it pays.
template <class Real, class Run> void for_blocks(long size, int threads, Counts &counts, Run run) {
    const long blocks = (size + BLOCK - 1) / BLOCK;
#pragma omp parallel num_threads(threads) if (threads > 1 && size >= PARALLEL_FROM)
    {
        Block<Real> block;
        Counts part = {0, 0, 0};
#pragma omp for schedule(static) nowait
        for (long index = 0; index < blocks; index++)
            run(index * BLOCK, std::min(BLOCK, size - index * BLOCK), block, part);
        finish_writing();
        add(counts, part);
    }
}

// Of one block, after it fired.
template <class Real>
void note_spikes(const Block<Real> &block, bool has_outliers, long start, long count, int8_t *kept, Counts &counts) {
    int64_t spikes = 0;
    for (long i = 0; i < count; i++) spikes += block.spikes[i];
    counts.spikes += spikes;
    if (kept == nullptr) return;
    for (long i = 0; i < count; i++)
        kept[start + i] = int8_t(block.spikes[i] + (has_outliers && block.outlier[i] ? OUTLIER_FLAG : 0));
}

template <class Real>
void run_thresholds(const Thresholds<Real> &neurons, const Currents &currents, Real *membrane, Real *total, Real *train,
                    bool counted, int8_t *kept, Counts &counts, int threads) {
    const long size = size_of(currents);
    const bool has_outliers = neurons.normal != neurons.outlier;
    const auto trains = train_at(train, neurons.code.time_steps, size);
    for_blocks<Real>(size, threads, counts, [&](long start, long count, Block<Real> &block, Counts &part) {
        integrate(currents, start, count, block.v);
        if (membrane != nullptr) std::copy(block.v, block.v + count, membrane + start);
        if (total != nullptr)
            code_sum(neurons, start, count, counted, block, total + start, part);
        else
            code_train(neurons, start, count, counted, block, trains, part);
        if (!has_outliers) part.outliers = 0;
        if (counted) note_spikes(block, has_outliers, start, count, kept, part);
    });
}

template <class Real>
void run_gates(const Gates<Real> &gates, const Currents &currents, Real *membrane, Real *total, Real *train, bool counted,
               int8_t *kept, Counts &counts, int threads) {
    const long size = size_of(currents);
    const auto trains = train_at(train, gates.time_steps, size);
    for_blocks<Real>(size, threads, counts, [&](long start, long count, Block<Real> &block, Counts &part) {
        integrate(currents, start, count, block.v);
        if (membrane != nullptr) std::copy(block.v, block.v + count, membrane + start);
        if (total != nullptr)
            gate_sum(gates, count, counted, block, total + start, part);
        else
            gate_train(gates, start, count, counted, block, trains, part);
        if (counted) note_spikes(block, false, start, count, kept, part);
    });
}

}  // namespace

// Currents to the sums of windows (`total`, [N]) or to trains (`train`, [T, N]), one of which is given; membrane
// potentials ([N]) and spikes of each neuron ([N]) are written where they are given. is_double: fp64, else fp32.
#define LAS_POPULATION(NAME, NEURONS, RUN)                                                                         \
    extern "C" void NAME(const void *neurons, const Currents *currents, int is_double, void *membrane, void *total, \
                         void *train, int counted, int8_t *kept, Counts *counts, int threads) {                    \
        if (is_double)                                                                                             \
            RUN<double>(*static_cast<const NEURONS<double> *>(neurons), *currents, (double *)membrane,             \
                        (double *)total, (double *)train, counted, kept, *counts, threads);                        \
        else                                                                                                       \
            RUN<float>(*static_cast<const NEURONS<float> *>(neurons), *currents, (float *)membrane, (float *)total, \
                       (float *)train, counted, kept, *counts, threads);                                           \
    }
LAS_POPULATION(las_thresholds, Thresholds, run_thresholds)
LAS_POPULATION(las_gates, Gates, run_gates)

// ------------------------------------------------------------------------------------------------- several populations

namespace {

constexpr long LANES = 16;

// In lanes, which are added at the end, so that processors can add them side by side.
template <class Real> Real sum(const Real *x, long count) {
    Real lanes[LANES] = {0};
    long i = 0;
    for (; i + LANES <= count; i += LANES)
        for (long lane = 0; lane < LANES; lane++) lanes[lane] += x[i + lane];
    for (; i < count; i++) lanes[i % LANES] += x[i];
    for (long half = LANES / 2; half; half /= 2)
        for (long lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    return lanes[0];
}

template <class Real> Real largest(const Real *x, long count) {
    Real lanes[LANES];
    std::fill(lanes, lanes + LANES, x[0]);
    long i = 0;
    for (; i + LANES <= count; i += LANES)
        for (long lane = 0; lane < LANES; lane++) lanes[lane] = x[i + lane] > lanes[lane] ? x[i + lane] : lanes[lane];
    for (; i < count; i++) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    return *std::max_element(lanes, lanes + LANES);
}

template <class Real>
void code_row(const Thresholds<Real> &neurons, long start, long count, Block<Real> &block, Real *total, Counts &counts) {
    code_sum(neurons, start, count, false, block, total, counts);
}

template <class Real>
void code_row(const Gates<Real> &gates, long, long count, Block<Real> &block, Real *total, Counts &counts) {
    gate_sum(gates, count, false, block, total, counts);
}

// A row of channels through one population and back, block by block.
template <class Real, class Neurons>
void pass_row(const Neurons &neurons, Real *row, long count, Block<Real> &block, Counts &counts) {
    for (long start = 0; start < count; start += BLOCK) {
        const long part = std::min(BLOCK, count - start);
        std::copy(row + start, row + start + part, block.v);
        code_row(neurons, start, part, block, row + start, counts);
    }
}

// Calls run(row, buffer, block, counts) for all rows; `buffer` holds 2·channels numbers.
template <class Real, int POPULATIONS, class Run>
void for_rows(long rows, long channels, int threads, Counts *counts, Run run) {
#pragma omp parallel num_threads(threads) if (threads > 1 && rows * channels >= PARALLEL_FROM)
    {
        Block<Real> block;
        std::vector<Real> buffer(2 * channels);
        Counts part[POPULATIONS] = {};
#pragma omp for schedule(static) nowait
        for (long row = 0; row < rows; row++) run(row, buffer.data(), block, part);
        finish_writing();
        for (int index = 0; index < POPULATIONS; index++) add(counts[index], part[index]);
    }
}

// The train of a row of potentials through the last population; `follow` changes what each block emits at a step.
template <class Real, class Follow>
void emit_row(const Thresholds<Real> &neurons, const Real *row, long channels, long at, Block<Real> &block,
              const Train<Real> &train, Counts &counts, Follow follow) {
    for (long start = 0; start < channels; start += BLOCK) {
        const long part = std::min(BLOCK, channels - start);
        std::copy(row + start, row + start + part, block.v);
        const bool known = scale(neurons, start, part, block, counts);
        fire_all(known, neurons.code, part, false, block, [&](int t) {
            for (long i = 0; i < part; i++) block.spare[i] *= block.unit[i];
            follow(block.spare, start, part);
            train.write(block.spare, t, at + start, part);
        });
    }
}

template <class Real>
void run_norm(const Norm<Real> &norm, const Currents &currents, Real *total, Real *train, Counts *counts, int threads) {
    const long channels = norm.channels, size = size_of(currents);
    const Real *gains = norm.gains, *bias = norm.bias;
    const int time_steps = norm.output->code.time_steps;
    const auto trains = train_at(train, time_steps, size);
    for_rows<Real, 5>(size / channels, channels, threads, counts,
                      [&](long index, Real *row, Block<Real> &block, Counts *part) {
        const long at = index * channels;
        Real *squares = row + channels;
        integrate(currents, at, channels, row);
        if (norm.centres) {
            const Real mean = sum(row, channels) / Real(channels);
            for (long i = 0; i < channels; i++) row[i] -= mean;
        }
        pass_row(*norm.centred, row, channels, block, part[0]);
        std::copy(row, row + channels, squares);
        pass_row(*norm.square, squares, channels, block, part[1]);
        Real factor = sum(squares, channels) / Real(channels) + Real(norm.epsilon);
        pass_row(*norm.rsqrt, &factor, 1, block, part[2]);
        pass_row(*norm.scale, &factor, 1, block, part[3]);
        for (long i = 0; i < channels; i++) row[i] *= factor;
        const Real share = total == nullptr ? Real(time_steps) : Real(1);
        const auto follow = [&](Real *spikes, long start, long count) {
            if (gains != nullptr)
                for (long i = 0; i < count; i++) spikes[i] *= gains[start + i];
            if (bias != nullptr)
                for (long i = 0; i < count; i++) spikes[i] += bias[start + i] / share;
        };
        if (total == nullptr) return emit_row(*norm.output, row, channels, at, block, trains, part[4], follow);
        pass_row(*norm.output, row, channels, block, part[4]);
        follow(row, 0, channels);
        std::copy(row, row + channels, total + at);
    });
}

template <class Real> const Real *mask_row(const Mask &mask, long row) {
    const long d = row % mask.d, c = row / mask.d % mask.c, b = row / mask.d / mask.c % mask.b;
    const long a = row / mask.d / mask.c / mask.b;
    return static_cast<const Real *>(mask.data) + a * mask.a_stride + b * mask.b_stride + c * mask.c_stride +
           d * mask.d_stride;
}

template <class Real>
void run_softmax(const Softmax<Real> &softmax, const Currents &currents, const Mask &mask, Real *total, Real *train,
                 Counts *counts, int threads) {
    const long keys = currents.run, size = size_of(currents);
    const auto trains = train_at(train, softmax.probability->code.time_steps, size);
    const Real silent = Real(softmax.exponential->core_low);  // below it the exponential is 0
    for_rows<Real, 5>(size / keys, keys, threads, counts, [&](long index, Real *row, Block<Real> &block, Counts *part) {
        const long at = index * keys;
        integrate(currents, at, keys, row);
        if (mask.data != nullptr) {
            const Real *added = mask_row<Real>(mask, index);
            for (long i = 0; i < keys; i++) row[i] += added[i];
        }
        const Real most = largest(row, keys);
        for (long i = 0; i < keys; i++) row[i] -= most;
        long live = keys;  // what is masked at the end of a row takes no part
        while (live > 1 && row[live - 1] < silent) live--;
        std::fill(row + live, row + keys, Real(0));
        pass_row(*softmax.exponential, row, live, block, part[0]);
        pass_row(*softmax.weight, row, live, block, part[1]);
        Real factor = sum(row, live);
        pass_row(*softmax.reciprocal, &factor, 1, block, part[2]);
        pass_row(*softmax.scale, &factor, 1, block, part[3]);
        for (long i = 0; i < live; i++) row[i] *= factor;
        if (total == nullptr)
            return emit_row(*softmax.probability, row, keys, at, block, trains, part[4], [](Real *, long, long) {});
        pass_row(*softmax.probability, row, live, block, part[4]);
        std::copy(row, row + keys, total + at);
    });
}

// Gate and up of a gated block, through an activation, each coded, and their product.
template <class Real>
void run_gated(const Gates<Real> &activation, const Thresholds<Real> &gate, const Thresholds<Real> &up, const Currents &gate_currents,
               const Currents &up_currents, Real *total, Real *train, Counts *counts, int threads) {
    const long size = size_of(gate_currents);
    const int time_steps = gate.code.time_steps;
    const auto trains = train_at(train, time_steps, size);
    constexpr long PART = 256;
#pragma omp parallel num_threads(threads) if (threads > 1 && size >= PARALLEL_FROM)
    {
        Block<Real> block;
        Counts part[3] = {};
        std::vector<Real> gates(time_steps * PART);
        Real gate_sum_of[PART], up_sum[PART];
#pragma omp for schedule(static) nowait
        for (long start = 0; start < size; start += PART) {
            const long count = std::min(PART, size - start);
            integrate(gate_currents, start, count, block.v);
            gate_sum(activation, count, false, block, gate_sum_of, part[0]);
            std::copy(gate_sum_of, gate_sum_of + count, block.v);
            if (total != nullptr) {
                code_sum(gate, start, count, false, block, gate_sum_of, part[1]);
                integrate(up_currents, start, count, block.v);
                code_sum(up, start, count, false, block, up_sum, part[2]);
                for (long i = 0; i < count; i++) total[start + i] = gate_sum_of[i] * up_sum[i];
                continue;
            }
            // The offset of `start` is taken back, so that the train of this part lies at the beginning of `gates`.
            code_train(gate, start, count, false, block, Train<Real>{gates.data() - start, PART, false}, part[1]);
            integrate(up_currents, start, count, block.v);
            const bool known = scale(up, start, count, block, part[2]);
            std::fill(gate_sum_of, gate_sum_of + count, Real(0));
            std::fill(up_sum, up_sum + count, Real(0));
            fire_all(known, up.code, count, false, block, [&](int t) {
                const Real *gate_spikes = gates.data() + t * PART;
                for (long i = 0; i < count; i++) {
                    const Real up_spike = block.spare[i] * block.unit[i];
                    gate_sum_of[i] += gate_spikes[i];
                    block.spare[i] = gate_sum_of[i] * up_spike + gate_spikes[i] * up_sum[i];
                    up_sum[i] += up_spike;
                }
                trains.write(block.spare, t, start, count);
            });
        }
        finish_writing();
        for (int index = 0; index < 3; index++) add(counts[index], part[index]);
    }
}

}  // namespace

// As above, for the populations of a whole norm, softmax or gated product; `counts` has an entry for each population, in
// the order in which they fire.
extern "C" void las_norm(const void *norm, const Currents *currents, int is_double, void *total, void *train,
                         Counts *counts, int threads) {
    if (is_double)
        run_norm(*static_cast<const Norm<double> *>(norm), *currents, (double *)total, (double *)train, counts, threads);
    else
        run_norm(*static_cast<const Norm<float> *>(norm), *currents, (float *)total, (float *)train, counts, threads);
}

extern "C" void las_softmax(const void *softmax, const Currents *currents, const Mask *mask, int is_double, void *total,
                            void *train, Counts *counts, int threads) {
    if (is_double)
        run_softmax(*static_cast<const Softmax<double> *>(softmax), *currents, *mask, (double *)total, (double *)train,
                    counts, threads);
    else
        run_softmax(*static_cast<const Softmax<float> *>(softmax), *currents, *mask, (float *)total, (float *)train,
                    counts, threads);
}

extern "C" void las_gated(const void *activation, const void *gate, const void *up, const Currents *gate_currents,
                          const Currents *up_currents, int is_double, void *total, void *train, Counts *counts,
                          int threads) {
    if (is_double)
        run_gated(*static_cast<const Gates<double> *>(activation), *static_cast<const Thresholds<double> *>(gate),
                  *static_cast<const Thresholds<double> *>(up), *gate_currents, *up_currents, (double *)total,
                  (double *)train, counts, threads);
    else
        run_gated(*static_cast<const Gates<float> *>(activation), *static_cast<const Thresholds<float> *>(gate),
                  *static_cast<const Thresholds<float> *>(up), *gate_currents, *up_currents, (float *)total,
                  (float *)train, counts, threads);
}
