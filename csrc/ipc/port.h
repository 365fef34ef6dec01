/* SPDX-License-Identifier: BUSL-1.1 */
/* A worker's end of all channels of its model: what port.c (claiming), reply.c (answering) and
 * recovery.c share. One thread claims and answers; others only interrupt. */
#ifndef MLOS_PORT_H
#define MLOS_PORT_H

#include "channel.h"
#include "error.h"
#include "histogram.h"

#define MAX_CHANNELS 4096u
#define MAX_HEADER (1u << 20)

typedef struct seat {
    mlos_channel *channel;
    mlos_task *tasks;
    uint32_t slot_count;
    uint32_t held; /* claimed and not answered */
    bool given_up;   /* its client broke it */
    const char *why; /* it was given up; a literal */
    bool leaving;   /* to be removed once nothing is held */
    bool cancelled; /* ... and what is held is not wanted any more */
} seat;

typedef struct orphan {
    uint32_t index, slot;
} orphan;

struct mlos_port {
    mlos_bell *bell;
    uint32_t owner, lane, max_attempts;
    waiter wait;
    int64_t patience_ns;
    atomic_uint interrupted;
    seat *seats[MAX_CHANNELS];
    uint32_t active[MAX_CHANNELS]; /* indices of the seats taken */
    uint32_t active_count;
    uint32_t cursor; /* where the next look starts: no channel starves another */
    uint32_t peer_cpu;
    uint64_t parted_ns;
    mlos_port_stats stats;
    orphan *orphans;
    uint32_t orphan_count, orphan_room;
};

static inline mlos_task *task_at(mlos_port *p, uint32_t index, uint32_t slot) {
    if (index >= MAX_CHANNELS || !p->seats[index]) return NULL;
    seat *s = p->seats[index];
    return slot < s->slot_count ? &s->tasks[slot] : NULL;
}

#define TASK_OR_LOST(p, index, slot)                                                               \
    mlos_task *t = task_at(p, index, slot);                                                        \
    if (!t) return FAIL(MLOS_E_LOST, "channel %u is gone", index);                                 \
    mlos_channel *c = (p)->seats[index]->channel

static inline bool cancelled(mlos_slot *slot, uint64_t word) {
    return atomic_load_explicit(&slot->cancel, memory_order_acquire) ==
           (uint64_t)mlos_word_generation(word) + 1;
}

/* Free blocks [from, to) of arena W that still carry the tag (reply.c). */
void blocks_unclaim(mlos_channel *c, uint32_t from, uint32_t to, uint64_t tag);

#endif
