/* SPDX-License-Identifier: BUSL-1.1 */
/* A status for the caller's code, a sentence for the caller's reader. */
#ifndef MLOS_ERROR_H
#define MLOS_ERROR_H

/* Keep a sentence for this thread (prefixed with `where`) and give `status` back. */
int mlos_fail(int status, const char *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The last sentence kept for this thread. */
const char *mlos_error(void);

#define FAIL(status, ...) mlos_fail(status, __func__, __VA_ARGS__)

#endif
