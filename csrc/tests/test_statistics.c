/* SPDX-License-Identifier: BUSL-1.1 */
/* What a worker counts with every answer, and that another thread may read it meanwhile. */
#include <pthread.h>

#include "check.h"
#include "histogram.h"
#include "rig.h"

#define ROUNDS 20000

static uint64_t counted(const mlos_times *times) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < MLOS_BUCKETS; i++) sum += times->counts[i];
    return sum;
}

/* Claim what waits, as submitted `ago` nanoseconds before now. */
static uint32_t claim(rig *r, uint64_t ago) {
    CHECK_EQUAL(rig_submit(r, 0, "x", -1), 0);
    r->slots[0].submitted_ns = mlos_now() - ago;
    return rig_slot(mlos_port_poll(r->port));
}

static void a_bucket_begins_where_the_one_before_ends(void) {
    CHECK_EQUAL(mlos_bucket_from(0), 0);
    CHECK_EQUAL(bucket_of(0), 0);
    for (uint32_t i = 1; i < MLOS_BUCKETS; i++) {
        uint64_t from = mlos_bucket_from(i);
        CHECK(from > mlos_bucket_from(i - 1));
        CHECK_EQUAL(bucket_of(from), i);
        CHECK_EQUAL(bucket_of(from - 1), i - 1);
    }
}

static void a_bucket_is_at_most_an_eighth_of_what_it_counts(void) {
    for (uint32_t i = 8; i + 1 < MLOS_BUCKETS; i++) {
        uint64_t from = mlos_bucket_from(i);
        CHECK(8 * (mlos_bucket_from(i + 1) - from) <= from);
    }
}

static void buckets_reach_from_256_nanoseconds_to_an_hour(void) {
    CHECK_EQUAL(mlos_bucket_from(8), 256);
    CHECK(mlos_bucket_from(MLOS_BUCKETS - 1) > 3600 * (uint64_t)SECOND);
    CHECK_EQUAL(bucket_of(UINT64_MAX), MLOS_BUCKETS - 1);
}

static void an_answer_is_counted_with_its_times(void) {
    rig r = rig_make(1, 4096, 4096);
    uint32_t slot = claim(&r, 3000000);
    mlos_task *task = mlos_port_task(r.port, 0, slot);
    uint64_t queue = task->taken_ns - task->submitted_ns;
    CHECK_EQUAL(rig_statistics(r.port).held, 1);
    while (mlos_now() < task->taken_ns + 2000) {
    }
    CHECK_EQUAL(mlos_answer(r.port, 0, slot, "y", 1, task->taken_ns + 500, task->taken_ns + 1500), 0);
    mlos_port_stats s = rig_statistics(r.port);
    CHECK_EQUAL(s.answered, 1);
    CHECK_EQUAL(s.failed, 0);
    CHECK_EQUAL(s.held, 0);
    CHECK_EQUAL(s.queue_ns, queue);
    CHECK_EQUAL(s.input_ns, 500);
    CHECK_EQUAL(s.infer_ns, 1000);
    CHECK(s.output_ns >= 500);
    CHECK_EQUAL(s.request.max_ns, s.queue_ns + s.input_ns + s.infer_ns + s.output_ns);
    CHECK_EQUAL(s.queue.max_ns, queue);
    CHECK_EQUAL(s.infer.max_ns, 1000);
    CHECK_EQUAL(s.request.counts[bucket_of(s.request.max_ns)], 1);
    CHECK_EQUAL(s.queue.counts[bucket_of(queue)], 1);
    CHECK_EQUAL(s.infer.counts[bucket_of(1000)], 1);
    CHECK_EQUAL(counted(&s.request) + counted(&s.queue) + counted(&s.infer), 3);
    rig_end(&r);
}

static void the_longest_time_stays(void) {
    rig r = rig_make(1, 4096, 4096);
    const uint64_t waits[] = {1000, 9000000, 2000000};
    for (int i = 0; i < 3; i++) CHECK_EQUAL(rig_answer(r.port, claim(&r, waits[i]), "y"), 0);
    mlos_port_stats s = rig_statistics(r.port);
    CHECK(s.queue.max_ns >= 9000000);
    CHECK(s.queue.counts[bucket_of(s.queue.max_ns)] >= 1);
    CHECK_EQUAL(counted(&s.queue), 3);
    rig_end(&r);
}

