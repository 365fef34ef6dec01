/* SPDX-License-Identifier: BUSL-1.1 */
#include "rig.h"

#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"

int rig_segment(const mlos_geometry *geometry) {
    int64_t size = mlos_segment_size(geometry);
    CHECK(size > 0);
    int fd = memfd_create("segment", MFD_CLOEXEC);
    CHECK(fd >= 0);
    CHECK_EQUAL(posix_fallocate(fd, 0, size), 0);
    CHECK_EQUAL(mlos_segment_format(fd, geometry), 0);
    return fd;
}

mlos_port *rig_port(rig *r, uint32_t owner, mlos_channel **server) {
    *server = mlos_channel_map(r->fd, r->event_fd, 1);
    CHECK(*server);
    mlos_port *port = mlos_port_new(r->bell, owner, owner % 32, MLOS_WAIT_ADAPTIVE, 20000, 3);
    CHECK(port);
    CHECK_EQUAL(mlos_port_add(port, 0, *server), 0);
    return port;
}

rig rig_make(uint32_t slots, uint64_t request_bytes, uint64_t reply_bytes) {
    const mlos_geometry geometry = {.slots = slots,
                                    .event_bytes = 256,
                                    .request_bytes = request_bytes,
                                    .reply_bytes = reply_bytes};
    rig r = {.fd = rig_segment(&geometry)};
    r.event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    r.bell_fd = memfd_create("bell", MFD_CLOEXEC);
    CHECK(r.event_fd >= 0 && r.bell_fd >= 0);
    CHECK_EQUAL(ftruncate(r.bell_fd, MLOS_PAGE), 0);
    r.bell = mlos_bell_map(r.bell_fd);
    r.client = mlos_channel_map(r.fd, r.event_fd, 0);
    CHECK(r.bell && r.client);
    r.port = rig_port(&r, 1, &r.server);
    r.header = (mlos_header *)mlos_channel_base(r.client);
    r.slots = (mlos_slot *)((uint8_t *)r.header + r.header->slots_off);
    return r;
}

void rig_end(rig *r) {
    mlos_port_free(r->port);
    mlos_channel_unmap(r->server);
    mlos_channel_unmap(r->client);
    mlos_bell_unmap(r->bell);
    close(r->fd);
    close(r->event_fd);
    close(r->bell_fd);
}

int rig_submit(rig *r, uint32_t slot, const char *text, int64_t timeout_ns) {
    uint64_t at = mlos_slot_request_off(r->client, slot);
    memcpy(mlos_channel_base(r->client) + at, text, strlen(text));
    return mlos_submit(r->client, r->bell, slot, at, (uint32_t)strlen(text), timeout_ns);
}

uint32_t rig_slot(int64_t key) {
    CHECK(key >= 0);
    return (uint32_t)(key >> 2) & 1023;
}

bool rig_fault(int64_t key) { return key & 2; }

int rig_answer(mlos_port *port, uint32_t slot, const char *text) {
    return mlos_answer(port, 0, slot, text, (uint32_t)strlen(text), 0, 0);
}

mlos_port_stats rig_statistics(mlos_port *port) {
    mlos_port_stats counted;
    mlos_port_statistics(port, &counted);
    return counted;
}

bool rig_says(rig *r, uint32_t slot, const char *text) {
    uint32_t length;
    const uint8_t *reply = mlos_reply(r->client, slot, &length);
    return reply && length == strlen(text) && !memcmp(reply, text, length);
}
