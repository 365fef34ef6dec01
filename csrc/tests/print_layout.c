/* SPDX-License-Identifier: BUSL-1.1 */
/* Prints where the fields lie, for tests in Python that forge them. */
#include <stdio.h>

#include "mlos/layout.h"

#define HEADER(field)                                                                              \
    printf("header %s %zu %zu\n", #field, offsetof(mlos_header, field),                            \
           sizeof(((mlos_header *)0)->field))
#define SLOT(field)                                                                                \
    printf("slot %s %zu %zu\n", #field, offsetof(mlos_slot, field), sizeof(((mlos_slot *)0)->field))

int main(void) {
    HEADER(magic), HEADER(version), HEADER(slot_count), HEADER(total_size), HEADER(ring_off);
    HEADER(blocks_off), HEADER(slots_off), HEADER(events_off), HEADER(arena_c_off);
    HEADER(arena_c_size), HEADER(arena_w_off), HEADER(arena_w_size), HEADER(ring_size);
    HEADER(event_bytes), HEADER(block_count), HEADER(block_shift), HEADER(state);
    HEADER(reason_len), HEADER(lanes), HEADER(tail), HEADER(head), HEADER(done_seq), HEADER(done_waiters);
    HEADER(notify), HEADER(done_bits), HEADER(reason);
    SLOT(word), SLOT(sequence), SLOT(deadline_ns), SLOT(submitted_ns), SLOT(header_off);
    SLOT(header_len), SLOT(client_cpu), SLOT(cancel), SLOT(reply_off), SLOT(reply_len);
    SLOT(worker_cpu), SLOT(taken_ns), SLOT(answered_ns), SLOT(event_head), SLOT(journal), SLOT(event_tail);
    SLOT(request), SLOT(reply), SLOT(small_c), SLOT(small_w);
    return 0;
}
