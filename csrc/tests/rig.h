/* SPDX-License-Identifier: BUSL-1.1 */
/* A channel with both its ends in one process. */
#ifndef MLOS_RIG_H
#define MLOS_RIG_H

#include <stdbool.h>

#include "mlos/ipc.h"
#include "mlos/layout.h"

#define SECOND INT64_C(1000000000)
#define PATIENCE (30 * SECOND)

typedef struct rig {
    int fd, event_fd, bell_fd;
    mlos_bell *bell;
    mlos_channel *client;
    mlos_channel *server;
    mlos_port *port;
    mlos_header *header; /* what a scribbler sees */
    mlos_slot *slots;
} rig;

/* A reserved and formatted segment. */
int rig_segment(const mlos_geometry *geometry);
rig rig_make(uint32_t slots, uint64_t request_bytes, uint64_t reply_bytes);
void rig_end(rig *r);
/* Another worker, with a mapping of its own, that serves the rig's channel under index 0. */
mlos_port *rig_port(rig *r, uint32_t owner, mlos_channel **server);

/* Write `text` as a slot's header and submit it. */
int rig_submit(rig *r, uint32_t slot, const char *text, int64_t timeout_ns);
/* The key's slot. */
uint32_t rig_slot(int64_t key);
bool rig_fault(int64_t key);
/* Answer slot of index 0 with `text`. */
int rig_answer(mlos_port *port, uint32_t slot, const char *text);
/* What the port has counted. */
mlos_port_stats rig_statistics(mlos_port *port);
/* The slot is answered with `text`. */
bool rig_says(rig *r, uint32_t slot, const char *text);

#endif