static void an_error_is_a_failure_and_no_latency(void) {
    rig r = rig_make(1, 4096, 4096);
    CHECK_EQUAL(mlos_refuse(r.port, 0, claim(&r, 1000000), "bad", 3), 0);
    CHECK_EQUAL(mlos_wait(r.client, 0, 0), 3);
    mlos_port_stats s = rig_statistics(r.port);
    CHECK_EQUAL(s.answered, 1);
    CHECK_EQUAL(s.failed, 1);
    CHECK(s.failed_ns >= 1000000);
    CHECK_EQUAL(s.queue_ns + s.input_ns + s.infer_ns + s.output_ns, 0);
    CHECK_EQUAL(counted(&s.request) + counted(&s.queue) + counted(&s.infer), 0);
    rig_end(&r);
}

static void a_pong_is_not_counted(void) {
    rig r = rig_make(1, 4096, 4096);
    CHECK_EQUAL(mlos_pong(r.port, 0, claim(&r, 1000000), "pong", 4), 0);
    CHECK_EQUAL(mlos_wait(r.client, 0, 0), 4);
    mlos_port_stats s = rig_statistics(r.port);
    CHECK_EQUAL(s.answered + s.failed + s.held + s.queue_ns + counted(&s.queue), 0);
    rig_end(&r);
}

static void a_lost_request_is_no_answer(void) {
    rig r = rig_make(1, 4096, 4096);
    mlos_channel *server;
    mlos_port *successor = rig_port(&r, 2, &server);
    CHECK_EQUAL(claim(&r, 0), 0);
    CHECK_EQUAL(mlos_port_recover(successor, 0, 2, NULL, 0), 1);
    CHECK_EQUAL(rig_answer(r.port, 0, "stale"), MLOS_E_LOST);
    mlos_port_stats s = rig_statistics(r.port);
    CHECK_EQUAL(s.lost, 1);
    CHECK_EQUAL(s.answered + s.held + counted(&s.request), 0);
    mlos_port_free(successor);
    mlos_channel_unmap(server);
    rig_end(&r);
}

static void what_nobody_claimed_is_pending(void) {
    rig r = rig_make(4, 4096, 4096);
    CHECK_EQUAL(mlos_channel_pending(r.server), 0);
    for (uint32_t i = 0; i < 3; i++) CHECK_EQUAL(rig_submit(&r, i, "x", -1), 0);
    CHECK_EQUAL(mlos_channel_pending(r.server), 3);
    CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
    CHECK_EQUAL(mlos_channel_pending(r.server), 2);
    atomic_store(&r.header->tail, UINT64_MAX);
    CHECK_EQUAL(mlos_channel_pending(r.server), 4);
    atomic_store(&r.header->tail, 0);
    CHECK_EQUAL(mlos_channel_pending(r.server), 0);
    rig_end(&r);
}

static void *read_on(void *context) {
    rig *r = context;
    mlos_port_stats before = {0}, now;
    do {
        mlos_port_statistics(r->port, &now);
        CHECK(now.answered >= before.answered && now.queue.max_ns >= before.queue.max_ns);
        CHECK(counted(&now.request) >= counted(&before.request));
        CHECK(now.held <= 1 && mlos_channel_pending(r->server) <= 1);
        before = now;
    } while (now.answered < ROUNDS);
    return NULL;
}

static void another_thread_reads_while_requests_are_answered(void) {
    rig r = rig_make(1, 4096, 4096);
    pthread_t reader;
    CHECK_EQUAL(pthread_create(&reader, NULL, read_on, &r), 0);
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
        CHECK_EQUAL(rig_answer(r.port, rig_slot(mlos_port_poll(r.port)), "y"), 0);
    }
    CHECK_EQUAL(pthread_join(reader, NULL), 0);
    mlos_port_stats s = rig_statistics(r.port);
    CHECK_EQUAL(counted(&s.request), ROUNDS);
    rig_end(&r);
}

int main(void) {
    RUN(a_bucket_begins_where_the_one_before_ends);
    RUN(a_bucket_is_at_most_an_eighth_of_what_it_counts);
    RUN(buckets_reach_from_256_nanoseconds_to_an_hour);
    RUN(an_answer_is_counted_with_its_times);
    RUN(the_longest_time_stays);
    RUN(an_error_is_a_failure_and_no_latency);
    RUN(a_pong_is_not_counted);
    RUN(a_lost_request_is_no_answer);
    RUN(what_nobody_claimed_is_pending);
    RUN(another_thread_reads_while_requests_are_answered);
    return 0;
}
