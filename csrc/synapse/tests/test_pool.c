/* SPDX-License-Identifier: BUSL-1.1 */
/* Every thread takes part in every run, and nobody passes a barrier early. */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "pool.h"

#define PHASES 300
#define THREADS 5

typedef struct relay {
    syn_pool *pool;
    int64_t cells[2][THREADS]; /* plain memory: the thread sanitizer watches it */
} relay;

/* Each phase reads what all threads wrote in the phase before. */
static void pass_on(void *arg, int thread, int threads) {
    relay *r = arg;
    for (int phase = 0; phase < PHASES; phase++) {
        int64_t sum = 0;
        for (int i = 0; i < threads; i++) sum += r->cells[phase % 2][i];
        r->cells[(phase + 1) % 2][thread] = sum % 1009 + thread;
        syn_pool_barrier(r->pool);
    }
}

static int64_t relay_result(int threads, int runs) {
    relay r = {.pool = syn_pool_new(threads)};
    CHECK(r.pool);
    CHECK_EQUAL(syn_pool_threads(r.pool), threads);
    for (int run = 0; run < runs; run++) {
        memset(r.cells, 0, sizeof r.cells);
        CHECK_EQUAL(syn_pool_run(r.pool, pass_on, &r), 0);
    }
    int64_t sum = 0;
    for (int i = 0; i < threads; i++) sum += r.cells[PHASES % 2][i];
    syn_pool_free(r.pool);
    return sum;
}

static int64_t relay_expected(int threads) {
    int64_t sum = 0;
    for (int phase = 0; phase < PHASES; phase++)
        sum = sum % 1009 * threads + threads * (threads - 1) / 2;
    return sum;
}

static void a_barrier_holds_everybody_back(void) {
    for (int threads = 1; threads <= THREADS; threads++)
        CHECK_EQUAL(relay_result(threads, 10), relay_expected(threads));
}

/* Each phase of a flow reads what the pieces of the phase before wrote. */
typedef struct stream {
    syn_pool *pool;
    int64_t cells[2][PHASES];
} stream;

static void flow_on(void *arg, int thread, int threads) {
    stream *s = arg;
    syn_seat seat = {0};
    (void)thread, (void)threads;
    for (int phase = 0; phase < PHASES; phase++) {
        int count = phase % 7; /* none in some */
        for (int64_t i; (i = syn_pool_piece(s->pool, &seat, count)) >= 0;) {
            int64_t sum = 0;
            for (int j = 0; j < PHASES; j++) sum += s->cells[phase % 2][j];
            s->cells[(phase + 1) % 2][i] = sum % 1009 + i;
        }
    }
}

static int64_t flow_result(int threads, int runs) {
    stream s = {.pool = syn_pool_new(threads)};
    CHECK(s.pool);
    for (int run = 0; run < runs; run++) {
        memset(s.cells, 0, sizeof s.cells);
        s.cells[0][0] = 1;
        CHECK_EQUAL(syn_pool_flow(s.pool, flow_on, &s), 0);
        if (run % 4 == 3) usleep(200);
    }
    syn_pool_free(s.pool);
    int64_t sum = 0;
    for (int j = 0; j < PHASES; j++) sum += s.cells[PHASES % 2][j] * (j + 1);
    return sum;
}

static void a_phase_sees_all_pieces_of_the_one_before(void) {
    int64_t wanted = flow_result(1, 1);
    for (int threads = 2; threads <= THREADS; threads++)
        CHECK_EQUAL(flow_result(threads, 40), wanted);
}

static void count_in(void *arg, int thread, int threads) {
    (void)threads;
    ((int *)arg)[thread]++;
}

static void sleepers_are_woken_for_the_next_run(void) {
    syn_pool *pool = syn_pool_new(THREADS);
    int seen[THREADS] = {0};
    for (int run = 0; run < 50; run++) {
        CHECK_EQUAL(syn_pool_run(pool, count_in, seen), 0);
        usleep(300); /* longer than anybody polls */
    }
    for (int i = 0; i < THREADS; i++) CHECK_EQUAL(seen[i], 50);
    syn_pool_free(pool);
}

static void nest(void *arg, int thread, int threads) {
    (void)threads;
    int seen[THREADS] = {0};
    if (thread == 0) CHECK_EQUAL(syn_pool_run(arg, count_in, seen), SYN_E_ARGUMENT);
}

static void a_second_run_at_the_same_time_is_refused(void) {
    syn_pool *pool = syn_pool_new(2);
    CHECK_EQUAL(syn_pool_run(pool, nest, pool), 0);
    syn_pool_free(pool);
}

static void a_forked_child_is_told_that_the_threads_are_gone(void) {
    syn_pool *pool = syn_pool_new(2);
    pid_t child = fork();
    if (child == 0) {
        int seen[2] = {0};
        int status = syn_pool_run(pool, count_in, seen);
        syn_pool_free(pool);
        _exit(status == SYN_E_ARGUMENT ? 0 : 1);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    syn_pool_free(pool);
}

#if defined(__x86_64__)
enum { FLUSH = 0x8040 /* to zero what is below the normal numbers: operands and results */ };

static void halve_the_least_normal(void *arg, int thread, int threads) {
    (void)threads;
    volatile float least = 0x1p-126f;
    ((float *)arg)[thread] = least * 0.5f;
}

static void what_others_set_for_floats_changes_no_result(void) {
    const unsigned before = __builtin_ia32_stmxcsr(), flushing = before | FLUSH;
    float halves[THREADS] = {0}, half = 0;
    __builtin_ia32_ldmxcsr(flushing); /* threads begin with what their maker has */
    syn_pool *pool = syn_pool_new(THREADS), *alone = syn_pool_new(1);
    int status = syn_pool_run(pool, halve_the_least_normal, halves);
    int flow = syn_pool_flow(alone, halve_the_least_normal, &half);
    const unsigned after = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before);
    CHECK_EQUAL(status, 0);
    CHECK_EQUAL(flow, 0);
    for (int i = 0; i < THREADS; i++) CHECK(halves[i] == 0x1p-127f);
    CHECK(half == 0x1p-127f);
    CHECK_EQUAL(after & FLUSH, FLUSH); /* the caller gets its own back */
    syn_pool_free(pool);
    syn_pool_free(alone);
}
#endif

static void nonsense_numbers_of_threads_are_refused(void) {
    CHECK(!syn_pool_new(0));
    CHECK(!syn_pool_new(-3));
    CHECK(!syn_pool_new(100000));
}

static void shares_cover_everything_once(void) {
    for (int64_t count = 0; count < 40; count++) {
        int64_t reached = 0, begin, end;
        for (int thread = 0; thread < 7; thread++) {
            syn_share(count, thread, 7, &begin, &end);
            CHECK_EQUAL(begin, reached);
            CHECK(end - begin <= count / 7 + 1);
            reached = end;
        }
        CHECK_EQUAL(reached, count);
    }
}

int main(void) {
    RUN(a_barrier_holds_everybody_back);
    RUN(a_phase_sees_all_pieces_of_the_one_before);
    RUN(sleepers_are_woken_for_the_next_run);
    RUN(a_second_run_at_the_same_time_is_refused);
    RUN(a_forked_child_is_told_that_the_threads_are_gone);
#if defined(__x86_64__)
    RUN(what_others_set_for_floats_changes_no_result);
#endif
    RUN(nonsense_numbers_of_threads_are_refused);
    RUN(shares_cover_everything_once);
    return 0;
}
