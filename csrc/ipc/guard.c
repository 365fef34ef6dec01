/* SPDX-License-Identifier: BUSL-1.1 */
#include "guard.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "error.h"
#include "mlos/ipc.h"

#define GUARDS 4096

/* `base` is stored last and cleared first, so that the handler never sees half an entry. */
static struct {
    _Atomic uintptr_t base;
    _Atomic uint64_t size;
    atomic_int hit;
} table[GUARDS];

static atomic_int top; /* entries at and above were never used */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool installed;
static struct sigaction previous;

static bool rescue(uintptr_t address) {
    int count = atomic_load(&top);
    for (int i = 0; i < count; i++) {
        uintptr_t base = atomic_load(&table[i].base);
        uint64_t size = atomic_load(&table[i].size);
        if (!base || address < base || address - base >= size) continue;
        void *got = mmap((void *)base, size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (got == MAP_FAILED) return false;
        atomic_store(&table[i].hit, 1);
        return true;
    }
    return false;
}

static void on_sigbus(int number, siginfo_t *info, void *context) {
    if (rescue((uintptr_t)info->si_addr)) return;
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    } else {
        signal(SIGBUS, SIG_DFL); /* the instruction faults again and ends the process */
    }
}

static int install(void) {
    struct sigaction action = {.sa_sigaction = on_sigbus,
                               .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, &previous)) return -1;
    installed = true;
    return 0;
}

int guard_add(uint8_t *base, uint64_t size) {
    int found = -1;
    pthread_mutex_lock(&lock);
    if (installed || !install()) {
        for (int i = 0; i < GUARDS && found < 0; i++)
            if (!atomic_load(&table[i].base)) found = i;
    }
    if (found >= 0) {
        atomic_store(&table[found].hit, 0);
        atomic_store(&table[found].size, size);
        atomic_store(&table[found].base, (uintptr_t)base);
        if (found >= atomic_load(&top)) atomic_store(&top, found + 1);
    }
    pthread_mutex_unlock(&lock);
    return found >= 0 ? found : FAIL(MLOS_E_SYSTEM, "no room to guard another segment");
}

void guard_remove(int handle) { atomic_store(&table[handle].base, 0); }

int guard_hit(int handle) { return atomic_load_explicit(&table[handle].hit, memory_order_relaxed); }
