// Loops that do nothing but multiply and add, or read. Each names its registers, so that no compiler
// keeps the sums elsewhere. Offered where the processor has the instruction.
#include <cstdint>

#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define TWENTY_FOUR(X) \
    TWELVE(X) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23)
#define CLOBBERED(n) , "xmm" #n

#define LOOP(NAME, INSTRUCTION)                                                                    \
    void NAME(long loops) {                                                                        \
        asm volatile("vpxord %%zmm30, %%zmm30, %%zmm30\n"                                          \
                     "vpxord %%zmm31, %%zmm31, %%zmm31" ::: "xmm30", "xmm31");                     \
        for (long i = 0; i < loops; i++)                                                           \
            asm volatile(TWENTY_FOUR(INSTRUCTION)::: "memory" TWENTY_FOUR(CLOBBERED));             \
    }

#define FLOATS(n) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #n "\n"
#define PAIRS(n) "vdpbf16ps %%zmm30, %%zmm31, %%zmm" #n "\n"
#define FOURS(n) "vpdpbusd %%zmm30, %%zmm31, %%zmm" #n "\n"

extern "C" {
int accumulators() { return 24; }

#if defined(__AVX512F__)
LOOP(multiply_float32, FLOATS)
#endif
#if defined(__AVX512BF16__)
LOOP(multiply_bfloat16, PAIRS)
#endif
#if defined(__AVX512VNNI__)
LOOP(multiply_int8, FOURS)
#endif

uint64_t read_bytes(const void* memory, long bytes) {
    const auto* words = static_cast<const uint64_t*>(memory);
    uint64_t sums[8] = {};
    for (long i = 0; i < bytes / 8; i += 8)
        for (int lane = 0; lane < 8; lane++) sums[lane] ^= words[i + lane];
    uint64_t all = 0;
    for (uint64_t sum : sums) all ^= sum;
    return all;
}
}
