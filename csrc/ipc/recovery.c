/* SPDX-License-Identifier: BUSL-1.1 */
/* What a worker that died has left, taken over by its successor.
 *
 * Assumes: the daemon has seen it die (pidfd). Any number of successors may come at once: each
 * slot goes to the one whose exchange succeeds.
 */
#include <stdlib.h>

#include "port.h"

/* --- recovery ------------------------------------------------------------------------------ */

static bool is_alive(const uint32_t *alive, uint32_t count, uint32_t owner) {
    for (uint32_t i = 0; i < count; i++)
        if (alive[i] == owner) return true;
    return false;
}

static int remember(mlos_port *p, uint32_t index, uint32_t slot) {
    if (p->orphan_count == p->orphan_room) {
        uint32_t room = p->orphan_room ? 2 * p->orphan_room : 64;
        orphan *grown = realloc(p->orphans, room * sizeof *grown);
        if (!grown) return FAIL(MLOS_E_SYSTEM, "out of memory");
        p->orphans = grown;
        p->orphan_room = room;
    }
    p->orphans[p->orphan_count++] = (orphan){.index = index, .slot = slot};
    return 0;
}

/* Take one slot over if its worker is dead. 1: taken, 0: nothing to do. */
static bool take_over(mlos_port *p, mlos_channel *c, uint32_t number, uint64_t head,
                      uint32_t limit, const uint32_t *alive, uint32_t alive_count) {
    mlos_slot *slot = &c->slots[number];
    uint64_t word = atomic_load(&slot->word);
    uint32_t generation = mlos_word_generation(word), attempts = mlos_word_attempts(word);
    uint32_t owner = mlos_word_owner(word);
    if (mlos_word_state(word) == MLOS_TAKEN && owner < limit && owner != p->owner &&
        !is_alive(alive, alive_count, owner)) {
        if (attempts < MLOS_MAX_ATTEMPTS) attempts++;
        if (!slot_move(slot, T_RECLAIM, word, mlos_word(generation, p->owner, attempts, MLOS_TAKEN)))
            return false;
        blocks_unclaim(c, 0, c->block_count, mlos_tag(generation, number)); /* its half-made reply */
        return true;
    }
    /* Out of the ring and not claimed: its taker died in between, or is just about to claim
     * it, in which case one of the two loses the exchange. */
    if (mlos_word_state(word) == MLOS_FILLED &&
        atomic_load_explicit(&slot->sequence, memory_order_relaxed) < head)
        return slot_move(slot, T_ADOPT, word, mlos_word(generation, p->owner, attempts, MLOS_TAKEN));
    if (mlos_word_state(word) == MLOS_DONE) /* answered, but perhaps not told */
        atomic_fetch_or(&c->header->done_bits[number / 64], UINT64_C(1) << (number % 64));
    return false;
}

static void wake_everyone(mlos_channel *c) {
    atomic_fetch_add(&c->header->done_seq, 1);
    futex_wake(&c->header->done_seq, INT_MAX, FUTEX_BITSET_MATCH_ANY);
    channel_signal(c);
}

int mlos_port_recover(mlos_port *p, uint32_t index, uint32_t limit, const uint32_t *alive,
                      uint32_t alive_count) {
    if (index >= MAX_CHANNELS || !p->seats[index])
        return FAIL(MLOS_E_ARGUMENT, "seat %u is empty", index);
    mlos_channel *c = p->seats[index]->channel;
    uint64_t head = atomic_load(&c->header->head);
    int taken = 0;
    for (uint32_t i = 0; i < c->slot_count; i++) {
        if (!take_over(p, c, i, head, limit, alive, alive_count)) continue;
        int status = remember(p, index, i);
        if (status) return status;
        taken++;
    }
    COUNT(p->stats.recovered, (uint64_t)taken);
    wake_everyone(c);
    return taken;
}
