/* SPDX-License-Identifier: BUSL-1.1 */
/* Drives fuzz_gguf.c where there is no libFuzzer: mutations of the corpus, the same ones for the
 * same seed. As a test it does some thousand; by hand as many seconds as are wanted:
 *
 *     gcc -DFUZZ_COVERAGE -fsanitize-coverage=trace-pc -fsanitize=address,undefined ...
 *     ./test_fuzz_gguf SECONDS SEED [FOLDER]
 *
 * With FUZZ_COVERAGE, inputs that reach new code are kept as further seeds (and written to FOLDER).
 */
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "fuzz_gguf.c"

enum { MOST_BYTES = 1 << 14, MOST_SEEDS = 4096, TEST_CASES = 100000 };

typedef struct input {
    size_t bytes;
    uint8_t *data;
} input;

static input seeds[MOST_SEEDS];
static size_t seed_count;
static uint64_t state;

#ifdef FUZZ_COVERAGE
static uint8_t edges[1 << 16];
static uint32_t last_place;
static int news;

void __sanitizer_cov_trace_pc(void);
__attribute__((no_sanitize_coverage, no_sanitize("address"))) void __sanitizer_cov_trace_pc(void) {
    uint32_t place = (uint32_t)((uintptr_t)__builtin_return_address(0) * 2654435761u) >> 16;
    uint8_t *edge = &edges[(place ^ last_place) & 0xffff];
    last_place = place >> 1;
    if (*edge) return;
    *edge = 1;
    news = 1;
}
#else
static const int news = 0;
#endif

/* xorshift64* */
static uint64_t next(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 2685821657736338717u;
}

static size_t below(size_t limit) { return limit ? (size_t)(next() % limit) : 0; }

static void keep(const uint8_t *data, size_t bytes) {
    if (seed_count == MOST_SEEDS) return;
    seeds[seed_count] = (input){bytes, malloc(bytes + 1)};
    memcpy(seeds[seed_count++].data, data, bytes);
}

static void load(const char *folder, const char *name) {
    static uint8_t data[MOST_BYTES];
    char path[8192];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file) return;
    keep(data, fread(data, 1, sizeof data, file));
    fclose(file);
}

static int ends_with(const char *name, const char *end) {
    size_t length = strlen(name), tail = strlen(end);
    return length >= tail && !strcmp(name + length - tail, end);
}

/* In the order of their names, which a directory does not promise. */
static void load_corpus(const char *folder) {
    struct dirent **names;
    int count = scandir(folder, &names, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        if (ends_with(names[i]->d_name, ".gguf")) load(folder, names[i]->d_name);
        free(names[i]);
    }
    if (count >= 0) free(names);
}

/* A number that counts and offsets stumble over. */
static uint64_t interesting(void) {
    static const uint64_t numbers[] = {
        0, 1, 2, 7, 8, 31, 32, 33, 255, 256, 257, 65535, 65536, 0x7fffffff, 0x80000000u,
        0xffffffffu, 0x100000000u, 1ull << 61, 1ull << 62, INT64_MAX, 1ull << 63, UINT64_MAX - 31,
        UINT64_MAX,
    };
    return numbers[below(sizeof numbers / sizeof *numbers)] + (below(4) ? 0 : below(9) - 4);
}

static size_t overwrite(uint8_t *data, size_t bytes, size_t at) {
    uint64_t number = interesting();
    size_t width = (size_t)1 << below(4);
    if (at + width <= bytes) memcpy(data + at, &number, width);
    return bytes;
}

static size_t insert(uint8_t *data, size_t bytes, size_t at, const uint8_t *from, size_t count) {
    if (bytes + count > MOST_BYTES) return bytes;
    uint8_t copy[256];
    memcpy(copy, from, count);
    memmove(data + at + count, data + at, bytes - at);
    memcpy(data + at, copy, count);
    return bytes + count;
}

static size_t delete(uint8_t *data, size_t bytes, size_t at, size_t count) {
    if (at + count > bytes) count = bytes - at;
    memmove(data + at, data + at + count, bytes - at - count);
    return bytes - count;
}

/* One change; the new length. */
static size_t mutate(uint8_t *data, size_t bytes) {
    if (!bytes) return insert(data, 0, 0, (const uint8_t *)"GGUF\3\0\0", 8);
    size_t at = below(bytes), count = 1 + below(below(8) ? 16 : 255);
    switch (below(8)) {
    case 0:
        data[at] ^= (uint8_t)(1 << below(8));
        return bytes;
    case 1:
        data[at] = (uint8_t)next();
        return bytes;
    case 2:
    case 3:
        return overwrite(data, bytes, at);
    case 4:
        return delete(data, bytes, at, count);
    case 5:
        return below(4) ? bytes : at;
    case 6: /* a piece of itself, once more */
        count = count < bytes - at ? count : bytes - at;
        return insert(data, bytes, below(bytes), data + at, count);
    default: { /* a piece of another file */
        const input *other = &seeds[below(seed_count)];
        size_t from = below(other->bytes), left = other->bytes - from;
        return insert(data, bytes, at, other->data + from, count < left ? count : left);
    }
    }
}

static void save(const char *folder, const uint8_t *data, size_t bytes) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%016" PRIx64 ".gguf", folder, next());
    FILE *file = fopen(path, "wb");
    if (!file) return;
    fwrite(data, 1, bytes, file);
    fclose(file);
}

static void one(const char *folder) {
    static uint8_t data[MOST_BYTES];
    const input *seed = &seeds[below(seed_count)];
    size_t bytes = seed->bytes;
    memcpy(data, seed->data, bytes);
    for (size_t i = 1 + below(6); i; i--) bytes = mutate(data, bytes);
#ifdef FUZZ_COVERAGE
    news = 0;
    last_place = 0;
#endif
    LLVMFuzzerTestOneInput(data, bytes);
    if (!news) return;
    keep(data, bytes);
    if (folder) save(folder, data, bytes);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

/* The corpus lies beside this source. */
static void find_corpus(char *folder, size_t bytes) {
    const char *slash = strrchr(__FILE__, '/');
    int length = slash ? (int)(slash - __FILE__) : 0;
    snprintf(folder, bytes, "%.*s%scorpus", length, __FILE__, slash ? "/" : "");
}

int main(int argc, char **argv) {
    char folder[4096];
    double seconds = argc > 1 ? atof(argv[1]) : 0;
    state = argc > 2 ? strtoull(argv[2], NULL, 0) | 1 : 1;
    find_corpus(folder, sizeof folder);
    load_corpus(folder);
    if (!seed_count) {
        fprintf(stderr, "no corpus in %s\n", folder);
        return 1;
    }
    size_t given = seed_count;
    for (size_t i = 0; i < given; i++) LLVMFuzzerTestOneInput(seeds[i].data, seeds[i].bytes);
    uint64_t cases = 0;
    for (double end = now() + seconds; seconds > 0 ? now() < end : cases < TEST_CASES; cases++)
        one(argc > 3 ? argv[3] : NULL);
    fprintf(stderr, "%" PRIu64 " cases from %zu seeds, %zu more kept\n", cases, given,
            seed_count - given);
    for (size_t i = 0; i < seed_count; i++) free(seeds[i].data);
    return 0;
}
