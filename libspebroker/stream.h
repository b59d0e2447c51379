/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

#include "libspebroker/context.h"

void stream_deinit(Stream *stream);
