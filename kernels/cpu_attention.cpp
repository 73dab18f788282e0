// Attention over the paged cache for prefill and decode rows alike. Specified by
// kernels/reference.py, "paged_attention".
//
// All query heads of one KV head that a tile can hold are worked on together, so each key and value
// is read once for up to TILE_ROWS of them:
//
//     tile row r  =  query token r / group, head kv_head * group + r % group
//
// Keys lie as [kv_head, dim, block_size], so one register holds one dimension of 16 keys and scores
// need no sum across lanes. Softmax runs online over chunks that begin at multiples of CHUNK from
// the row's start, and masked keys add exact zeros: a token's result does not depend on the chunks
// and batches it was computed in.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <new>
#include <type_traits>
#include <vector>

#include "cpu_pool.h"
#include "cpu_vector.h"

namespace penstock {
namespace {

constexpr int MAX_HEAD_DIM = 256;
constexpr int CHUNK = 256;  // keys between two rescalings
constexpr long SMALL_WORK = 2048;  // query heads times keys: not worth waking other threads
constexpr int GROUPS = CHUNK / LANES;
constexpr float NOTHING = -std::numeric_limits<float>::infinity();

template <class T>
struct Step {
    const T *query, *key_cache, *value_cache;
    const int32_t *query_start, *context_lens, *block_tables;
    T* out;
    int max_blocks, heads, kv_heads, dim, block_size;
    long block_stride;
    float scale;
    int window;     // 0: none
    float softcap;  // 0: none
};

struct Tile {
    int row, kv_head, first, count;
};

// Asks for the [dim, 16] elements from `at` on. Blocks are scattered over memory, one page or less
// each, where the processor's own prefetching does not follow.
template <class T>
void fetch(const T* at, int dim) {
    const char* line = reinterpret_cast<const char*>(at);
    for (const char* end = line + dim * LANES * sizeof(T); line < end; line += 64)
        __builtin_prefetch(line);
}

// scores[r][16 b .. 16 b + 15] = query row r . keys of group b
template <int R, int B, class T>
void score(const float* query, int dim, const T* const* keys, int block_size, float* scores) {
    Vec sums[B][R] = {};
    for (int d = 0; d < dim; d++) {
#pragma GCC unroll 4
        for (int b = 0; b < B; b++) {
            Vec key = load(keys[b] + long(d) * block_size);
#pragma GCC unroll 12
            for (int r = 0; r < R; r++) sums[b][r] += query[r * dim + d] * key;
        }
    }
    for (int b = 0; b < B; b++)
        for (int r = 0; r < R; r++) store(scores + r * CHUNK + b * LANES, sums[b][r]);
}

// Keeps scores below the soft cap, like reference.py's "bound", and scales them.
void bend(float* scores, int num_keys, float scale, float softcap) {
    for (int i = 0; i < num_keys; i += LANES)
        store(scores + i, softcap * hyperbolic_tangent(load(scores + i) * (scale / softcap)));
}

// out[r][0 .. 16 N - 1] += sum over keys of weights[r][key] * values[key]
template <int R, int N, class T>
void gather(const float* weights, const T* const* values, int num_keys, int dim, float* out) {
    Vec sums[R][N];
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) sums[r][n] = load(out + r * dim + n * LANES);
    for (int key = 0; key < num_keys; key++) {
        const T* value = values[key / LANES] + long(key % LANES) * dim;
        Vec parts[N];
        for (int n = 0; n < N; n++) parts[n] = load(value + n * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < R; r++)
#pragma GCC unroll 4
            for (int n = 0; n < N; n++) sums[r][n] += weights[r * CHUNK + key] * parts[n];
    }
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) store(out + r * dim + n * LANES, sums[r][n]);
}

