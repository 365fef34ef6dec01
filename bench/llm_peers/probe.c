/* SPDX-License-Identifier: BUSL-1.1 */
/* The machine's own limits: `probe THREADS` prints bytes read per second and int8 operations
 * per second, best of several short passes, as JSON. Needs AVX2; built with -march=native. */
#define _GNU_SOURCE
#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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

/* Chains of dot products that wait for nothing but themselves. Returns the operations done. */
#if defined(__AMX_INT8__)
enum { TILE_OPERATIONS = 2 * 16 * 16 * 64, TILE_ROUNDS = 400000, PERMISSION = 0x1023, TILES = 18 };

typedef struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tile_shapes;

/* Four accumulators from two by two operands: as many as a kernel has. */
static int64_t dots(void) {
    static tile_shapes shapes = {.palette = 1};
    if (syscall(SYS_arch_prctl, PERMISSION, TILES)) exit(3);
    tile_shapes all = shapes;
    for (int i = 0; i < 8; i++) all.bytes[i] = 64, all.rows[i] = 16;
    __asm__ volatile("ldtilecfg %0" : : "m"(all));
    for (long n = 0; n < TILE_ROUNDS; n++)
        __asm__ volatile("tdpbusd %%tmm6, %%tmm4, %%tmm0\n\ttdpbusd %%tmm7, %%tmm4, %%tmm1\n\t"
                         "tdpbusd %%tmm6, %%tmm5, %%tmm2\n\ttdpbusd %%tmm7, %%tmm5, %%tmm3"
                         :
                         :
                         : "memory");
    __asm__ volatile("tilerelease");
    return (int64_t)4 * TILE_OPERATIONS * TILE_ROUNDS;
}
#elif defined(__AVX512VNNI__)
static int64_t dots(void) {
    __m512i sums[CHAINS], x = _mm512_set1_epi32(3), y = _mm512_set1_epi32(5);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_epi32(i);
    for (long n = 0; n < ROUNDS; n++) {
        for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_dpbusd_epi32(sums[i], x, y);
        __asm__ volatile("" : "+v"(x), "+v"(y));
    }
    for (int i = 0; i < CHAINS; i++) sink += _mm512_reduce_add_epi32(sums[i]);
    return (int64_t)2 * 64 * CHAINS * ROUNDS;
}
#else
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
    return (int64_t)2 * 32 * CHAINS * ROUNDS;
}
#endif

typedef struct {
    double begin, end;
} span;

typedef struct {
    int number;
    span reading[PASSES], computing[PASSES];
    int64_t operations;
} worker;

static worker workers[MOST];

static void *work(void *argument) {
    worker *const w = argument;
    const size_t part = BYTES / (size_t)threads / 4096 * 4096;
    const unsigned char *const mine = memory + (size_t)w->number * part;
    for (int pass = 0; pass < PASSES; pass++) {
        pthread_barrier_wait(&together);
        w->reading[pass].begin = seconds();
        sink += read_all(mine, part);
        w->reading[pass].end = seconds();
        pthread_barrier_wait(&together);
        w->computing[pass].begin = seconds();
        w->operations = dots();
        w->computing[pass].end = seconds();
    }
    return NULL;
}

/* The shortest pass, from the first thread's begin to the last one's end. */
static double shortest(int computing) {
    double least = 1e9;
    for (int pass = 0; pass < PASSES; pass++) {
        double begin = 1e18, end = 0;
        for (int i = 0; i < threads; i++) {
            const worker *const w = &workers[i];
            const span s = computing ? w->computing[pass] : w->reading[pass];
            if (s.begin < begin) begin = s.begin;
            if (s.end > end) end = s.end;
        }
        if (end - begin < least) least = end - begin;
    }
    return least;
}

int main(int count, char **words) {
    threads = count > 1 ? atoi(words[1]) : 1;
    if (threads < 1 || threads > MOST) return 2;
    memory = aligned_alloc(4096, BYTES);
    if (memory == NULL) return 1;
    memset(memory, 1, BYTES);
    pthread_barrier_init(&together, NULL, (unsigned)threads);
    static pthread_t ids[MOST];
    for (int i = 0; i < threads; i++) {
        workers[i].number = i;
        if (pthread_create(&ids[i], NULL, work, &workers[i])) return 1;
    }
    for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    const size_t read = BYTES / (size_t)threads / 4096 * 4096 * (size_t)threads;
    const double operations = (double)workers[0].operations * threads;
    printf("{\"bytes_per_s\": %.0f, \"int8_ops_per_s\": %.0f}\n", (double)read / shortest(0),
           operations / shortest(1));
    free(memory);
    return 0;
}
