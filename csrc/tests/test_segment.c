/* SPDX-License-Identifier: BUSL-1.1 */
/* Geometry, forged headers, and segments that are cut short while they are in use. */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "rig.h"

static const mlos_geometry small = {
    .slots = 3, .event_bytes = 256, .request_bytes = 5000, .reply_bytes = 5000};

static void impossible_geometries_are_refused(void) {
    const mlos_geometry bad[] = {{0, 256, 1, 1},       {1025, 256, 1, 1},      {1, 255, 1, 1},
                                 {1, 300, 1, 1},       {1, 1u << 25, 1, 1},    {1, 256, 0, 1},
                                 {1, 256, 1, 0},       {1, 256, UINT64_MAX, 1}, {1, 256, 1, UINT64_MAX},
                                 {1, 0, 1, 1},         {UINT32_MAX, 256, 1, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        CHECK_EQUAL(mlos_segment_size(&bad[i]), MLOS_E_ARGUMENT);
    const mlos_geometry most = {1024, 1u << 24, UINT64_C(1) << 40, UINT64_C(1) << 40};
    CHECK(mlos_segment_size(&most) > 0);
}

/* Every byte of the geometry, changed in several ways, is noticed. */
static void every_forged_field_is_noticed(void) {
    int fd = rig_segment(&small);
    const uint8_t flips[] = {1, 0x80, 0xff};
    for (off_t at = 0; at < 104; at++) {
        uint8_t byte;
        CHECK_EQUAL(pread(fd, &byte, 1, at), 1);
        for (int i = 0; i < 3; i++) {
            uint8_t forged = byte ^ flips[i];
            CHECK_EQUAL(pwrite(fd, &forged, 1, at), 1);
            CHECK(!mlos_channel_map(fd, -1, 1));
        }
        CHECK_EQUAL(pwrite(fd, &byte, 1, at), 1);
    }
    mlos_channel *c = mlos_channel_map(fd, -1, 1);
    CHECK(c);
    mlos_channel_unmap(c);
    close(fd);
}

static void what_is_no_segment_is_refused(void) {
    int fd = memfd_create("nothing", MFD_CLOEXEC);
    CHECK(!mlos_channel_map(fd, -1, 1));
    CHECK_EQUAL(ftruncate(fd, 1 << 20), 0);
    CHECK(!mlos_channel_map(fd, -1, 1));
    close(fd);
    CHECK(!mlos_channel_map(-1, -1, 1));
}

static void a_segment_cut_short_or_with_holes_is_refused(void) {
    int fd = rig_segment(&small);
    const off_t size = mlos_segment_size(&small);
    for (off_t cut = 0; cut < size; cut += 1000) {
        CHECK_EQUAL(ftruncate(fd, size - 1 - cut), 0);
        CHECK(!mlos_channel_map(fd, -1, 1));
    }
    close(fd);
    fd = rig_segment(&small);
    CHECK_EQUAL(ftruncate(fd, size - MLOS_PAGE), 0);
    CHECK_EQUAL(ftruncate(fd, size), 0); /* long enough, but nothing is reserved there */
    CHECK(!mlos_channel_map(fd, -1, 1));
    CHECK_EQUAL(mlos_segment_shut(fd, "x", 1), MLOS_E_BROKEN);
    close(fd);
}

static void another_layout_is_refused_with_its_number(void) {
    int fd = rig_segment(&small);
    const uint32_t version = MLOS_LAYOUT_VERSION + 1;
    CHECK_EQUAL(pwrite(fd, &version, 4, offsetof(mlos_header, version)), 4);
    CHECK(!mlos_channel_map(fd, -1, 1));
    char told[32];
    snprintf(told, sizeof told, "layout version %u", version);
    CHECK(strstr(mlos_error(), told));
    close(fd);
}

static void a_worker_survives_a_cut_at_every_page(void) {
    for (off_t keep = 0;; keep += MLOS_PAGE) {
        rig r = rig_make(2, 8192, 8192), other = rig_make(2, 4096, 4096);
        const off_t size = (off_t)mlos_channel_size(r.client);
        if (keep >= size) {
            rig_end(&r);
            rig_end(&other);
            break;
        }
        CHECK_EQUAL(mlos_port_add(r.port, 1, other.server), 0);
        CHECK_EQUAL(rig_submit(&r, 0, "x", -1), 0);
        CHECK_EQUAL(rig_submit(&r, 1, "x", -1), 0);
        CHECK_EQUAL(rig_slot(mlos_port_poll(r.port)), 0);
        CHECK_EQUAL(ftruncate(r.fd, keep), 0);
        int64_t at = mlos_reply_alloc(r.port, 0, 0, 8192);
        if (at >= 0) memset(mlos_channel_base(r.server) + at, 1, 8192);
        mlos_emit(r.port, 0, 0, "event", 5);
        mlos_task_stop(r.port, 0, 0);
        rig_answer(r.port, 0, "y");
        mlos_port_recover(r.port, 0, 1, NULL, 0);
        for (int i = 0; i < 4; i++) mlos_port_poll(r.port);
        volatile uint8_t *base = mlos_channel_base(r.server);
        base[size - 1] = 1; /* whatever was touched before: this lies behind the end */
        CHECK(mlos_channel_broken(r.server));
        mlos_port_poll(r.port);
        CHECK_EQUAL(mlos_port_take_broken(r.port), 0);
        /* the neighbour is served as before */
        CHECK_EQUAL(rig_submit(&other, 0, "x", -1), 0);
        CHECK_EQUAL(mlos_port_poll(r.port), INT64_C(1) << 12);
        CHECK_EQUAL(mlos_answer(r.port, 1, 0, "y", 1, 0, 0), 0);
        CHECK(rig_says(&other, 0, "y"));
        CHECK_EQUAL(mlos_port_remove(r.port, 0, 1), 0);
        CHECK_EQUAL(mlos_port_remove(r.port, 1, 0), 0);
        rig_end(&r);
        rig_end(&other);
    }
}

static void a_foreign_fault_still_ends_the_process(void) {
    rig r = rig_make(1, 4096, 4096); /* the guard is installed */
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        int fd = memfd_create("foreign", 0);
        if (ftruncate(fd, MLOS_PAGE)) _exit(0);
        volatile char *p = mmap(NULL, MLOS_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (ftruncate(fd, 0)) _exit(0);
        signal(SIGALRM, SIG_DFL);
        alarm(20); /* a fault that is swallowed would come back for ever */
        p[0] = 1;
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    /* By the signal; a sanitizer's own handler exits with a status instead. */
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) != 0);
    rig_end(&r);
}

int main(void) {
    RUN(impossible_geometries_are_refused);
    RUN(every_forged_field_is_noticed);
    RUN(what_is_no_segment_is_refused);
    RUN(a_segment_cut_short_or_with_holes_is_refused);
    RUN(another_layout_is_refused_with_its_number);
    RUN(a_worker_survives_a_cut_at_every_page);
    RUN(a_foreign_fault_still_ends_the_process);
    return 0;
}
