/* SPDX-License-Identifier: BUSL-1.1 */
/* One end's private view of a segment: the geometry it checked once, and where things lie. */
#ifndef MLOS_CHANNEL_H
#define MLOS_CHANNEL_H

#include <pthread.h>
#include <stdbool.h>

#include "crash.h"
#include "mlos/ipc.h"
#include "mlos/layout.h"
#include "wait.h"

typedef struct arena arena;

struct mlos_channel {
    /* Set once by mlos_channel_map. The shared header is never asked again for geometry. */
    uint8_t *base;
    uint64_t size;
    mlos_header *header;
    _Atomic uint32_t *ring;
    _Atomic uint64_t *tags;
    mlos_slot *slots;
    uint8_t *events;
    uint64_t arena_c_off, arena_c_size, arena_w_off, arena_w_size;
    uint32_t slot_count, ring_mask, event_bytes, block_count, block_shift;
    int event_fd;
    int guard; /* index in the guard's table, -1 when unguarded */

    /* The client's end. `lock` protects the submission ring's tail, the free list and the arena. */
    pthread_mutex_t lock;
    atomic_bool disowned;
    _Atomic(mlos_bell *) bell;
    _Atomic uint8_t *busy; /* a thread is inside mlos_submit or mlos_call with this slot */
    uint64_t *words;       /* what each slot's word must be while the client holds it */
    uint32_t *free_slots;
    uint32_t free_count;
    _Atomic uint32_t peer_cpu; /* processor of the worker that answered last */
    arena *book;
    waiter wait;
};

/* Move a slot from one state to another: the only place that writes a slot's word.
 * SYNC POINT: everything the mover wrote into slot and arenas is visible to whoever sees
 * the new word (seq_cst, which the sleep and wake protocols need besides). */
static inline bool slot_move(mlos_slot *slot, enum transition which, uint64_t expected,
                             uint64_t next) {
    CRASH_POINT((enum crash_point)(2 * which));
    bool moved = atomic_compare_exchange_strong(&slot->word, &expected, next);
    if (moved) CRASH_POINT((enum crash_point)(2 * which + 1));
    return moved;
}

/* Read a field that the other side may change at any time: exactly once, so that what was
 * checked is what is used. */
#define READ_ONCE(field) (*(const volatile __typeof__(field) *)&(field))

static inline bool channel_has(const mlos_channel *c, uint64_t off, uint64_t length) {
    return off <= c->size && length <= c->size - off;
}

static inline uint8_t *channel_event_ring(const mlos_channel *c, uint32_t slot) {
    return c->events + (uint64_t)slot * c->event_bytes;
}

static inline uint8_t *channel_journal(const mlos_channel *c, uint32_t slot) {
    return channel_event_ring(c, c->slot_count + slot);
}

/* Wake the client: whoever waits for `slot` in a futex, and its event loop if it asked. */
void channel_notify(mlos_channel *c, uint32_t slot);
/* Wake the client's event loop. Never waits. */
void channel_signal(mlos_channel *c);

#endif
