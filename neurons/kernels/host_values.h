// Numbers as they lie in memory. Half precision is computed with in single precision; its conversions are written in
// integers, which the compiler vectorises where it has no type for them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "neuron.h"

namespace las::host {
namespace {

struct Half {
    uint16_t bits;
};
struct BFloat {  // the upper half of a float
    uint16_t bits;
};

template <class Value> struct Computed {
    using Real = float;
};
template <> struct Computed<double> {
    using Real = double;
};
template <class Value> using ComputedIn = typename Computed<Value>::Real;

LAS_INLINE float value_of(float x) { return x; }
LAS_INLINE double value_of(double x) { return x; }
LAS_INLINE float value_of(BFloat x) { return las::real_of(int(unsigned(x.bits) << 16)); }

constexpr unsigned HALF_SHIFT = 13;                   // digits that a half has less than a float
constexpr unsigned REBIASED = (127u - 15u) << 23;     // from a half's exponent to a float's
constexpr unsigned LEAST_NORMAL = (127u - 14u) << 23;  // of a half, as a float

LAS_INLINE float value_of(Half x) {
    const unsigned sign = (x.bits & 0x8000u) << 16, exponent = x.bits & 0x7c00u;
    const unsigned digits = (x.bits & 0x7fffu) << HALF_SHIFT;
    const unsigned normal = digits + REBIASED + (exponent == 0x7c00u ? REBIASED : 0u);  // or infinite, or NaN
    const float tiny = las::real_of(int(digits + LEAST_NORMAL)) - las::real_of(int(LEAST_NORMAL));
    return las::real_of(int(sign | (exponent == 0 ? unsigned(las::bits_of(tiny)) : normal)));
}

// To the nearest, ties to even; every NaN becomes one.
LAS_INLINE void set(float &to, float value) { to = value; }
LAS_INLINE void set(double &to, double value) { to = value; }
LAS_INLINE void set(BFloat &to, float value) {
    const unsigned bits = unsigned(las::bits_of(value)), rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    to.bits = uint16_t(value != value ? 0x7fc0u : rounded);
}
LAS_INLINE void set(Half &to, float value) {
    constexpr unsigned infinite = (127u + 16u) << 23;  // 2^16, the least power of two that no half holds
    constexpr unsigned aligned = (127u - 1u) << 23;    // 1/2: its last digit is that of the least halves
    const unsigned bits = unsigned(las::bits_of(value)), size = bits & 0x7fffffffu;
    const unsigned normal = (size - REBIASED + 0xfffu + ((size >> HALF_SHIFT) & 1u)) >> HALF_SHIFT;
    const float moved = las::real_of(int(size < LEAST_NORMAL ? size : 0u)) + las::real_of(int(aligned));
    const unsigned small = unsigned(las::bits_of(moved)) - aligned;
    const unsigned large = size > 0x7f800000u ? 0x7e00u : 0x7c00u;  // NaN, infinity
    const unsigned rounded = size >= infinite ? large : size < LEAST_NORMAL ? small : normal;
    to.bits = uint16_t((bits >> 16 & 0x8000u) | rounded);
}

// Where numbers to be stored at `to` are computed: there, or in `room` where they are of another type.
template <class Value, class Real> Real *computed_at(Value *to, Real *room) {
    if constexpr (std::is_same<Value, Real>::value)
        return to;
    else
        return room;
}

// Numbers that were computed go to memory, if they are not there yet.
template <class Value, class Real> void store(const Real *from, Value *to, Index count) {
    if constexpr (std::is_same<Value, Real>::value) {
        if (from != to) std::copy(from, from + count, to);
    } else {
        for (Index i = 0; i < count; i++) set(to[i], from[i]);
    }
}

}  // namespace
}  // namespace las::host
