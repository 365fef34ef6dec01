/* SPDX-License-Identifier: BUSL-1.1 */
#include "crash.h"

#include <stdatomic.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "mlos/ipc.h"

#ifdef MLOS_CRASH_POINTS

static const char *const names[CRASH_POINT_COUNT + 1] = {
#define X(name, from, to) "BEFORE_" #name, "AFTER_" #name,
    MLOS_TRANSITIONS(X)
#undef X
#define X(name) #name,
        MLOS_STEPS(X)
#undef X
            NULL};

static atomic_int armed = -1;
static atomic_uint left;

void mlos_crash_pass(enum crash_point point) {
    if (atomic_load_explicit(&armed, memory_order_relaxed) != (int)point) return;
    if (atomic_fetch_sub(&left, 1) == 1) kill(getpid(), SIGKILL);
}

int mlos_crash_arm(const char *point, uint32_t count) {
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], point)) continue;
        atomic_store(&left, count);
        atomic_store(&armed, i);
        return 0;
    }
    return FAIL(MLOS_E_ARGUMENT, "no crash point %s", point);
}

#else

static const char *const names[] = {NULL};

int mlos_crash_arm(const char *point, uint32_t count) {
    (void)count;
    return FAIL(MLOS_E_ARGUMENT, "%s: this build has no crash points", point);
}

#endif

const char *const *mlos_crash_points(void) { return names; }
