// Matrix products with packed weights: out [M, N] = x [M, K] . weight [N, K]^T + bias [N].
//
// Weights lie in panels of 32 outputs, so that one step along K reads two registers in order:
//
//     float32   [N / 32][K][32]            one multiply-add per lane and step
//     bfloat16  [N / 32][K / 2][32][2]     two, by AVX512_BF16's dot product; offered only with it
//
// Every output is summed along K in order, in float32, by one lane: its value does not depend on
// M, on the other rows or on the threads. So a row gives the same bits in every batch.
#include <algorithm>
#include <array>
#include <utility>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include "cpu_pool.h"
#include "cpu_vector.h"

namespace penstock {
namespace {

constexpr int PANEL = 2 * LANES;
constexpr int BLOCK_ROWS = 8 * TILE_ROWS;  // rows whose activations stay in L2 across a panel
constexpr int BLOCK_BYTES = 32 * 1024;     // of a panel: stays in L1 across the rows

constexpr long SMALL_WORK = 1 << 17;       // products: not worth waking other threads

// Elements. The processor's own prefetching pauses at every page; this gains 10 to 20 % at M = 64.
constexpr int FETCH_AHEAD = 1024;

template <class T>
struct Dot;

template <>
struct Dot<float> {
    static constexpr int DEPTH = 1;
    static Vec broadcast(const float* x) { return Vec{} + *x; }
    static Vec add(Vec sum, Vec x, const float* weight) { return sum + x * load(weight); }
};

#if defined(__AVX512BF16__)
template <>
struct Dot<bf16> {
    static constexpr int DEPTH = 2;
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

// sums [R][32] += x [R][depth] . panel; both pointers stand at the first of `steps` steps along K.
template <class T, int R>
void add_tile(const T* x, long x_stride, const T* panel, int steps, float* sums) {
    using D = Dot<T>;
    Vec left[R], right[R];
    for (int r = 0; r < R; r++) left[r] = load(sums + r * PANEL), right[r] = load(sums + r * PANEL + LANES);
    for (int step = 0; step < steps; step++) {
        const T* first = panel + long(step) * PANEL * D::DEPTH;
        const T* second = first + LANES * D::DEPTH;
        __builtin_prefetch(first + FETCH_AHEAD);
        __builtin_prefetch(second + FETCH_AHEAD);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            auto value = D::broadcast(x + r * x_stride + step * D::DEPTH);
            left[r] = D::add(left[r], value, first);
            right[r] = D::add(right[r], value, second);
        }
    }
    for (int r = 0; r < R; r++) store(sums + r * PANEL, left[r]), store(sums + r * PANEL + LANES, right[r]);
}

template <class T>
using AddTile = void (*)(const T*, long, const T*, int, float*);

// tiles[R - 1] handles R rows.
template <class T, int... R>
constexpr std::array<AddTile<T>, sizeof...(R)> tiles_of(std::integer_sequence<int, R...>) {
    return {add_tile<T, R + 1>...};
}

// One panel for up to BLOCK_ROWS rows.
template <class T, class Out>
void multiply_block(const T* x, const T* panel, const float* bias, Out* out, int rows, int depth,
                    int columns, long out_stride) {
    static constexpr auto tiles = tiles_of<T>(std::make_integer_sequence<int, TILE_ROWS>{});
    alignas(64) float sums[BLOCK_ROWS * PANEL];
    std::fill(sums, sums + rows * PANEL, 0.0f);
    constexpr int DEPTH = Dot<T>::DEPTH;
    constexpr int BLOCK_STEPS = BLOCK_BYTES / int(sizeof(T)) / PANEL / DEPTH;
    const int steps = depth / DEPTH, num_tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    for (int step = 0; step < steps; step += BLOCK_STEPS) {
        const T* part = panel + long(step) * PANEL * DEPTH;
        for (int tile = 0; tile < num_tiles; tile++) {  // tiles of even height: 13 rows are 7 and 6
            const int begin = rows * tile / num_tiles, end = rows * (tile + 1) / num_tiles;
            tiles[end - begin - 1](x + long(begin) * depth + step * DEPTH, depth, part,
                                   std::min(BLOCK_STEPS, steps - step), sums + begin * PANEL);
        }
    }
    for (int r = 0; r < rows; r++) {
        float* sum = sums + r * PANEL;
        if (bias)
            for (int n = 0; n < columns; n++) sum[n] += bias[n];
        Out* to = out + r * out_stride;
        if (columns == PANEL) {
            store(to, load(sum));
            store(to + LANES, load(sum + LANES));
        } else {
            for (int n = 0; n < columns; n++) put(to + n, sum[n]);
        }
    }
}

template <class T, class Out>
void multiply(const T* x, const T* panels, const float* bias, Out* out, long rows, int depth,
              int columns, int threads) {
    const long num_panels = (columns + PANEL - 1) / PANEL;
    const long num_blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const bool small = rows * depth * columns < SMALL_WORK;
    // Blocks of rows run fastest, so that a panel is read from memory once.
    parallel(num_panels * num_blocks, small ? 1 : threads, [&](long piece) {
        const long panel = piece / num_blocks, block = piece % num_blocks;
        const long first_row = block * BLOCK_ROWS, first_column = panel * PANEL;
        multiply_block(x + first_row * depth, panels + panel * PANEL * depth,
                       bias ? bias + first_column : nullptr,
                       out + first_row * columns + first_column,
                       int(std::min<long>(BLOCK_ROWS, rows - first_row)), depth,
                       int(std::min<long>(PANEL, columns - first_column)), columns);
    });
}

}  // namespace
}  // namespace penstock

using penstock::bf16;

#define PENSTOCK_EXPORT(T, OUT, NAME)                                                              \
    void matmul_##NAME(const T* x, const T* panels, const float* bias, OUT* out, long rows,        \
                       int depth, int columns, int threads) {                                      \
        penstock::multiply(x, panels, bias, out, rows, depth, columns, threads);                   \
    }

extern "C" {
PENSTOCK_EXPORT(float, float, float32)
#if defined(__AVX512BF16__)
PENSTOCK_EXPORT(bf16, bf16, bfloat16)
PENSTOCK_EXPORT(bf16, float, bfloat16_wide)
#endif
}
