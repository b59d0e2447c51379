/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The .varlink files of this directory, byte for byte, NUL-terminated; made by cmake/embed.cmake. */

extern const char idl_io_spebroker_Broker[];
extern const char idl_io_spebroker_Admin[];
