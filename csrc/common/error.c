/* SPDX-License-Identifier: BUSL-1.1 */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

static _Thread_local char message[256];

int mlos_fail(int status, const char *where, const char *format, ...) {
    int used = snprintf(message, sizeof message, "%s: ", where);
    if (used < 0 || (size_t)used >= sizeof message) return status;
    va_list args;
    va_start(args, format);
    vsnprintf(message + used, sizeof message - (size_t)used, format, args);
    va_end(args);
    return status;
}

const char *mlos_error(void) { return message; }
