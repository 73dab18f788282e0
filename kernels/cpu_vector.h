// Sixteen floats at a time, on any machine: one AVX-512 register, two of AVX2, four of NEON.
// Knows numbers and registers. Refuses to know tensors.
#pragma once

#include <cstdint>
#include <cstring>

namespace penstock {

constexpr int LANES = 16;
typedef float Vec __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(32)));

struct bf16 {
    uint16_t bits;
};

// Rows that a register tile can hold beside what it streams: 12 x 2 accumulators of 32 registers.
#if defined(__AVX512F__)
constexpr int TILE_ROWS = 12;
#else
constexpr int TILE_ROWS = 4;
#endif

inline float wide(float x) { return x; }
inline float wide(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline Vec load(const float* from) {
    Vec value;
    std::memcpy(&value, from, sizeof value);
    return value;
}
inline Vec load(const bf16* from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof halves);
    return (Vec)(__builtin_convertvector(halves, Ints) << 16);
}

inline Ints load(const int32_t* from) {
    Ints value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

constexpr int32_t QUIET_NAN = 0x400000;  // keeps a NaN one when its low bits go

inline void store(float* to, Vec value) { std::memcpy(to, &value, sizeof value); }
inline void store(int32_t* to, Ints value) { std::memcpy(to, &value, sizeof value); }
inline void store(bf16* to, Vec value) {
    Ints bits = (Ints)value;
    Ints rounded = bits + 0x7fff + ((bits >> 16) & 1);  // to nearest, ties to even
    bits = value == value ? rounded : bits | QUIET_NAN;
    Halves halves = __builtin_convertvector(bits >> 16, Halves);
    std::memcpy(to, &halves, sizeof halves);
}

inline void put(float* to, float value) { *to = value; }
inline void put(bf16* to, float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = value == value ? bits + 0x7fff + ((bits >> 16) & 1) : bits | QUIET_NAN;
    to->bits = uint16_t(bits >> 16);
}

// Where either is NaN, `b`.
inline Vec larger(Vec a, Vec b) { return a > b ? a : b; }
inline Vec smaller(Vec a, Vec b) { return a < b ? a : b; }

// Both fold the vector in halves, always in the same order.
inline float sum_of(Vec v) {
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) v[i] += v[i + width];
    return v[0];
}
inline float largest_of(Vec v) {
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) v[i] = v[i] > v[i + width] ? v[i] : v[i + width];
    return v[0];
}

// e^x to about one unit in the last place; x is clamped to what a float can hold. NaN stays NaN.
inline Vec exponential(Vec x) {
    const Vec zero = {};
    x = smaller(zero + 88.37f, larger(zero - 87.33f, x));
    const float round_to_int = 12582912.0f;  // 1.5 * 2^23: adding it leaves x / ln 2 in the low bits
    Vec shifted = x * 1.44269504f + round_to_int;
    Vec n = shifted - round_to_int;
    Vec r = x - n * 0.693359375f;  // ln 2 in two parts, so that the difference stays exact
    r = r + n * 2.12194440e-4f;
    Vec p = zero + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    Ints power = ((Ints)shifted - 0x4B400000 + 127) << 23;
    return p * (Vec)power;
}

// To about one unit in the last place of 1, which is what a bound on scores needs: tiny results
// are less exact. NaN stays NaN.
inline Vec hyperbolic_tangent(Vec x) {
    return 1.0f - 2.0f / (1.0f + exponential(x + x));
}

}  // namespace penstock
