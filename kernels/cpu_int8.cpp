// Matrix products in whole numbers of 8 bits: rows and outputs each have a scale of their own.
// Specified by kernels/reference.py, "quantized_projection".
//
//     out [M, N] = (x [M, K] . weight [N, K]^T) * x_scale [M] * weight_scale [N] + bias [N]
//
// The processor multiplies bytes without a sign by bytes with one, so x is stored with 128 added, and
// 128 times the sum of its weights is taken from every output again. Sums are 32-bit integers and
// exact. Offered only with AVX512_VNNI.
#if defined(__AVX512VNNI__)
#include <immintrin.h>

#include <cmath>
#include <limits>

#include "cpu_panels.h"

namespace penstock {

template <>
struct Dot<uint8_t> {
    static constexpr int DEPTH = 4;
    using Sum = Ints;
    using Number = int32_t;
    static __m512i broadcast(const uint8_t* x) {
        int four;
        std::memcpy(&four, x, sizeof four);
        return _mm512_set1_epi32(four);
    }
    static Ints add(Ints sum, __m512i x, const uint8_t* weight) {
        return (Ints)_mm512_dpbusd_epi32((__m512i)sum, x, _mm512_loadu_si512(weight));
    }
};

namespace {

constexpr int LARGEST = 127, ZERO = 128;
constexpr float NEGLIGIBLE = 1e-30f;  // below it 127 / x would overflow

// Like `reference.quantize_rows`; columns [columns, depth) are filled with zeros.
template <class T>
float quantize_row(const T* x, uint8_t* out, int columns, int depth) {
    Ints most = {};  // of the bits without their sign: NaN is above infinity, infinity above all else
    int i = 0;
    for (; i + LANES <= columns; i += LANES) {
        const Ints bits = (Ints)load(x + i) & 0x7fffffff;
        most = bits > most ? bits : most;
    }
    for (; i < columns; i++) most[0] = std::max(most[0], ((Ints)(Vec{} + wide(x[i])))[0] & 0x7fffffff);
    int32_t top = 0;
    for (int lane = 0; lane < LANES; lane++) top = std::max(top, most[lane]);
    float largest;
    std::memcpy(&largest, &top, sizeof largest);

    std::memset(out, ZERO, depth);
    if (!std::isfinite(largest)) return std::numeric_limits<float>::quiet_NaN();
    if (largest < NEGLIGIBLE) return 0;
    const float factor = LARGEST / largest;
    for (i = 0; i + LANES <= columns; i += LANES) {
        const __m512i whole = _mm512_cvtps_epi32((__m512)(load(x + i) * factor));  // ties to even
        const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(whole, _mm512_set1_epi32(ZERO)));
        std::memcpy(out + i, &bytes, sizeof bytes);
    }
    for (; i < columns; i++) out[i] = uint8_t(int(std::nearbyint(wide(x[i]) * factor)) + ZERO);
    return largest / LARGEST;
}

template <class T>
void quantize_rows(const T* x, uint8_t* out, float* scales, long rows, int columns, int depth,
                   int threads) {
    parallel_rows(rows, depth, threads, [&](long row) {
        scales[row] = quantize_row(x + row * columns, out + row * depth, columns, depth);
    });
}

template <class Out>
void matmul_int8(const uint8_t* x, const float* x_scales, const int8_t* panels,
                 const float* weight_scales, const int32_t* weight_sums, const float* bias, Out* out,
                 long rows, int depth, int columns, int threads) {
    const auto* unsigned_panels = reinterpret_cast<const uint8_t*>(panels);
    const long num_panels = (columns + PANEL - 1) / PANEL;
    multiply(x, unsigned_panels, rows, depth, num_panels, threads,
             [=](long row, long panel, const int32_t* sums) {
                 const long first = panel * PANEL;
                 const int count = int(std::min<long>(PANEL, columns - first));
                 float results[PANEL];
                 for (int n = 0; n < PANEL; n++) {  // the tables are as long as the panels
                     const float sum = float(sums[n] - ZERO * weight_sums[first + n]);
                     results[n] = sum * (x_scales[row] * weight_scales[first + n]);
                 }
                 if (bias)
                     for (int n = 0; n < count; n++) results[n] += bias[first + n];
                 put_panel(out + row * columns + first, results, count);
             });
}

}  // namespace
}  // namespace penstock

using penstock::bf16;

#define PENSTOCK_EXPORT(T, NAME)                                                                   \
    void quantize_rows_##NAME(const T* x, uint8_t* out, float* scales, long rows, int columns,     \
                              int depth, int threads) {                                            \
        penstock::quantize_rows(x, out, scales, rows, columns, depth, threads);                    \
    }                                                                                              \
    void matmul_int8_##NAME(const uint8_t* x, const float* x_scales, const int8_t* panels,         \
                            const float* weight_scales, const int32_t* weight_sums,                \
                            const float* bias, T* out, long rows, int depth, int columns,          \
                            int threads) {                                                         \
        penstock::matmul_int8(x, x_scales, panels, weight_scales, weight_sums, bias, out, rows,    \
                              depth, columns, threads);                                            \
    }

extern "C" {
PENSTOCK_EXPORT(float, float32)
PENSTOCK_EXPORT(bf16, bfloat16)
}
#endif
