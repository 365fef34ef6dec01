/* SPDX-License-Identifier: BUSL-1.1 */
/* Several workers and client threads on one channel, with hand-overs. Runs under
 * ThreadSanitizer. Every request is answered exactly once and right. */
#include <pthread.h>
#include <string.h>

#include "check.h"
#include "rig.h"

#define CLIENTS 3
#define ROUNDS 4000
#define SLOTS 8

static rig shared;
static atomic_uint_least32_t next_owner = 10;
static atomic_int clients_left = CLIENTS;

/* The answer to "client round". */
static void answer_to(const char *header, uint32_t length, char *reply) {
    memcpy(reply, header, length);
    for (uint32_t i = 0; i < length; i++) reply[i] ^= 1;
}

static void serve_one(mlos_port *port, int64_t key) {
    uint32_t slot = rig_slot(key);
    mlos_task *task = mlos_port_task(port, 0, slot);
    char reply[64];
    CHECK(!rig_fault(key) && task->header_len <= sizeof reply);
    answer_to(task->header, task->header_len, reply);
    int64_t at = mlos_reply_alloc(port, 0, slot, 4096 + slot);
    if (at >= 0) memset(mlos_channel_base(shared.client) + at, reply[0], 64);
    int status = mlos_answer(port, 0, slot, reply, task->header_len, 0, 0);
    CHECK(status == 0 || status == MLOS_E_LOST);
}

/* A worker's life: serve a while, drop what it holds, and let a successor take it over. */
static void *work(void *context) {
    const int life = *(const int *)context;
    uint32_t dead = 0;
    while (atomic_load(&clients_left)) {
        const uint32_t owner = atomic_fetch_add(&next_owner, 1);
        /* One mapping for both ends: ThreadSanitizer knows memory by its address. */
        mlos_port *port = mlos_port_new(shared.bell, owner, owner % 32, MLOS_WAIT_ADAPTIVE, 20000, 3);
        CHECK(port);
        CHECK_EQUAL(mlos_port_add(port, 0, shared.client), 0);
        uint32_t alive[64], count = 0;
        for (uint32_t other = 10; other < owner && count < 64; other++)
            if (other != dead) alive[count++] = other;
        if (dead && owner < 64) CHECK(mlos_port_recover(port, 0, owner, alive, count) >= 0);
        for (int i = 0; atomic_load(&clients_left) && (i < life || owner > 50); i++) {
            int64_t key = mlos_port_next(port, SECOND / 100);
            if (key < 0) continue;
            if (i + 1 == life && owner < 50) break; /* dies with a claimed request */
            serve_one(port, key);
        }
        dead = owner;
        CHECK_EQUAL(mlos_port_take_broken(port), MLOS_E_AGAIN); /* however fast the others were */
        mlos_port_free(port);
    }
    return NULL;
}

static void *ask(void *context) {
    const int number = *(const int *)context;
    for (int round = 0; round < ROUNDS; round++) {
        char text[32], wanted[32];
        int slot;
        while ((slot = mlos_slot_acquire(shared.client)) == MLOS_E_AGAIN) sched_yield();
        CHECK(slot >= 0);
        int64_t memory = mlos_arena_alloc(shared.client, (uint64_t)(round % 700));
        snprintf(text, sizeof text, "client %d round %d", number, round);
        CHECK_EQUAL(rig_submit(&shared, (uint32_t)slot, text, -1), 0);
        int got;
        while ((got = mlos_wait(shared.client, (uint32_t)slot, PATIENCE)) == MLOS_E_TICK) {
        }
        CHECK_EQUAL(got, strlen(text));
        answer_to(text, (uint32_t)strlen(text), wanted);
        wanted[strlen(text)] = 0;
        CHECK(rig_says(&shared, (uint32_t)slot, wanted));
        if (memory >= 0) CHECK_EQUAL(mlos_arena_free(shared.client, (uint64_t)memory), 0);
        CHECK_EQUAL(mlos_slot_release(shared.client, (uint32_t)slot), 0);
    }
    atomic_fetch_sub(&clients_left, 1);
    return NULL;
}

static void *look(void *context) {
    (void)context;
    uint64_t bits[16];
    while (atomic_load(&clients_left)) {
        mlos_arm(shared.client, 1);
        CHECK(mlos_take_done(shared.client, bits) >= 0);
        CHECK(mlos_slots_free(shared.client) <= SLOTS);
        CHECK(mlos_arena_used(shared.client) <= mlos_channel_request_bytes(shared.client));
        sched_yield();
    }
    return NULL;
}

int main(void) {
    shared = rig_make(SLOTS, 8192, 16 * 4096);
    mlos_port_remove(shared.port, 0, 0); /* the workers are threads of their own */
    pthread_t threads[CLIENTS + 3];
    const int lives[] = {37, 53}, numbers[] = {0, 1, 2};
    for (int i = 0; i < CLIENTS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, ask, (void *)&numbers[i]), 0);
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(pthread_create(&threads[CLIENTS + i], NULL, work, (void *)&lives[i]), 0);
    CHECK_EQUAL(pthread_create(&threads[CLIENTS + 2], NULL, look, NULL), 0);
    for (int i = 0; i < CLIENTS + 3; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    CHECK_EQUAL(mlos_slots_free(shared.client), SLOTS);
    CHECK_EQUAL(mlos_arena_used(shared.client), 0);
    rig_end(&shared);
    return 0;
}
