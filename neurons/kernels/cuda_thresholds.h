// Neurons with one threshold for all (or two: OAT), by fewer instructions than neuron.h and without branches where fp32
// allows it. The values are the same bit for bit, but that zeros may differ in sign and every NaN is one.
#pragma once

#include "cuda_structures.h"

namespace las::gpu {

// What depends on the thresholds, which may change between two launches.
template <class Real> struct Scale {
    Real normal, limit;
    Real unit, outlier_unit, inverse, outlier_inverse;
    Real known, outlier_known;  // up to which sizes the fast sums are right
};

constexpr float LEAST_UNIT = 1e-24f, MOST_UNIT = 1e24f;  // between them `quotient` is exact: nothing over- or underflows

LAS_INLINE Scale<float> scale_of(const Coder<float> &coder) {
    Scale<float> scale;
    const float outlier = *coder.outlier;
    scale.normal = *coder.normal;
    scale.limit = las::limit_of(outlier);
    scale.unit = scale.normal * coder.unit_of_one;
    scale.outlier_unit = outlier * coder.unit_of_one;
    scale.inverse = __frcp_rn(scale.unit);
    scale.outlier_inverse = __frcp_rn(scale.outlier_unit);
    const bool is_ordinary = scale.unit > LEAST_UNIT && scale.outlier_unit < MOST_UNIT;
    const float below_top = float(1 - ROUNDING_ALLOWANCE);  // "floor" never emits 2θ(1); see is_known in neuron.h
    scale.known = !is_ordinary ? -1.0f : coder.code.nearest ? scale.limit : scale.normal * below_top;
    scale.outlier_known = !is_ordinary ? -1.0f : coder.code.nearest ? scale.limit : outlier * below_top;
    return scale;
}

LAS_INLINE Scale<double> scale_of(const Coder<double> &coder) {
    return {*coder.normal, las::limit_of(*coder.outlier), 0, 0, 0, 0, 0, 0};
}

// ------------------------------------------------------------------------------------------------ any code, any input

template <class Real> struct Fired {
    Real total;
    int spikes;
};

// The sum of a window in units of θ(1)/n, by the dynamics.
template <class Real> LAS_NOINLINE Fired<Real> sum_by_steps(Real w, const Code code) {
    Real left = code.max_spikes ? Real(code.max_spikes) : Real(code.time_steps);
    Fired<Real> fired = {0, 0};
    for (int t = 0; t < code.time_steps; t++) {
        const Real level = las::if_spikes_left(las::level_of(w, las::step_of<Real>(code, t), code.nearest), left);
        fired.spikes += level != 0;
        left -= code.max_spikes && level != 0;
        fired.total += level * las::power_of_two<Real>(-t);
        w = (w - level) * 2;
    }
    return fired;
}

// The same, spike by spike, for inputs in range.
template <class Real> LAS_INLINE Fired<Real> sum_by_spikes(Real w, const Code &code) {
    Real left = code.max_spikes ? Real(code.max_spikes) : Real(code.time_steps);
    const Real fire_at = las::fire_at<Real>(code);
    Real rest = w;
    int spikes = 0;
    for (int index = 0; index < code.spike_bound && left > 0; index++) {
        const Real spike = las::next_spike(rest, fire_at, code.time_steps - 1, code.nearest);
        if (spike == 0) break;
        rest -= spike;
        spikes++;
        left--;
    }
    if (code.nearest && left > 0) {
        const Real spike = las::last_spike(rest, code);
        rest -= spike;
        spikes += spike != 0;
    }
    return {w - rest, spikes};
}

// A potential in units of the sub-neuron that it goes to.
template <class Real> struct Scaled {
    Real w, unit;
    bool is_outlier, is_known, is_beyond;
};

template <class Real> LAS_INLINE Scaled<Real> scaled_by(Real v, Real normal, Real outlier, const Code &code) {
    const Real size = las::magnitude(v);
    const bool is_outlier = size > normal;
    const Real theta = is_outlier ? outlier : normal;
    const Real unit = theta * las::unit_of_one<Real>(code);
    return {v / unit, unit, is_outlier, las::is_known(size, theta, outlier, code.nearest),
            size > las::limit_of(outlier)};
}

template <class Real> LAS_INLINE Fired<Real> sum_of(const Scaled<Real> &scaled, const Code &code) {
    return scaled.is_known ? sum_by_spikes(scaled.w, code) : sum_by_steps(scaled.w, code);
}

template <class Real> LAS_NOINLINE Real plain_sum(Real v, const Real normal, const Real outlier, const Code code) {
    const Scaled<Real> scaled = scaled_by(v, normal, outlier, code);
    return sum_of(scaled, code).total * scaled.unit;
}

// What is left of a potential as it fires step by step.
template <class Real> struct Remainder {
    Real w, left;
};

template <class Real> LAS_INLINE Remainder<Real> remainder_of(Real w, const Code &code) {
    return {w, code.max_spikes ? Real(code.max_spikes) : Real(code.time_steps)};
}

// The level of a step, of potentials in units of θ(t)/n.
template <class Real>
LAS_INLINE Real fire_level(Remainder<Real> &rest, const Step<Real> &step, const Code &code) {
    const Real level = las::if_spikes_left(las::level_of(rest.w, step, code.nearest), rest.left);
    rest.left -= code.max_spikes && level != 0;
    rest.w = (rest.w - level) * 2;
    return level;
}

// ------------------------------------------------------------------------------------- fp32, in range, without branches

// v/unit to the nearest, where `inverse` is 1/unit to the nearest: a product and two fused multiply-adds (Markstein;
// Brisebarre, Muller and Raina, IEEE Trans. Comp. 53(8), 2004). Of a tiny v, whose remainders underflow, it gives some
// other tiny number, which no threshold tells apart.
LAS_INLINE float quotient(float v, float unit, float inverse) {
    const float guess = v * inverse;
    return __fmaf_rn(__fmaf_rn(-unit, guess, v), inverse, guess);
}

template <bool NEAREST> LAS_INLINE Scaled<float> scaled_by(float v, const Scale<float> &scale) {
    const float size = las::magnitude(v);
    const bool is_outlier = size > scale.normal;
    const float unit = is_outlier ? scale.outlier_unit : scale.unit;
    const float w = quotient(v, unit, is_outlier ? scale.outlier_inverse : scale.inverse);
    const bool is_known = NEAREST ? size <= scale.known : size < (is_outlier ? scale.outlier_known : scale.known);
    return {w, unit, is_outlier, is_known, size > scale.limit};
}

constexpr int SIGN_AND_EXPONENT = int(0xff800000);

// What is left after the next spike, and whether there was one. Let 2^e be the power of two at or below rest/fire_at, so
// that step 1 − e fires multiples of 2^e: adding ±2^(23 + e) leaves them and subtracting it again gives the spike. Its
// bits are those of `rest` with those of fire_at exchanged for those of 2^23, cut to sign and exponent. From 2·fire_at on
// it rounds to multiples of 2, which 2n, the only spike there, is.
template <bool NEAREST> LAS_INLINE float after_spike(float rest, const Coder<float> &coder, bool &fires) {
    const unsigned bits = unsigned(las::bits_of(rest)) + unsigned(coder.to_large);
    const float large = las::real_of(int(bits) & SIGN_AND_EXPONENT);
    fires = las::magnitude(large) >= coder.least_large;
    const float spike = (NEAREST ? rest + large : __fadd_rz(rest, large)) - large;
    return fires ? rest - spike : rest;
}

// How many spikes come before the special rule of the last step: as many as the code allows, or a number that is known
// when this is compiled; or the sum of a code with one level in closed form, without spikes to count.
constexpr int AS_CODED = 0, IN_CLOSED_FORM = -1;

template <bool NEAREST, int SPIKES> LAS_INLINE Fired<float> sum_in_range(float w, const Coder<float> &coder) {
    if (SPIKES == IN_CLOSED_FORM) return {las::binary_sum(w, coder.code), 0};
    float rest = w;
    bool fires;
    int spikes = 0;
    const int most = SPIKES ? SPIKES : coder.code.spike_bound;
    LAS_UNROLL for (int index = 0; index < most; index++) {
        rest = after_spike<NEAREST>(rest, coder, fires);
        spikes += fires;
    }
    if (!NEAREST) return {w - rest, spikes};
    const bool is_last = las::magnitude(rest) >= coder.last_at && (SPIKES || spikes < coder.code.time_steps);
    rest = is_last ? rest - las::with_sign_of(coder.last, rest) : rest;
    return {w - rest, spikes + is_last};
}

// 1.5·2^23, or 2^23 to round to zero with: added and subtracted it leaves whole numbers; of step t it is 2^-t times that.
template <bool NEAREST> constexpr float LARGE = NEAREST ? 12582912.0f : 8388608.0f;

// The spike of a step in units of θ(1)/n; fire_at and `large` are those of the step.
template <bool NEAREST> LAS_INLINE float spike_of(float rest, float fire_at, float large) {
    const float size = las::magnitude(rest);
    const float spike =
        NEAREST ? (rest + large) - large : las::with_sign_of(__fadd_rz(size, large) - large, rest);
    return size >= fire_at ? spike : 0.0f;
}

// The last step of "nearest": at least θ(T).
LAS_INLINE float last_spike_of(float rest, const Coder<float> &coder, float large) {
    const float size = las::magnitude(rest);
    const float rounded = (size + large) - large;
    const float spike = rounded < coder.last ? coder.last : rounded;
    return size >= coder.last_at ? las::with_sign_of(spike, rest) : 0.0f;
}

// The code of most populations: the fast sums with four spikes at most. They serve a layer where all of its codes are so.
constexpr int USUAL_SPIKES = 4;

template <bool QUICK> LAS_INLINE float coded(float v, const Coder<float> &coder, const Scale<float> &scale, unsigned &beyond) {
    if (!QUICK) {
        beyond += las::magnitude(v) > scale.limit;
        return plain_sum(v, *coder.normal, *coder.outlier, coder.code);
    }
    const Scaled<float> scaled = scaled_by<true>(v, scale);
    float total = sum_in_range<true, USUAL_SPIKES>(scaled.w, coder).total;
    if (!scaled.is_known) {
        total = sum_by_steps(__fdiv_rn(v, scaled.unit), coder.code).total;
        beyond += scaled.is_beyond;
    }
    return total * scaled.unit;
}
template <bool QUICK>
LAS_INLINE double coded(double v, const Coder<double> &coder, const Scale<double> &scale, unsigned &beyond) {
    beyond += las::magnitude(v) > scale.limit;
    return plain_sum(v, *coder.normal, *coder.outlier, coder.code);
}

// -------------------------------------------------------------------------------------------------------------- trains

// A pack of potentials in units of their sub-neurons.
template <int PACK, class Real> struct Train {
    Real w[PACK], unit[PACK];
    bool is_outlier[PACK];
    bool is_known;
};

template <bool QUICK, bool NEAREST, int PACK>
LAS_INLINE Train<PACK, float> train_of(const float *v, const Coder<float> &coder, const Scale<float> &scale) {
    Train<PACK, float> train;
    train.is_known = true;
    LAS_EACH(i) {
        const Scaled<float> scaled = scaled_by<NEAREST>(v[i], scale);
        train.w[i] = scaled.w;
        train.unit[i] = scaled.unit;
        train.is_outlier[i] = scaled.is_outlier;
        train.is_known &= scaled.is_known;
    }
    train.is_known &= QUICK;
    if (!train.is_known)
        LAS_EACH(i) train.w[i] = __fdiv_rn(v[i], train.unit[i]);
    return train;
}
template <bool QUICK, bool NEAREST, int PACK>
LAS_INLINE Train<PACK, double> train_of(const double *v, const Coder<double> &coder, const Scale<double> &) {
    Train<PACK, double> train;
    train.is_known = false;
    LAS_EACH(i) {
        const Scaled<double> scaled = scaled_by(v[i], *coder.normal, *coder.outlier, coder.code);
        train.w[i] = scaled.w;
        train.unit[i] = scaled.unit;
        train.is_outlier[i] = scaled.is_outlier;
    }
    return train;
}

template <int PACK, class Real>
LAS_INLINE unsigned count_beyond(const Real *v, const Scale<Real> &scale) {
    unsigned beyond = 0;
    LAS_EACH(i) beyond += las::magnitude(v[i]) > scale.limit;
    return beyond;
}

// What does not depend on the neuron, of one step after another.
template <bool NEAREST> struct QuickStep {
    float fire_at, large = LARGE<NEAREST>;
    LAS_METHOD void advance() { fire_at *= 0.5f, large *= 0.5f; }
};

// Fires what is in range step by step, and puts each step's spikes; `w` is used up.
template <bool NEAREST, int PACK, class Put>
LAS_INLINE void fire_in_range(const Coder<float> &coder, Train<PACK, float> &train, Put put) {
    QuickStep<NEAREST> step = {coder.fire_at};
    float spikes[PACK];
    const int last = coder.code.time_steps - 1;
    LAS_UNROLL_SOME for (int t = 0; t <= last; t++, step.advance()) {
        LAS_EACH(i) {
            const float spike = NEAREST && t == last ? last_spike_of(train.w[i], coder, step.large)
                                                     : spike_of<NEAREST>(train.w[i], step.fire_at, step.large);
            train.w[i] -= spike;
            spikes[i] = spike * train.unit[i];
        }
        put(t, spikes);
    }
}

// The same of any input and code.
template <int PACK, class Real, class Put>
LAS_INLINE void fire_by_steps(const Code &code, const Train<PACK, Real> &train, Put put) {
    Remainder<Real> rest[PACK];
    Real spikes[PACK];
    LAS_EACH(i) rest[i] = remainder_of(train.w[i], code);
    for (int t = 0; t < code.time_steps; t++) {
        const auto step = las::step_of<Real>(code, t);
        LAS_EACH(i) {
            const Real level = fire_level(rest[i], step, code);
            spikes[i] = level * las::power_of_two<Real>(-t) * train.unit[i];
        }
        put(t, spikes);
    }
}

template <bool NEAREST, int PACK, class Put>
LAS_INLINE void fire(const Coder<float> &coder, Train<PACK, float> &train, Put put) {
    if (train.is_known) fire_in_range<NEAREST>(coder, train, put);
    else fire_by_steps(coder.code, train, put);
}
template <bool NEAREST, int PACK, class Put>
LAS_INLINE void fire(const Coder<double> &coder, Train<PACK, double> &train, Put put) {
    fire_by_steps(coder.code, train, put);
}

}  // namespace las::gpu
