/* SPDX-License-Identifier: BUSL-1.1 */
#include "bell.h"

#include <string.h>
#include <sys/mman.h>

#include "error.h"

mlos_bell *mlos_bell_map(int fd) {
    void *base = mmap(NULL, MLOS_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (base == MAP_FAILED) {
        FAIL(MLOS_E_SYSTEM, "mmap: %s", strerror(errno));
        return NULL;
    }
    return base;
}

void mlos_bell_unmap(mlos_bell *bell) { munmap(bell, MLOS_PAGE); }

void mlos_bell_clear_lane(mlos_bell *bell, uint32_t lane) {
    if (lane < MLOS_MAX_LANES) atomic_fetch_and(&bell->sleepers, ~(1u << lane));
}
