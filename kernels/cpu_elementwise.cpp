// Norms, gates and rotations: what stands between two matrix products.
// Each row is one thread's work and its sums run in a fixed order, so a row's result does not depend
// on what else is in the step. Specified by kernels/reference.py.
#include <cmath>

#include "cpu_pool.h"
#include "cpu_vector.h"

namespace penstock {
namespace {

constexpr int MAX_HEAD_DIM = 256;

// One over the root mean square.
template <class T>
float rms_scale(const T* x, int size, float eps) {
    Vec squares = {};
    int i = 0;
    for (; i + LANES <= size; i += LANES) squares += load(x + i) * load(x + i);
    float total = sum_of(squares);
    for (; i < size; i++) total += wide(x[i]) * wide(x[i]);
    return 1.0f / std::sqrt(total / size + eps);
}

template <class T>
void scale_row(const T* x, float scale, const float* weight, T* out, int size) {
    int i = 0;
    for (; i + LANES <= size; i += LANES)
        store(out + i, load(x + i) * scale * load(weight + i));
    for (; i < size; i++) put(out + i, wide(x[i]) * scale * weight[i]);
}

template <class T>
void norm_row(const T* x, const float* weight, T* out, int size, float eps) {
    scale_row(x, rms_scale(x, size, eps), weight, out, size);
}

template <class T>
void rms_norm(const T* x, const float* weight, T* out, long rows, int size, float eps, int threads) {
    parallel_rows(rows, size, threads, [&](long row) {
        norm_row(x + row * size, weight, out + row * size, size, eps);
    });
}

template <class T>
void add_rms_norm(const T* x, T* residual, const float* weight, T* out, long rows, int size,
                  float eps, int threads) {
    parallel_rows(rows, size, threads, [&](long row) {
        const T* add = x + row * size;
        T* sum = residual + row * size;
        int i = 0;
        for (; i + LANES <= size; i += LANES) store(sum + i, load(sum + i) + load(add + i));
        for (; i < size; i++) put(sum + i, wide(sum[i]) + wide(add[i]));
        norm_row(sum, weight, out + row * size, size, eps);
    });
}

// Both gates are g / (1 + e^-z). SiLU has z = g; GELU by its tanh formula is
// g / 2 (1 + tanh u) with z = 2 u, where no digits cancel.
struct Silu {
    template <class V>
    static V bend(V g) { return g; }
};
struct Gelu {
    template <class V>
    static V bend(V g) { return 1.59576912f * (g + 0.044715f * (g * g * g)); }  // 2 sqrt(2 / pi)
};

template <class Gate, class T>
void gate_and_mul(const T* gate_up, T* out, long rows, int size, int threads) {
    parallel_rows(rows, size, threads, [&](long row) {
        const T* gate = gate_up + row * 2 * size;
        const T* up = gate + size;
        T* to = out + row * size;
        int i = 0;
        for (; i + LANES <= size; i += LANES) {
            Vec g = load(gate + i);
            store(to + i, g / (1.0f + exponential(-Gate::bend(g))) * load(up + i));
        }
        for (; i < size; i++) {
            float g = wide(gate[i]);
            put(to + i, g / (1.0f + std::exp(-Gate::bend(g))) * wide(up[i]));
        }
    });
}

void bound(float* x, float limit, long rows, int size, int threads) {
    parallel_rows(rows, size, threads, [&](long row) {
        float* at = x + row * size;
        int i = 0;
        for (; i + LANES <= size; i += LANES)
            store(at + i, limit * hyperbolic_tangent(load(at + i) / limit));
        if (i == size) return;
        Vec last = {};  // the tail takes the same road as the rest
        std::memcpy(&last, at + i, (size - i) * sizeof(float));
        last = limit * hyperbolic_tangent(last / limit);
        std::memcpy(at + i, &last, (size - i) * sizeof(float));
    });
}

// Norms of the heads of one token: each by itself, or all together with one weight for each place.
template <class T>
class HeadNorm {
  public:
    HeadNorm(const T* heads, int count, int dim, const float* weight, float eps, bool together)
        : weight_(weight), eps_(eps), dim_(dim), together_(together),
          scale_(weight && together ? rms_scale(heads, count * dim, eps) : 0) {}

    // Returns head number `index`, normed into `room` if there is a weight.
    const T* operator()(const T* head, int index, T* room) const {
        if (!weight_) return head;
        if (together_)
            scale_row(head, scale_, weight_ + index * dim_, room, dim_);
        else
            norm_row(head, weight_, room, dim_, eps_);
        return room;
    }

