/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A kernel log of any bytes. Each message is printable, bounded, and the same whatever the pieces are that
 * the log comes in; what is made of them stays within its bounds, and a failure has its words.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/kernel-log.h"
#include "host/kernel-messages.h"
#include "util/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct Seen {
        KernelMessages messages;
        size_t n;
        uint64_t hash; /* FNV-1a of all messages */
} Seen;

static void require(bool condition) {
        if (!condition)
                abort();
}

static void take(const char *text, void *userdata) {
        Seen *seen = userdata;
        size_t n = strlen(text);

        require(n > 0 && n < KERNEL_LOG_TEXT_MAX);
        for (size_t i = 0; i <= n; i++) {
                require(i == n || (text[i] >= ' ' && text[i] <= '~'));
                seen->hash = (seen->hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
        }
        seen->n++;
        kernel_messages_take(text, &seen->messages);
}

static void read_log(const uint8_t *data, size_t size, size_t piece, Seen *seen) {
        KernelLogReader reader;

        memset(seen, 0, sizeof(*seen));
        kernel_log_reader_init(&reader, take, seen);
        for (size_t i = 0; i < size; i += piece)
                kernel_log_reader_feed(&reader, (const char *)data + i, size - i < piece ? size - i : piece);
        kernel_log_reader_finish(&reader);
}

static void check_probe(const SpeProbe *probe) {
        require(memchr(probe->device, '\0', sizeof(probe->device)) && !strchr(probe->device, ' '));
        require(memchr(probe->text, '\0', sizeof(probe->text)));
        require(probe->message < _SPE_MESSAGE_N);
        require((probe->message == SPE_SILENT) == (probe->text[0] == '\0'));
        require(probe->cpu >= -1 && probe->error >= 0);
}

static void check(const KernelMessages *messages) {
        require(messages->n_probes <= KERNEL_MESSAGES_PROBE_MAX);
        for (size_t i = 0; i < messages->n_probes; i++) {
                check_probe(&messages->probes[i]);
                require(messages->probes[i].device[0] != '\0');
                for (size_t k = 0; k < i; k++)
                        require(strcmp(messages->probes[i].device, messages->probes[k].device) != 0);
        }
        check_probe(&messages->acpi);
        require((messages->kvm == KVM_SILENT) == (messages->kvm_text[0] == '\0'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const size_t pieces[] = {1, 13, SIZE_MAX / 2};
        Seen first, other;

        read_log(data, size, size > 0 ? size : 1, &first);
        check(&first.messages);
        for (size_t i = 0; i < ELEMENTS_OF(pieces); i++) {
                read_log(data, size, pieces[i], &other);
                require(other.n == first.n && other.hash == first.hash);
        }
        return 0;
}
