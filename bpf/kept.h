/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Descriptors of maps and links that are kept over a restart: their names, and whether what comes back under
 * one is what it should be, as a name is no proof.
 */

#include <bpf/libbpf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEPT_NAME_MAX 48U

/* "arbiter-0123456789abcdef-pmus". @checksum of the very programs, as for others maps may be of another
 * layout. */
void kept_name(char name[static KEPT_NAME_MAX], const char *module, uint64_t checksum, const char *part);
/* Whether @fd is a map that can stand for @map. */
bool kept_is_map(int fd, const struct bpf_map *map);
/* Whether @fd is a link of a program like @program, or (NULL) of one at a raw tracepoint. */
bool kept_is_link(int fd, const struct bpf_program *program);
/* A number, not 0, that nobody can guess: by it a program knows what its own process does to have it proven.
 */
int kept_make_mark(uint64_t *ret_mark);