  private:
    const float* weight_;  // nullptr: no norm
    float eps_;
    int dim_;
    bool together_;
    float scale_;
};

// One head rotated, in float32: out[i] and out[i + half] turn together.
template <class T>
void rotate_head(const T* head, const float* cos_sin, int dim, float* out) {
    const int half = dim / 2;
    const float *cosines = cos_sin, *sines = cos_sin + half;
    for (int i = 0; i < half; i++) {
        float first = wide(head[i]), second = wide(head[i + half]);
        out[i] = first * cosines[i] - second * sines[i];
        out[i + half] = second * cosines[i] + first * sines[i];
    }
}

template <class T>
void rotate_and_cache(const T* qkv, const int64_t* positions, const float* table, T* key_cache,
                      T* value_cache, const int64_t* slots, const float* query_norm,
                      const float* key_norm, float eps, int norm_together, T* query, long tokens,
                      int heads, int kv_heads, int dim, int block_size, long block_stride,
                      int threads) {
    const int size = (heads + 2 * kv_heads) * dim;
    parallel_rows(tokens, size, threads, [&](long token) {
        float turned[MAX_HEAD_DIM];
        T normed[MAX_HEAD_DIM];
        const T* head = qkv + token * size;
        const float* cos_sin = table + positions[token] * dim;
        T* to = query + token * heads * dim;
        const HeadNorm<T> norm_query(head, heads, dim, query_norm, eps, norm_together);
        for (int h = 0; h < heads; h++, head += dim, to += dim) {
            rotate_head(norm_query(head, h, normed), cos_sin, dim, turned);
            for (int d = 0; d < dim; d++) put(to + d, turned[d]);
        }
        if (slots[token] < 0) return;
        const long block = slots[token] / block_size, offset = slots[token] % block_size;
        T* keys = key_cache + block * block_stride + offset;           // [kv_head, dim, block_size]
        T* values = value_cache + block * block_stride + offset * dim;  // [kv_head, block_size, dim]
        const HeadNorm<T> norm_key(head, kv_heads, dim, key_norm, eps, norm_together);
        for (int h = 0; h < kv_heads; h++, head += dim, keys += dim * block_size) {
            rotate_head(norm_key(head, h, normed), cos_sin, dim, turned);
            for (int d = 0; d < dim; d++) put(keys + d * block_size, turned[d]);
        }
        for (int h = 0; h < kv_heads; h++, head += dim, values += dim * block_size)
            std::memcpy(values, head, dim * sizeof(T));
    });
}

}  // namespace
}  // namespace penstock

using penstock::bf16;

#define PENSTOCK_EXPORT(T, NAME)                                                                    \
    void rms_norm_##NAME(const T* x, const float* weight, T* out, long rows, int size, float eps,   \
                         int threads) {                                                             \
        penstock::rms_norm(x, weight, out, rows, size, eps, threads);                               \
    }                                                                                               \
    void add_rms_norm_##NAME(const T* x, T* residual, const float* weight, T* out, long rows,       \
                             int size, float eps, int threads) {                                    \
        penstock::add_rms_norm(x, residual, weight, out, rows, size, eps, threads);                 \
    }                                                                                               \
    void silu_and_mul_##NAME(const T* gate_up, T* out, long rows, int size, int threads) {          \
        penstock::gate_and_mul<penstock::Silu>(gate_up, out, rows, size, threads);                  \
    }                                                                                               \
    void gelu_and_mul_##NAME(const T* gate_up, T* out, long rows, int size, int threads) {          \
        penstock::gate_and_mul<penstock::Gelu>(gate_up, out, rows, size, threads);                  \
    }                                                                                               \
    void rotate_and_cache_##NAME(const T* qkv, const int64_t* positions, const float* table,        \
                                 T* key_cache, T* value_cache, const int64_t* slots,                \
                                 const float* query_norm, const float* key_norm, float eps,         \
                                 int norm_together, T* query, long tokens, int heads, int kv_heads, \
                                 int dim, int block_size, long block_stride, int threads) {         \
        penstock::rotate_and_cache(qkv, positions, table, key_cache, value_cache, slots,            \
                                   query_norm, key_norm, eps, norm_together, query, tokens, heads,  \
                                   kv_heads, dim, block_size, block_stride, threads);               \
    }

extern "C" {
PENSTOCK_EXPORT(float, float32)
PENSTOCK_EXPORT(bf16, bfloat16)

void bound_float32(float* x, float limit, long rows, int size, int threads) {
    penstock::bound(x, limit, rows, size, threads);
}
}
