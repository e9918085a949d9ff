// Numbers in a GPU's memory: half precision without headers, which NVRTC may not find, and packs that a thread reads and
// writes at once. Where no GPU compiles it, tests/support/emulated_gpu.cpp stands in for what only a GPU has.
#pragma once

#include "neuron.h"

#ifdef __CUDACC__
#define LAS_BY_VALUE(STRUCTURE) const __grid_constant__ STRUCTURE
#define LAS_METHOD __device__ __forceinline__
#define LAS_NOINLINE __device__ __noinline__
#define LAS_UNROLL _Pragma("unroll")
#define LAS_UNROLL_SOME _Pragma("unroll 2")
#define LAS_EACH(i) _Pragma("unroll") for (int i = 0; i < PACK; i++)
#else
#define LAS_BY_VALUE(STRUCTURE) const STRUCTURE &
#define LAS_METHOD inline __attribute__((always_inline))
#define LAS_NOINLINE static __attribute__((noinline))
#define LAS_UNROLL
#define LAS_UNROLL_SOME
#define LAS_EACH(i) for (int i = 0; i < PACK; i++)
#endif
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
#define LAS_PAIRS_IN_ONE_INSTRUCTION
#endif

namespace las::gpu {

struct Half {
    unsigned short bits;
};
struct BFloat {
    unsigned short bits;
};

#ifdef __CUDACC__
LAS_INLINE float value_of(Half x) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
    return value;
}
LAS_INLINE void set(Half &x, float value) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(x.bits) : "f"(value)); }
#else
LAS_INLINE float value_of(Half x) { return __builtin_bit_cast(_Float16, x.bits); }
LAS_INLINE void set(Half &x, float value) { x.bits = __builtin_bit_cast(unsigned short, (_Float16)value); }
#endif

// A BFloat is the upper half of a float.
constexpr int LOWER_BITS = 16;
constexpr unsigned BELOW_HALF = 0x7fff;  // half of its last digit, less one
constexpr unsigned short BFLOAT_NAN = 0x7fc0;
LAS_INLINE float value_of(BFloat x) { return las::real_of(int(unsigned(x.bits) << LOWER_BITS)); }
LAS_INLINE void set(BFloat &x, float value) {
    const unsigned bits = las::bits_of(value);
    const unsigned is_odd = (bits >> LOWER_BITS) & 1;
    const bool is_nan = value != value;
    x.bits = is_nan ? BFLOAT_NAN : (bits + BELOW_HALF + is_odd) >> LOWER_BITS;  // to the nearest, ties to even
}

LAS_INLINE float value_of(float x) { return x; }
LAS_INLINE double value_of(double x) { return x; }
LAS_INLINE void set(float &x, float value) { x = value; }
LAS_INLINE void set(double &x, double value) { x = value; }

// What is computed in.
template <class Element> struct Computed {
    using Real = float;
};
template <> struct Computed<double> {
    using Real = double;
};
template <class Element> using RealFor = typename Computed<Element>::Real;

constexpr int PACK_BYTES = 16;
template <class Element> constexpr int PACK_OF = PACK_BYTES / int(sizeof(Element));
template <class Element> constexpr int SMALL_PACK_OF = PACK_OF<Element> < 4 ? PACK_OF<Element> : 4;  // spares registers

template <class Element, int PACK> struct alignas(PACK * sizeof(Element)) Pack {
    Element values[PACK];
};

// Values to a pack and back. Halves go in pairs, by one instruction where there is one.
template <int PACK, class Element> LAS_INLINE void unpack(const Pack<Element, PACK> &pack, RealFor<Element> *values) {
    LAS_EACH(i) values[i] = value_of(pack.values[i]);
}
template <class Element, int PACK> LAS_INLINE Pack<Element, PACK> packed(const RealFor<Element> *values) {
    Pack<Element, PACK> pack;
    LAS_EACH(i) set(pack.values[i], values[i]);
    return pack;
}

