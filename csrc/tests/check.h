/* SPDX-License-Identifier: BUSL-1.1 */
/* Assertions that say what they saw, and a runner. */
#ifndef MLOS_CHECK_H
#define MLOS_CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "mlos/ipc.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (condition) break;                                                                      \
        fprintf(stderr, "%s:%d: %s: %s is false; last error: %s\n", __FILE__, __LINE__, __func__,  \
                #condition, mlos_error());                                                         \
        abort();                                                                                   \
    } while (0)

#define CHECK_EQUAL(got, wanted)                                                                   \
    do {                                                                                           \
        int64_t got_ = (int64_t)(got), wanted_ = (int64_t)(wanted);                                \
        if (got_ == wanted_) break;                                                                \
        fprintf(stderr, "%s:%d: %s: %s is %" PRId64 ", not %" PRId64 "; last error: %s\n",         \
                __FILE__, __LINE__, __func__, #got, got_, wanted_, mlos_error());                  \
        abort();                                                                                   \
    } while (0)

#define RUN(test)                                                                                  \
    do {                                                                                           \
        fprintf(stderr, "%s\n", #test);                                                            \
        test();                                                                                    \
    } while (0)

#endif
