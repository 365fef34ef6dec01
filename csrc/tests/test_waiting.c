/* SPDX-License-Identifier: BUSL-1.1 */
/* Sleeping and waking, on both ends, in every mode. */
#include <fcntl.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "check.h"
#include "rig.h"

typedef struct server {
    rig *r;
    int mode;
    int rounds;
} server;

static void *serve(void *context) {
    server *s = context;
    mlos_channel *channel = mlos_channel_map(s->r->fd, s->r->event_fd, 1);
    mlos_port *port = mlos_port_new(s->r->bell, 2, 2, s->mode, 20000, 3);
    CHECK_EQUAL(mlos_port_add(port, 0, channel), 0);
    for (int served = 0; served < s->rounds;) {
        int64_t key = mlos_port_next(port, PATIENCE);
        if (key < 0) {
            CHECK_EQUAL(key, MLOS_E_TICK);
            continue;
        }
        CHECK_EQUAL(rig_answer(port, rig_slot(key), "y"), 0);
        served++;
    }
    mlos_port_free(port);
    mlos_channel_unmap(channel);
    return NULL;
}

static void nobody_misses_a_wake_up_in(int mode, int rounds) {
    rig r = rig_make(2, 4096, 4096);
    server s = {.r = &r, .mode = mode, .rounds = rounds};
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, serve, &s), 0);
    mlos_client_wait_mode(r.client, mode, 20000);
    for (int i = 0; i < rounds; i++) {
        uint32_t slot = (uint32_t)i % 2;
        CHECK_EQUAL(rig_submit(&r, slot, "x", -1), 0);
        int got;
        while ((got = mlos_wait(r.client, slot, PATIENCE)) == MLOS_E_TICK) {
        }
        CHECK_EQUAL(got, 1);
    }
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK_EQUAL(atomic_load(&r.bell->sleepers), 0);
    CHECK_EQUAL(atomic_load(&r.header->done_waiters), 0);
    rig_end(&r);
}

static void nobody_misses_a_wake_up(void) {
    nobody_misses_a_wake_up_in(MLOS_WAIT_BLOCK, 2000);
    nobody_misses_a_wake_up_in(MLOS_WAIT_ADAPTIVE, 4000);
    nobody_misses_a_wake_up_in(MLOS_WAIT_SPIN, 20);
}

static void a_wait_ends_at_its_deadline(void) {
    for (int mode = MLOS_WAIT_ADAPTIVE; mode <= MLOS_WAIT_BLOCK; mode++) {
        rig r = rig_make(1, 4096, 4096);
        mlos_client_wait_mode(r.client, mode, 20000);
        CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
        uint64_t start = mlos_now();
        int got;
        while ((got = mlos_wait(r.client, 0, 3000000)) == MLOS_E_TICK) {
        }
        CHECK_EQUAL(got, MLOS_E_TIMEOUT);
        CHECK(mlos_now() - start >= 3000000);
        CHECK_EQUAL(mlos_wait(r.client, 0, 0), MLOS_E_TIMEOUT);
        rig_end(&r);
    }
}

static void a_worker_waits_until_its_deadline(void) {
    for (int mode = MLOS_WAIT_ADAPTIVE; mode <= MLOS_WAIT_BLOCK; mode++) {
        rig r = rig_make(1, 4096, 4096);
        mlos_port *port = mlos_port_new(r.bell, 2, 2, mode, 20000, 3);
        uint64_t start = mlos_now();
        int64_t got;
        while ((got = mlos_port_next(port, 3000000)) == MLOS_E_TICK) {
        }
        CHECK_EQUAL(got, MLOS_E_TIMEOUT);
        CHECK(mlos_now() - start >= 3000000);
        mlos_port_free(port);
        rig_end(&r);
    }
}

static void *interrupt(void *port) {
    usleep(1000);
    mlos_port_interrupt(port);
    return NULL;
}

