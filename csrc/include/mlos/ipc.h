/* SPDX-License-Identifier: BUSL-1.1 */
/* The data plane's C interface. The declarations are in ipc_api.h, which the Python binding
 * reads too. */
#ifndef MLOS_IPC_H
#define MLOS_IPC_H

#include <stdint.h>

#include "mlos/ipc_api.h"

#endif