// Turns scores into weights e^(score - max) for keys in [low, high), zeros elsewhere, and rescales
// what was gathered so far to the new max. The max passes NaN over; its weight, and so the total and
// all that is gathered, is NaN. So it is with infinity, which is its own max: inf - inf.
void soften(float* scores, int num_keys, int low, int high, float scale, float& max, float& total,
            float* out, int dim) {
    const Ints lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const Vec nothing = Vec{} + NOTHING;
    Vec most = nothing;
    for (int i = 0; i < num_keys; i += LANES) {
        Vec scaled = load(scores + i) * scale;
        if (i < low || i + LANES > high)  // a border: some of the 16 are masked
            scaled = (lane + i >= low) & (lane + i < high) ? scaled : nothing;
        store(scores + i, scaled);
        most = larger(scaled, most);
    }
    const float new_max = std::max(max, largest_of(most));
    Vec sum = {};
    if (new_max == NOTHING) {  // no key is seen, or none whose score is a number
        for (int i = 0; i < num_keys; i += LANES) {
            Vec score = load(scores + i);
            Vec weight = score == nothing ? Vec{} : score;
            store(scores + i, weight);
            sum += weight;
        }
        total += sum_of(sum);
        return;
    }
    for (int i = 0; i < num_keys; i += LANES) {
        Vec score = load(scores + i);
        Vec weight = exponential(score - new_max);
        if (i < low || i + LANES > high) weight = score == nothing ? Vec{} : weight;
        store(scores + i, weight);
        sum += weight;
    }
    const float kept = max == NOTHING ? 0.0f : std::exp(max - new_max);
    total = total * kept + sum_of(sum);
    max = new_max;
    for (int d = 0; d < dim; d += LANES) store(out + d, load(out + d) * kept);
}

// Rows are padded to one of a few counts, each with its own register tile.
template <class F>
void with_tile(int rows, F work) {
    if (rows <= 1) return work(std::integral_constant<int, 1>{});
    if (rows <= 2) return work(std::integral_constant<int, 2>{});
    if constexpr (TILE_ROWS == 4) {
        return work(std::integral_constant<int, 4>{});
    } else {
        if (rows <= 4) return work(std::integral_constant<int, 4>{});
        if (rows <= 8) return work(std::integral_constant<int, 8>{});
        return work(std::integral_constant<int, 12>{});
    }
}

template <class T>
void attend(const Step<T>& step, const Tile& tile) {
    alignas(64) float query[TILE_ROWS * MAX_HEAD_DIM], scores[TILE_ROWS * CHUNK];
    alignas(64) float out[TILE_ROWS * MAX_HEAD_DIM];
    float max[TILE_ROWS], total[TILE_ROWS];
    int low[TILE_ROWS], high[TILE_ROWS];
    const int dim = step.dim, group = step.heads / step.kv_heads;
    const int begin = step.query_start[tile.row];
    const int num_queries = step.query_start[tile.row + 1] - begin;
    const int offset = step.context_lens[tile.row] - num_queries;  // place of the first query

    auto head_of = [&](int r) {
        const int flat = tile.first + r;
        return (long(begin + flat / group) * step.heads + tile.kv_head * group + flat % group) * dim;
    };
    std::fill(query, query + TILE_ROWS * dim, 0.0f);
    std::fill(out, out + TILE_ROWS * dim, 0.0f);
    for (int r = 0; r < tile.count; r++) {
        for (int d = 0; d < dim; d += LANES)
            store(query + r * dim + d, load(step.query + head_of(r) + d));
        high[r] = offset + (tile.first + r) / group + 1;
        low[r] = step.window ? std::max(0, high[r] - step.window) : 0;
        max[r] = NOTHING;
        total[r] = 0;
    }
    const int first_key = low[0], end_key = high[tile.count - 1];

    const int32_t* table = step.block_tables + long(tile.row) * step.max_blocks;
    const long in_block = long(tile.kv_head) * dim * step.block_size;
    for (int chunk = first_key / CHUNK * CHUNK; chunk < end_key; chunk += CHUNK) {
        // Only groups that hold a key somebody sees are touched.
        const int start = std::max(chunk, first_key / LANES * LANES);
        const int num_keys = std::min(chunk + CHUNK, end_key) - start;
        const int num_groups = (num_keys + LANES - 1) / LANES;
        const T *keys[GROUPS + 4] = {}, *values[GROUPS];
        for (int g = 0; g < num_groups; g++) {
            const int key = start + g * LANES;
            const long block = table[key / step.block_size] * step.block_stride + in_block;
            keys[g] = step.key_cache + block + key % step.block_size;
            values[g] = step.value_cache + block + long(key % step.block_size) * dim;
            if (step.block_size == LANES) fetch(keys[g], dim);
        }
        for (int g = 0; g < 4; g++) keys[num_groups + g] = keys[0];  // computed, never seen

        with_tile(tile.count, [&](auto rows) {
            constexpr int R = decltype(rows)::value, B = R <= 2 ? 4 : R <= 4 ? 2 : 1;
            for (int g = 0; g < num_groups; g += B) {  // GROUPS is a multiple of B: no overrun
                for (int b = g; b < std::min(g + B, num_groups); b++) fetch(values[b], dim);
                score<R, B>(query, dim, keys + g, step.block_size, scores + g * LANES);
            }
        });
        if (step.softcap)
            for (int r = 0; r < tile.count; r++)
                bend(scores + r * CHUNK, num_groups * LANES, step.scale, step.softcap);
        for (int r = 0; r < tile.count; r++)
            soften(scores + r * CHUNK, num_groups * LANES, low[r] - start, high[r] - start,
                   step.softcap ? 1.0f : step.scale, max[r], total[r], out + r * dim, dim);
        with_tile(tile.count, [&](auto rows) {
            constexpr int R = decltype(rows)::value, N = R <= 4 ? 4 : 2;
            int d = 0;
            for (; d + N * LANES <= dim; d += N * LANES) {
                const T* parts[GROUPS];
                for (int g = 0; g < num_groups; g++) parts[g] = values[g] + d;
                gather<R, N>(scores, parts, num_keys, dim, out + d);
            }
            for (; d < dim; d += LANES) {
                const T* parts[GROUPS];
                for (int g = 0; g < num_groups; g++) parts[g] = values[g] + d;
                gather<R, 1>(scores, parts, num_keys, dim, out + d);
            }
        });
    }
    for (int r = 0; r < tile.count; r++)
        for (int d = 0; d < dim; d += LANES)
            store(step.out + head_of(r) + d, load(out + r * dim + d) / total[r]);
}

