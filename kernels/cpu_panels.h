// Matrix products with packed weights, of any numbers: sums [M, N] = x [M, K] . weight [N, K]^T.
//
// Weights lie in panels of 32 outputs, so that one step along K reads two registers in order:
//
//     [N / 32][K / depth][32][depth]      `depth` inputs fill 32 bits: 1 float32, 2 bfloat16, 4 int8
//
// Every output is summed along K in order, by one lane: its value does not depend on M, on the other
// rows or on the threads. So a row gives the same bits in every batch.
//
// Knows how a product is cut up for caches and threads. Refuses to know what becomes of the sums: a
// kernel brings `Dot<T>`, one step of one register, and `finish`, which takes 32 sums of a row.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "cpu_pool.h"
#include "cpu_vector.h"

namespace penstock {

constexpr int PANEL = 2 * LANES;

// A block is what a thread takes from the rows, a group from the panels. In bytes, of 1 MiB of L2:
// 240 KiB of activations, 120 KiB of sums and twice 64 KiB of a panel, in use and on its way.
constexpr int BLOCK_ROWS = 10 * TILE_ROWS;
constexpr int GROUP_PANELS = 8;
constexpr int PART_BYTES = 2048;           // of a row: what is summed before the next panel's turn
constexpr int PIECES_PER_THREAD = 4;       // at least, if there is so much: threads are not even
constexpr long SMALL_WORK = 1 << 17;       // products: not worth waking other threads

// A type of numbers, to be specialised where the processor has the instruction:
//     DEPTH        inputs taken per step
//     Sum          a register of sums, and Number, one of them
//     broadcast    DEPTH inputs of a row to all lanes
//     add          a register of sums after one step
template <class T>
struct Dot;

// sums [R][32] += x [R][depth] . panel; both pointers stand at the first of `steps` steps along K.
// Meanwhile `next`, `stride` bytes per step, is called into the caches: the processor's own
// prefetching pauses at every page. At M = 16 this gains half as much again.
template <class T, int R>
void add_tile(const T* x, long x_stride, const T* panel, int steps, typename Dot<T>::Number* sums,
              const char* next, int stride) {
    using D = Dot<T>;
    typename D::Sum left[R], right[R];
    for (int r = 0; r < R; r++) {
        left[r] = load(sums + r * PANEL);
        right[r] = load(sums + r * PANEL + LANES);
    }
    for (int step = 0; step < steps; step++, next += stride) {
        const T* first = panel + long(step) * PANEL * D::DEPTH;
        const T* second = first + LANES * D::DEPTH;
        __builtin_prefetch(next);
        __builtin_prefetch(next + 64);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++) {
            auto value = D::broadcast(x + r * x_stride + step * D::DEPTH);
            left[r] = D::add(left[r], value, first);
            right[r] = D::add(right[r], value, second);
        }
    }
    for (int r = 0; r < R; r++) {
        store(sums + r * PANEL, left[r]);
        store(sums + r * PANEL + LANES, right[r]);
    }
}

template <class T>
using AddTile = void (*)(const T*, long, const T*, int, typename Dot<T>::Number*, const char*, int);

// tiles[R - 1] handles R rows.
template <class T, int... R>
constexpr std::array<AddTile<T>, sizeof...(R)> tiles_of(std::integer_sequence<int, R...>) {
    return {add_tile<T, R + 1>...};
}

// A group of panels for up to BLOCK_ROWS rows; `finish(row, panel, sums)` is called for each of both.
template <class T, class Finish>
void multiply_block(const T* x, const T* panels, int rows, int depth, int num_panels, Finish finish) {
    using D = Dot<T>;
    static constexpr auto tiles = tiles_of<T>(std::make_integer_sequence<int, TILE_ROWS>{});
    constexpr int PART_STEPS = PART_BYTES / int(sizeof(T)) / D::DEPTH;
    constexpr int STEP_BYTES = PANEL * D::DEPTH * sizeof(T);
    alignas(64) typename D::Number sums[GROUP_PANELS * BLOCK_ROWS * PANEL];
    std::fill(sums, sums + num_panels * rows * PANEL, 0);
    const int steps = depth / D::DEPTH, num_tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const int stride = STEP_BYTES / num_tiles;  // all tiles together fetch what comes next
    const long panel_size = long(PANEL) * depth;
    for (int step = 0; step < steps; step += PART_STEPS) {
        const int count = std::min(PART_STEPS, steps - step);
        for (int panel = 0; panel < num_panels; panel++) {
            const bool is_last = panel + 1 == num_panels, is_end = step + count == steps;
            const T* part = panels + panel * panel_size + long(step) * PANEL * D::DEPTH;
            const T* after = !is_last ? part + panel_size
                             : is_end ? panels + num_panels * panel_size  // what the next group has
                                      : panels + long(step + count) * PANEL * D::DEPTH;
            const char* next = reinterpret_cast<const char*>(after);
            for (int tile = 0; tile < num_tiles; tile++) {  // of even height: 13 rows are 7 and 6
                const int begin = rows * tile / num_tiles, end = rows * (tile + 1) / num_tiles;
                tiles[end - begin - 1](x + long(begin) * depth + step * D::DEPTH, depth, part, count,
                                       sums + (panel * rows + begin) * PANEL, next, stride);
                next += long(count) * stride;
            }
        }
    }
    for (int row = 0; row < rows; row++)
        for (int panel = 0; panel < num_panels; panel++)
            finish(row, panel, sums + (panel * rows + row) * PANEL);
}

// x [rows, depth] times all panels; `finish(row, panel, sums)` is called once for each of both, by
// whichever thread, and may change the sums.
template <class T, class Finish>
void multiply(const T* x, const T* panels, long rows, int depth, long num_panels, int threads,
              Finish finish) {
    const long num_blocks = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const long per_piece = num_panels * num_blocks / (long(PIECES_PER_THREAD) * threads);
    const long group = std::clamp(per_piece, 1L, long(GROUP_PANELS));
    const long num_groups = (num_panels + group - 1) / group;
    const bool is_small = rows * depth * num_panels * PANEL < SMALL_WORK;
    // Panels run fastest: a block of rows stays in L2 while all weights go by, fetched ahead.
    parallel(num_blocks * num_groups, is_small ? 1 : threads, [&](long piece) {
        const long block = piece / num_groups, first_panel = piece % num_groups * group;
        const long begin = rows * block / num_blocks, end = rows * (block + 1) / num_blocks;
        multiply_block(x + begin * depth, panels + first_panel * PANEL * depth, int(end - begin),
                       depth, int(std::min(group, num_panels - first_panel)),
                       [&](int row, int panel, typename Dot<T>::Number* sums) {
                           finish(begin + row, first_panel + panel, sums);
                       });
    });
}

// Writes the first `count` of 32 results.
template <class Out>
void put_panel(Out* to, const float* results, int count) {
    if (count == PANEL) {
        store(to, load(results));
        store(to + LANES, load(results + LANES));
    } else {
        for (int n = 0; n < count; n++) put(to + n, results[n]);
    }
}

}  // namespace penstock
