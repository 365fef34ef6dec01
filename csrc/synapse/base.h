/* SPDX-License-Identifier: BUSL-1.1 */
#ifndef SYN_BASE_H
#define SYN_BASE_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "synapse/base_api.h"

#endif