template <class T>
void paged_attention(const Step<T>& step, int rows, int threads) {
    const int group = step.heads / step.kv_heads;
    long work = 0;
    auto for_each_tile = [&](auto visit) {
        for (int row = 0; row < rows; row++) {
            const int flat = (step.query_start[row + 1] - step.query_start[row]) * group;
            work += long(flat) * step.context_lens[row];
            for (int kv_head = 0; kv_head < step.kv_heads; kv_head++)
                for (int first = 0; first < flat; first += TILE_ROWS)
                    visit(Tile{row, kv_head, first, std::min(TILE_ROWS, flat - first)});
        }
    };
    std::vector<Tile> tiles;
    try {
        for_each_tile([&](const Tile& tile) { tiles.push_back(tile); });
    } catch (const std::bad_alloc&) {  // no memory to share the work out: no reason to fail
        for_each_tile([&](const Tile& tile) { attend(step, tile); });
        return;
    }
    parallel(tiles.size(), work < SMALL_WORK ? 1 : threads,
             [&](long tile) { attend(step, tiles[tile]); });
}

}  // namespace
}  // namespace penstock

using penstock::bf16;

#define PENSTOCK_EXPORT(T, NAME)                                                                    \
    void paged_attention_##NAME(const T* query, const T* key_cache, const T* value_cache,           \
                                const int32_t* query_start, const int32_t* context_lens,            \
                                const int32_t* block_tables, T* out, int rows, int max_blocks,      \
                                int heads, int kv_heads, int dim, int block_size,                   \
                                long block_stride, float scale, int window, float softcap,          \
                                int threads) {                                                      \
        penstock::paged_attention<T>({query, key_cache, value_cache, query_start, context_lens,     \
                                      block_tables, out, max_blocks, heads, kv_heads, dim,          \
                                      block_size, block_stride, scale, window, softcap},            \
                                     rows, threads);                                                \
    }

extern "C" {
PENSTOCK_EXPORT(float, float32)
PENSTOCK_EXPORT(bf16, bfloat16)
}
