/* SPDX-License-Identifier: BUSL-1.1 */
/* The machine's own limits: `probe THREADS` prints bytes read per second and int8 operations
 * per second, best of several short passes, as JSON. Built with -march=native. */
#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PASSES = 6, STREAMS = 4, CHAINS = 12, MOST = 256 };
#define BYTES ((size_t)256 << 20)
#define ROUNDS 4000000L

static pthread_barrier_t together;
static int threads;
static unsigned char *memory;
static volatile int64_t sink;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Four address streams: one alone leaves part of the bandwidth unused. */
static int64_t read_all(const unsigned char *from, size_t bytes) {
    const size_t part = bytes / STREAMS;
    __m256i sums[STREAMS] = {_mm256_setzero_si256()};
    for (size_t at = 0; at < part; at += 64) {
        for (int s = 0; s < STREAMS; s++) {
            const unsigned char *line = from + (size_t)s * part + at;
            const __m256i low = _mm256_load_si256((const void *)line);
            const __m256i high = _mm256_load_si256((const void *)(line + 32));
            sums[s] = _mm256_add_epi64(sums[s], _mm256_xor_si256(low, high));
        }
    }
    for (int s = 1; s < STREAMS; s++) sums[0] = _mm256_add_epi64(sums[0], sums[s]);
    int64_t out[4];
    memcpy(out, sums, sizeof out);
    return out[0] + out[1] + out[2] + out[3];
}

/* Chains of dot products that wait for nothing but themselves. Returns operations per round. */
#if defined(__AVX512VNNI__)
static int64_t dots(void) {
    __m512i sums[CHAINS], x = _mm512_set1_epi32(3), y = _mm512_set1_epi32(5);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_epi32(i);
    for (long n = 0; n < ROUNDS; n++) {
        for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_dpbusd_epi32(sums[i], x, y);
        __asm__ volatile("" : "+v"(x), "+v"(y));
    }
    for (int i = 0; i < CHAINS; i++) sink += _mm512_reduce_add_epi32(sums[i]);
    return 2 * 64;
}
#elif defined(__AVX2__)
static int64_t dots(void) {
    __m256i sums[CHAINS], x = _mm256_set1_epi8(3), y = _mm256_set1_epi8(5);
    const __m256i ones = _mm256_set1_epi16(1);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm256_set1_epi32(i);
    for (long n = 0; n < ROUNDS; n++) {
        for (int i = 0; i < CHAINS; i++) {
            const __m256i pairs = _mm256_maddubs_epi16(x, y);
            sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, ones));
        }
        __asm__ volatile("" : "+x"(x), "+x"(y));
    }
    for (int i = 0; i < CHAINS; i++) sink += _mm256_extract_epi32(sums[i], 0);
    return 2 * 32;
}
#else
static int64_t dots(void) {
    return 0;
}
#endif

typedef struct {
    int number;
    double read_s, dots_s; /* of the fastest pass */
    int64_t per_round;
} worker;

static void *work(void *argument) {
    worker *const w = argument;
    const size_t part = BYTES / (size_t)threads / 4096 * 4096;
    const unsigned char *const mine = memory + (size_t)w->number * part;
    w->read_s = w->dots_s = 1e9;
    for (int pass = 0; pass < PASSES; pass++) {
        pthread_barrier_wait(&together);
        double start = seconds();
        sink += read_all(mine, part);
        pthread_barrier_wait(&together);
        double took = seconds() - start;
        if (took < w->read_s) w->read_s = took;
        start = seconds();
        w->per_round = dots();
        pthread_barrier_wait(&together);
        took = seconds() - start;
        if (took < w->dots_s) w->dots_s = took;
    }
    return NULL;
}

int main(int count, char **words) {
    threads = count > 1 ? atoi(words[1]) : 1;
    if (threads < 1 || threads > MOST) return 2;
    memory = aligned_alloc(4096, BYTES);
    if (memory == NULL) return 1;
    memset(memory, 1, BYTES);
    pthread_barrier_init(&together, NULL, (unsigned)threads);
    static worker workers[MOST];
    static pthread_t ids[MOST];
    for (int i = 0; i < threads; i++) {
        workers[i].number = i;
        if (pthread_create(&ids[i], NULL, work, &workers[i])) return 1;
    }
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    const size_t read = BYTES / (size_t)threads / 4096 * 4096 * (size_t)threads;
    const double operations = (double)workers[0].per_round * CHAINS * ROUNDS * threads;
    printf("{\"bytes_per_s\": %.0f, \"int8_ops_per_s\": %.0f}\n", (double)read / workers[0].read_s,
           operations / workers[0].dots_s);
    free(memory);
    return 0;
}
