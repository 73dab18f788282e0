// Threads that share the pieces of one operation, made for machines that others use too.
//
// Whoever is awake takes the next piece; the caller takes pieces as well and returns when all are
// done. It never waits for a helper that has not begun: on a crowded machine a helper may not get
// a core for milliseconds, and an ordinary barrier after each of two hundred operations per step
// would wait for it each time. For the same reason a process forked off, which has no helpers,
// still gets its work done.
//
//     ticket = epoch | next piece      one word, so that a late helper cannot take a piece of an
//                                      operation it has not read
#pragma once

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace penstock {

class Pool {
  public:
    // Runs work(argument, piece) for every piece in [0, count), on up to `threads` threads.
    void run(void (*work)(void*, long), void* argument, long count, int threads) {
        std::unique_lock<std::mutex> alone(busy_, std::try_to_lock);
        if (threads < 2 || count < 2 || !alone.owns_lock()) {
            for (long piece = 0; piece < count; piece++) work(argument, piece);
            return;
        }
        if (helpers_ < threads - 1) hire(threads - 1);
        const uint64_t epoch = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
        ticket_.store(epoch << 32 | CLOSED);  // first nobody can take, then the operation changes
        std::atomic_thread_fence(std::memory_order_release);
        work_.store(work, std::memory_order_relaxed);
        argument_.store(argument, std::memory_order_relaxed);
        count_.store(count, std::memory_order_relaxed);
        threads_.store(threads, std::memory_order_relaxed);
        done_.store(0, std::memory_order_relaxed);
        ticket_.store((epoch + 1) << 32, std::memory_order_release);
        bell_.fetch_add(1);
        bell_.notify_all();
        take_pieces(0);
        for (int spins = 0; done_.load(std::memory_order_acquire) < count; spins++)
            spins < SPINS ? relax() : std::this_thread::yield();
    }

  private:
    static constexpr uint64_t CLOSED = 0xffffffff;
    static constexpr int SPINS = 2000;  // tens of microseconds: longer than Python's way to the next call

    static void relax() {
#if defined(__x86_64__)
        _mm_pause();
#else
        std::this_thread::yield();
#endif
    }

    // Starts helpers until there are `wanted`, or as many as the system allows.
    void hire(int wanted) {
        sigset_t every, before;
        sigfillset(&every);  // signals are for threads that run Python, and the mask is inherited
        pthread_sigmask(SIG_BLOCK, &every, &before);
        try {
            for (; helpers_ < wanted; helpers_++) std::thread(&Pool::help, this, helpers_).detach();
        } catch (const std::exception&) {  // those there are do the work, at worst the caller alone
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    void help(int index) {
        for (uint32_t heard = bell_.load();;) {
            for (int spins = 0; spins < SPINS && bell_.load() == heard; spins++) relax();
            bell_.wait(heard);
            heard = bell_.load();
            take_pieces(index + 1);
        }
    }

    void take_pieces(int thread) {
        uint64_t ticket = ticket_.load(std::memory_order_acquire);
        const uint64_t epoch = ticket >> 32;
        const auto work = work_.load(std::memory_order_relaxed);
        const auto argument = argument_.load(std::memory_order_relaxed);
        const uint64_t count = count_.load(std::memory_order_relaxed);
        if (thread >= threads_.load(std::memory_order_relaxed)) return;
        std::atomic_thread_fence(std::memory_order_acquire);  // with the release fence in `run`
        // A ticket still of this epoch proves that what was read above belongs to it.
        while (ticket >> 32 == epoch && (ticket & CLOSED) < count) {
            if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel,
                                               std::memory_order_acquire))
                continue;
            work(argument, long(ticket & CLOSED));
            done_.fetch_add(1, std::memory_order_release);
            ticket = ticket_.load(std::memory_order_acquire);
        }
    }

    std::mutex busy_;  // a second caller at the same time works alone
    int helpers_ = 0;
    alignas(64) std::atomic<uint64_t> ticket_{CLOSED};
    alignas(64) std::atomic<uint32_t> bell_{0};
    alignas(64) std::atomic<long> done_{0};
    std::atomic<void (*)(void*, long)> work_{nullptr};
    std::atomic<void*> argument_{nullptr};
    std::atomic<uint64_t> count_{0};
    std::atomic<int> threads_{1};
};

// The process's pool. It is never torn down: helpers may still sleep in it when the process ends.
inline Pool& pool() {
    static Pool* const shared = new Pool;
    return *shared;
}

// Calls body(piece) for every piece in [0, count).
template <class Body>
void parallel(long count, int threads, Body body) {
    pool().run([](void* argument, long piece) { (*static_cast<Body*>(argument))(piece); }, &body,
               count, threads);
}

// Calls body(row) for every row in [0, rows), in pieces of about `work_per_piece` elements.
template <class Body>
void parallel_rows(long rows, long row_size, int threads, Body body) {
    constexpr long WORK_PER_PIECE = 1 << 14;
    const long most = std::max(1L, rows * row_size / WORK_PER_PIECE);
    const long pieces = std::max(1L, std::min({rows, most, 8L * threads}));
    parallel(pieces, threads, [&](long piece) {
        for (long row = rows * piece / pieces; row < rows * (piece + 1) / pieces; row++) body(row);
    });
}

}  // namespace penstock