static void an_interrupt_wakes_the_worker(void) {
    rig r = rig_make(1, 4096, 4096);
    pthread_t thread;
    mlos_port_interrupt(r.port);
    CHECK_EQUAL(mlos_port_next(r.port, -1), MLOS_E_TICK); /* one that came before is not lost */
    CHECK_EQUAL(pthread_create(&thread, NULL, interrupt, r.port), 0);
    uint64_t start = mlos_now();
    CHECK_EQUAL(mlos_port_next(r.port, -1), MLOS_E_TICK);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    CHECK(mlos_now() - start < (uint64_t)PATIENCE);
    rig_end(&r);
}

typedef struct ringer {
    mlos_bell *bell;
    atomic_int stop;
} ringer;

static void *ring(void *context) {
    ringer *r = context;
    while (!atomic_load(&r->stop)) atomic_fetch_add(&r->bell->seq, 1);
    return NULL;
}

static void a_client_that_scribbles_on_the_doorbell_cannot_keep_a_worker(void) {
    rig r = rig_make(1, 4096, 4096);
    ringer scribbler = {.bell = r.bell};
    pthread_t thread;
    CHECK_EQUAL(pthread_create(&thread, NULL, ring, &scribbler), 0);
    for (int i = 0; i < 50; i++) {
        int64_t got = mlos_port_next(r.port, 200000);
        CHECK(got == MLOS_E_TIMEOUT || got == MLOS_E_TICK);
    }
    atomic_store(&scribbler.stop, 1);
    CHECK_EQUAL(pthread_join(thread, NULL), 0);
    rig_end(&r);
}

static void the_event_loop_is_told_when_it_asked(void) {
    rig r = rig_make(3, 4096, 4096);
    uint64_t bits[16], count;
    for (uint32_t i = 0; i < 3; i++) CHECK_EQUAL(rig_submit(&r, i, "x", -1), 0);
    for (uint32_t i = 0; i < 3; i++) mlos_port_poll(r.port);
    CHECK_EQUAL(rig_answer(r.port, 0, "y"), 0);
    CHECK(read(r.event_fd, &count, sizeof count) < 0); /* nobody asked */
    mlos_arm(r.client, 1);
    CHECK_EQUAL(mlos_take_done(r.client, bits), 1);
    CHECK_EQUAL(rig_answer(r.port, 2, "y"), 0);
    CHECK_EQUAL(read(r.event_fd, &count, sizeof count), sizeof count);
    CHECK_EQUAL(mlos_take_done(r.client, bits), 1);
    CHECK_EQUAL(bits[0], 4);
    mlos_arm(r.client, 0);
    CHECK_EQUAL(rig_answer(r.port, 1, "y"), 0);
    CHECK(read(r.event_fd, &count, sizeof count) < 0);
    rig_end(&r);
}

static void a_full_eventfd_does_not_stop_the_worker(void) {
    rig r = rig_make(1, 4096, 4096);
    CHECK_EQUAL(fcntl(r.event_fd, F_SETFL, 0), 0); /* not even where writing would wait */
    const uint64_t most = UINT64_MAX - 1;
    CHECK_EQUAL(write(r.event_fd, &most, sizeof most), sizeof most);
    mlos_arm(r.client, 1);
    CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
    mlos_port_poll(r.port);
    CHECK_EQUAL(rig_answer(r.port, 0, "y"), 0);
    rig_end(&r);
}

static void a_dead_workers_lane_is_cleared(void) {
    rig r = rig_make(1, 4096, 4096);
    atomic_store(&r.bell->sleepers, 0xffffffffu);
    mlos_bell_clear_lane(r.bell, 3);
    mlos_bell_clear_lane(r.bell, 99);
    CHECK_EQUAL(atomic_load(&r.bell->sleepers), 0xfffffff7u);
    rig_end(&r);
}

int main(void) {
    RUN(nobody_misses_a_wake_up);
    RUN(a_wait_ends_at_its_deadline);
    RUN(a_worker_waits_until_its_deadline);
    RUN(an_interrupt_wakes_the_worker);
    RUN(a_client_that_scribbles_on_the_doorbell_cannot_keep_a_worker);
    RUN(the_event_loop_is_told_when_it_asked);
    RUN(a_full_eventfd_does_not_stop_the_worker);
    RUN(a_dead_workers_lane_is_cleared);
    return 0;
}
