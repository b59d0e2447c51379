/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * Bounded file access under a directory descriptor. What is read may be hostile: a FIFO, a device, a loop of
 * links, a file without end. Nothing here blocks, and nothing reads more than the caller's bound.
 */

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

enum {
        _FS_E_SUCCESS,
        FS_E_NOT_FOUND,   /* no such file, or a dangling link */
        FS_E_NOT_REGULAR, /* a directory, FIFO, device or socket where a file was expected */
        FS_E_TOO_LARGE,   /* more bytes than the caller's bound */
        FS_E_UNREADABLE,  /* it is there, but opening or reading fails (EACCES, ELOOP, EIO, ...) */
        FS_E_NOT_DURABLE, /* it is written, but a crash may bring back what was there before */
};

/* A short phrase for a positive outcome, for sentences: "not there". */
const char *fs_strerror(int outcome);

/*
 * Reads the regular file @path below @dir_fd (AT_FDCWD: an ordinary path) into @buffer, at most @size - 1
 * bytes, and ends it with NUL. Bytes may hold NUL themselves; *ret_n says how many there are. sysfs files
 * claim a page whatever they hold, so the size that stat() tells is not believed.
 */
int fs_read(int dir_fd, const char *path, char *buffer, size_t size, size_t *ret_n);

/* Like fs_read(), with one trailing newline removed, and FS_E_UNREADABLE for a text with NUL bytes. */
int fs_read_line(int dir_fd, const char *path, char *buffer, size_t size, size_t *ret_n);

/* Reads a whole file of at most @max bytes into fresh memory, NUL-terminated; the caller frees it. */
int fs_read_all(int dir_fd, const char *path, size_t max, char **ret_data, size_t *ret_n);

/*
 * Replaces @path below @dir_fd by @data: a temporary file beside it, fsync, rename, fsync of the directory.
 * A reader, and a crash at any instant, sees the old file or the new one. Returns 0, or -errno with the old
 * one there, or FS_E_NOT_DURABLE with the new one: the directory cannot be synced, for which errno has the
 * reason.
 */
int fs_write_atomic(int dir_fd, const char *path, const char *data, size_t n, unsigned mode);

/*
 * As fs_write_atomic(), but without waiting for the disk: for what is worth nothing once this machine has
 * stopped. A reader, and a writer that dies at any instant, see the old file or the new one all the same.
 */
int fs_write_transient(int dir_fd, const char *path, const char *data, size_t n, unsigned mode);

/* True if @name can be a file that one of the two was about to rename when its process died. */
bool fs_is_temporary(const char *name);
/* Removes such files beside @path that were to become it. Returns 0 or -errno. */
int fs_remove_temporary(int dir_fd, const char *path);

/* mkdir -p of @path below @dir_fd; existing directories are fine. Returns 0 or -errno. */
int fs_mkdir_all(int dir_fd, const char *path, unsigned mode);

/* The next entry of @dir, or NULL at its end: readdir() does not tell that from an error. Returns 0 or
 * -errno. */
int fs_readdir(DIR *dir, struct dirent **ret_entry);
