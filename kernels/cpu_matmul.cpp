// Matrix products in float32 and bfloat16: out [M, N] = x [M, K] . weight [N, K]^T + bias [N].
//
// How they are cut up stands in cpu_panels.h. Sums are float32 in both; bfloat16 products are
// AVX512_BF16's, two per lane and step, and offered only with it.
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "cpu_panels.h"

namespace penstock {

template <>
struct Dot<float> {
    static constexpr int DEPTH = 1;
    using Sum = Vec;
    using Number = float;
    static Vec broadcast(const float* x) { return Vec{} + *x; }
    static Vec add(Vec sum, Vec x, const float* weight) { return sum + x * load(weight); }
};

#if defined(__AVX512BF16__)
template <>
struct Dot<bf16> {
    static constexpr int DEPTH = 2;
    using Sum = Vec;
    using Number = float;
    static __m512bh broadcast(const bf16* x) {
        int pair;
        std::memcpy(&pair, x, sizeof pair);
        return (__m512bh)_mm512_set1_epi32(pair);
    }
    static Vec add(Vec sum, __m512bh x, const bf16* weight) {
        return (Vec)_mm512_dpbf16_ps((__m512)sum, x, (__m512bh)_mm512_loadu_si512(weight));
    }
};
#endif

namespace {

template <class T, class Out>
void matmul(const T* x, const T* panels, const float* bias, Out* out, long rows, int depth,
            int columns, int threads) {
    const long num_panels = (columns + PANEL - 1) / PANEL;
    multiply(x, panels, rows, depth, num_panels, threads, [=](long row, long panel, float* sums) {
        const long first = panel * PANEL;
        const int count = int(std::min<long>(PANEL, columns - first));
        if (bias)
            for (int n = 0; n < count; n++) sums[n] += bias[first + n];
        put_panel(out + row * columns + first, sums, count);
    });
}

}  // namespace
}  // namespace penstock

using penstock::bf16;

#define PENSTOCK_EXPORT(T, OUT, NAME)                                                              \
    void matmul_##NAME(const T* x, const T* panels, const float* bias, OUT* out, long rows,        \
                       int depth, int columns, int threads) {                                      \
        penstock::matmul(x, panels, bias, out, rows, depth, columns, threads);                     \
    }

extern "C" {
PENSTOCK_EXPORT(float, float, float32)
#if defined(__AVX512BF16__)
PENSTOCK_EXPORT(bf16, bf16, bfloat16)
PENSTOCK_EXPORT(bf16, float, bfloat16_wide)
#endif
}
