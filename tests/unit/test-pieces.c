/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* An array that is written in parts, of numbers that change, come and go meanwhile. */

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "broker/pieces.h"
#include "util/cleanup.h"

#define N 5

/* It begins with three of the five. Negative ones are not to be seen yet. */
typedef struct Fixture {
        PiecesList list;
        Pieces pieces;
        Buffer buffer;
        JsonWriter w;
        int64_t numbers[N];
} Fixture;

static void write_number(JsonWriter *w, const void *subject) {
        const int64_t *number = subject;

        if (*number >= 0)
                json_write_int(w, NULL, *number);
}

static void begin(Fixture *f, unsigned n) {
        *f = (Fixture){.buffer = BUFFER_INIT(4096), .numbers = {10, 20, 30, 40, 50}};
        LIST_INIT(&f->list);
        assert_int_equal(buffer_append(&f->buffer, "..", 2), 0);
        buffer_consume(&f->buffer, 1);
        json_writer_init(&f->w, &f->buffer);
        json_write_object_begin(&f->w, NULL);
        pieces_init(&f->pieces, &f->list, write_number);
        pieces_array_begin(&f->pieces, &f->w, "a");
        for (unsigned i = 0; i < n; i++)
                pieces_add(&f->pieces, &f->w, i + 1, &f->numbers[i]);
}

static void change(Fixture *f, unsigned i, int64_t number) {
        f->numbers[i] = number;
        pieces_note_change(&f->list, i + 1);
}

static void drop(Fixture *f, unsigned i) {
        f->numbers[i] = 666;
        pieces_note_end(&f->list, i + 1);
}

static void expect(Fixture *f, const char *text) {
        pieces_array_end(&f->pieces, &f->w);
        json_write_int(&f->w, "b", 1);
        pieces_put_right(&f->pieces, &f->w);
        json_write_int(&f->w, "c", 2);
        json_write_object_end(&f->w);
        assert_int_equal(json_writer_finish(&f->w), 0);
        assert_int_equal(buffer_append(&f->buffer, "", 1), 0);
        assert_string_equal(f->buffer.data + f->buffer.start, text);
        pieces_deinit(&f->pieces);
        assert_true(LIST_EMPTY(&f->list));
        buffer_deinit(&f->buffer);
}

static void test_nothing_changes(_unused_ void **state) {
        Fixture f;

        begin(&f, 3);
        pieces_note_change(&f.list, 4); /* has not been met */
        pieces_note_end(&f.list, 4);
        expect(&f, ".{\"a\":[10,20,30],\"b\":1,\"c\":2}");
        begin(&f, 0);
        expect(&f, ".{\"a\":[],\"b\":1,\"c\":2}");
}

static void test_changed(_unused_ void **state) {
        Fixture f;

        begin(&f, 3);
        change(&f, 1, 2000000);
        change(&f, 1, 21);
        expect(&f, ".{\"a\":[10,30,21],\"b\":1,\"c\":2}");

        begin(&f, 3);
        change(&f, 0, 1000000);
        change(&f, 2, 3);
        expect(&f, ".{\"a\":[20,1000000,3],\"b\":1,\"c\":2}");

        begin(&f, 3);
        for (unsigned i = 0; i < 3; i++)
                change(&f, i, 123456789);
        expect(&f, ".{\"a\":[123456789,123456789,123456789],\"b\":1,\"c\":2}");
}

static void test_gone(_unused_ void **state) {
        Fixture f;

        for (unsigned i = 0; i < 3; i++) {
                static const char *const left[] = {"20,30", "10,30", "10,20"};
                char text[64];

                begin(&f, 3);
                change(&f, i, 7);
                drop(&f, i);
                (void)snprintf(text, sizeof(text), ".{\"a\":[%s],\"b\":1,\"c\":2}", left[i]);
                expect(&f, text);
        }

        begin(&f, 3);
        for (unsigned i = 0; i < 3; i++)
                drop(&f, i);
        expect(&f, ".{\"a\":[],\"b\":1,\"c\":2}");
}

/* One whose time had not come when it was met, and those behind the end. */
static void test_late(_unused_ void **state) {
        Fixture f;

        begin(&f, 0);
        f.numbers[0] = -1;
        pieces_add(&f.pieces, &f.w, 1, &f.numbers[0]);
        pieces_add(&f.pieces, &f.w, 2, &f.numbers[1]);
        pieces_add(&f.pieces, &f.w, 3, &f.numbers[2]);
        drop(&f, 2);
        change(&f, 0, 11);
        pieces_add_late(&f.pieces, &f.w, 4, &f.numbers[3]);
        expect(&f, ".{\"a\":[20,11,40],\"b\":1,\"c\":2}");

        begin(&f, 0);
        pieces_add_late(&f.pieces, &f.w, 1, &f.numbers[0]);
        pieces_add_late(&f.pieces, &f.w, 2, &f.numbers[1]);
        expect(&f, ".{\"a\":[10,20],\"b\":1,\"c\":2}");
}

/* Beyond what the buffer may hold, nothing of it is left. */
static void test_no_room(_unused_ void **state) {
        Fixture f;

        begin(&f, 3);
        f.buffer.limit = f.buffer.size;
        change(&f, 1, INT64_MAX);
        while (f.w.error == 0)
                json_write_int(&f.w, NULL, 5);
        pieces_put_right(&f.pieces, &f.w);
        assert_int_equal(json_writer_finish(&f.w), -ENOBUFS);
        assert_int_equal(buffer_pending(&f.buffer), 1);
        pieces_deinit(&f.pieces);
        buffer_deinit(&f.buffer);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nothing_changes),
                cmocka_unit_test(test_changed),
                cmocka_unit_test(test_gone),
                cmocka_unit_test(test_late),
                cmocka_unit_test(test_no_room),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