#ifdef LAS_PAIRS_IN_ONE_INSTRUCTION
struct HalfPair {
    using Element = Half;
    static LAS_METHOD unsigned of(float low, float high) {
        unsigned pair;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        return pair;
    }
};
struct BFloatPair {
    using Element = BFloat;
    static LAS_METHOD unsigned of(float low, float high) {
        unsigned pair;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
        return pair;
    }
};
template <class Pair, int PACK> LAS_INLINE Pack<typename Pair::Element, PACK> packed_in_pairs(const float *values) {
    struct alignas(PACK * 2) {
        unsigned pairs[PACK / 2];
    } words;
    LAS_UNROLL for (int i = 0; i < PACK / 2; i++) words.pairs[i] = Pair::of(values[2 * i], values[2 * i + 1]);
    return *reinterpret_cast<const Pack<typename Pair::Element, PACK> *>(&words);
}
template <> LAS_INLINE Pack<Half, 8> packed<Half, 8>(const float *values) { return packed_in_pairs<HalfPair, 8>(values); }
template <> LAS_INLINE Pack<BFloat, 8> packed<BFloat, 8>(const float *values) {
    return packed_in_pairs<BFloatPair, 8>(values);
}
#endif

// What the launch says how much there is of, for all threads of a block.
#ifdef __CUDACC__
LAS_INLINE char *shared_memory() {
    extern __shared__ uint4 las_shared_memory[];
    return reinterpret_cast<char *>(las_shared_memory);
}
#else
char *shared_memory();
#endif

// Memory that is read or written once: it leaves the caches first.
#ifdef __CUDACC__
template <int BYTES> struct Word;
template <> struct Word<1> {
    using Type = unsigned char;
};
template <> struct Word<2> {
    using Type = unsigned short;
};
template <> struct Word<4> {
    using Type = unsigned;
};
template <> struct Word<8> {
    using Type = uint2;
};
template <> struct Word<16> {
    using Type = uint4;
};
template <class Any> LAS_INLINE Any read_once(const Any *from) {
    using Type = typename Word<sizeof(Any)>::Type;
    const Type word = __ldcs(reinterpret_cast<const Type *>(from));
    return *reinterpret_cast<const Any *>(&word);
}
template <class Any> LAS_INLINE void write_once(Any *to, const Any &value) {
    using Type = typename Word<sizeof(Any)>::Type;
    __stcs(reinterpret_cast<Type *>(to), *reinterpret_cast<const Type *>(&value));
}
#else
template <class Any> LAS_INLINE Any read_once(const Any *from) { return *from; }
template <class Any> LAS_INLINE void write_once(Any *to, const Any &value) { *to = value; }
#endif

template <int PACK, class Element> LAS_INLINE Pack<Element, PACK> read_pack(const Element *from) {
    return read_once(reinterpret_cast<const Pack<Element, PACK> *>(from));
}
template <int PACK, class Element> LAS_INLINE void write_pack(Element *to, const RealFor<Element> *values) {
    write_once(reinterpret_cast<Pack<Element, PACK> *>(to), packed<Element, PACK>(values));
}

// Adds the values of COUNT steps, read before the first one is used.
template <int COUNT, int PACK, class Element>
LAS_INLINE void add_steps(const Element *from, Index stride, bool is_first, RealFor<Element> *v) {
    Pack<Element, PACK> steps[COUNT];
    LAS_UNROLL for (int j = 0; j < COUNT; j++) steps[j] = read_pack<PACK>(from + j * stride);
    LAS_UNROLL for (int j = 0; j < COUNT; j++) {
        RealFor<Element> values[PACK];
        unpack<PACK>(steps[j], values);
        LAS_EACH(i) v[i] = is_first && j == 0 ? values[i] : v[i] + values[i];
    }
}

// Currents summed over their steps, in order.
template <int PACK, class Element>
LAS_INLINE void sum_steps(const Element *from, Index steps, Index stride, RealFor<Element> *v) {
    constexpr int AT_ONCE = 4;
    Index t = 1;
    if (steps < AT_ONCE) add_steps<1, PACK>(from, stride, true, v);
    else add_steps<AT_ONCE, PACK>(from, stride, true, v), t = AT_ONCE;
    for (; t + AT_ONCE <= steps; t += AT_ONCE) add_steps<AT_ONCE, PACK>(from + t * stride, stride, false, v);
    for (; t < steps; t++) add_steps<1, PACK>(from + t * stride, stride, false, v);
}

}  // namespace las::gpu
