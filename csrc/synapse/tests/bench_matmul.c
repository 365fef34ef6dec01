/* SPDX-License-Identifier: BUSL-1.1 */
/* How fast matrices are multiplied: GMAC/s and bytes of weights per second, minima of many short
 * repeats, threads pinned to the first processors.
 *
 *     cmake --build BUILD --target synapse_bench_matmul
 *     synapse_bench_matmul TYPE FORM ROWS COLUMNS [ISA [THREADS [COPIES]]]
 *
 * TYPE: GGUF's number; FORM: 0 float, 1 8 bits, 2 12 bits. COPIES of the matrix are multiplied one
 * after the other: enough of them do not fit into any cache, as in a whole model. Machines drift:
 * compare with the read speed that is printed first. */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "check.h"
#include "matmul.h"

enum { REPEATS_MAX = 200 };

typedef struct {
    int isa, form, copies, threads, repeats;
    const syn_matrix **matrices;
    const uint8_t *acts;
    int64_t m;
    float *out;
    double best;
    pthread_barrier_t start, end;
} bench;

typedef struct {
    bench *b;
    int thread;
} worker;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void *room(size_t bytes) {
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    CHECK(memory);
    return memory;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static void multiply_share(const bench *b, int thread, void *scratch) {
    int64_t panels = syn_matrix_panels(b->matrices[0]), ldo = syn_matrix_rows(b->matrices[0]) + 16;
    int64_t p0 = panels * thread / b->threads, p1 = panels * (thread + 1) / b->threads;
    for (int i = 0; i < b->copies; i++)
        syn_gemm(b->isa, b->matrices[i], b->form, b->acts, b->m, b->out, ldo, p0, p1, 0, scratch);
}

static void *work(void *arg) {
    worker *w = arg;
    bench *b = w->b;
    void *scratch = room(syn_gemm_scratch(b->matrices[0]));
    pin(w->thread);
    for (int r = 0; r < b->repeats; r++) {
        pthread_barrier_wait(&b->start);
        double begun = now();
        multiply_share(b, w->thread, scratch);
        pthread_barrier_wait(&b->end);
        double took = now() - begun;
        if (w->thread == 0 && took < b->best) b->best = took;
    }
    free(scratch);
    return NULL;
}

static double fastest(bench *b) {
    pthread_t threads[64];
    worker workers[64];
    b->best = 1e9;
    pthread_barrier_init(&b->start, NULL, (unsigned)b->threads);
    pthread_barrier_init(&b->end, NULL, (unsigned)b->threads);
    for (int i = 0; i < b->threads; i++) {
        workers[i] = (worker){b, i};
        CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (int i = 0; i < b->threads; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&b->start);
    pthread_barrier_destroy(&b->end);
    return b->best;
}

static const syn_matrix *random_matrix(int type, int64_t rows, int64_t columns, const uint8_t *data,
                                       uint64_t bytes) {
    syn_matrix *w = NULL;
    int64_t size = syn_packed_bytes(type, rows, columns);
    void *packed = room((size_t)size);
    CHECK(syn_pack(type, data, bytes, rows, columns, 0, rows, packed) == 0);
    CHECK(syn_matrix_view(&w, type, rows, columns, packed, (uint64_t)size) == 0);
    return w;
}

/* One thread's, a word of each line. The barrier keeps the compiler from reading only once. */
static double read_speed(const uint8_t *data, size_t bytes) {
    double best = 1e9;
    for (int r = 0; r < 5; r++) {
        uint64_t sum = 0, word;
        __asm__ volatile("" : : : "memory");
        double begun = now();
        for (size_t i = 0; i + 64 <= bytes; i += 64) {
            memcpy(&word, data + i, sizeof word);
            sum += word;
        }
        __asm__ volatile("" : : "r"(sum));
        double took = now() - begun;
        if (took < best) best = took;
    }
    return (double)bytes / best * 1e-9;
}

static void print_line(bench *b, int64_t m, double macs, double bytes) {
    int64_t rows = syn_matrix_rows(b->matrices[0]), columns = syn_matrix_columns(b->matrices[0]);
    size_t stride = syn_act_bytes(b->form, columns);
    uint8_t *acts = room((size_t)m * stride);
    float *x = room((size_t)columns * sizeof *x);
    for (int64_t k = 0; k < columns; k++) x[k] = (float)(k * 37 % 101) / 50 - 1;
    for (int64_t i = 0; i < m; i++)
        syn_act_quantise(b->isa, b->form, x, columns, acts + (size_t)i * stride);
    b->acts = acts;
    b->m = m;
    b->out = room((size_t)(m * (rows + 16)) * sizeof *b->out);
    b->repeats = (int)(2e10 / (macs * (double)m)) + 5;
    if (b->repeats > REPEATS_MAX) b->repeats = REPEATS_MAX;
    double best = fastest(b);
    printf("M %4d  %7.1f GMAC/s  %6.1f GB/s\n", (int)m, macs * (double)m / best * 1e-9,
           bytes / best * 1e-9);
    free(acts);
    free(x);
    free(b->out);
}

int main(int argc, char **argv) {
    CHECK(argc >= 5);
    int type = atoi(argv[1]);
    int64_t rows = atoll(argv[3]), columns = atoll(argv[4]);
    bench b = {.form = atoi(argv[2]), .isa = argc > 5 ? atoi(argv[5]) : syn_isa_best()};
    b.threads = argc > 6 ? atoi(argv[6]) : 1;
    b.copies = argc > 7 ? atoi(argv[7]) : 1;
    CHECK(b.threads > 0 && b.threads <= 64 && b.copies > 0 && syn_isa_available(b.isa));
    size_t bytes = (size_t)(rows * syn_row_bytes(type, columns)), large = (size_t)256 << 20;
    uint8_t *data = room(bytes > large ? bytes : large);
    for (size_t i = 0; i < (bytes > large ? bytes : large); i++) data[i] = (uint8_t)(i * 7 % 59);
    printf("%s %dx%d: reading %.1f GB/s on one thread\n", syn_type_name(type), (int)rows,
           (int)columns, read_speed(data, large));
    b.matrices = room((size_t)b.copies * sizeof *b.matrices);
    for (int i = 0; i < b.copies; i++)
        b.matrices[i] = random_matrix(type, rows, columns, data, bytes);
    double macs = (double)rows * (double)columns * b.copies;
    double packed = (double)syn_packed_bytes(type, rows, columns) * b.copies;
    static const int64_t ms[] = {1, 2, 4, 8, 16, 32, 64, 128, 512};
    for (size_t i = 0; i < sizeof ms / sizeof *ms; i++) print_line(&b, ms[i], macs, packed);
    return 0;
}
