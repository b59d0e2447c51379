/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the compiler has made of the programs. That a session and a close that race cannot miss each other
 * rests on one instruction: the atomic addition between the entry into the table and the look at the closed
 * sets is a full barrier only if it fetches. No kernel here would show the difference, so it is looked for.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include "bpf/arbiter-load.h"
#include "bpf/spe-arbiter.skel.h"

#define INSTRUCTIONS_MAX 4096U

typedef struct Program {
        const struct bpf_insn *instructions;
        size_t n;
} Program;

static Program get_program(const struct bpf_program *program) {
        return (Program){.instructions = bpf_program__insns(program), .n = bpf_program__insn_cnt(program)};
}

static bool is_atomic_add(const struct bpf_insn *instruction, size_t member) {
        return instruction->code == (BPF_STX | BPF_DW | BPF_ATOMIC) && (size_t)instruction->off == member &&
               (instruction->imm & ~BPF_FETCH) == BPF_ADD;
}

static bool is_call(const struct bpf_insn *instruction, int helper) {
        return instruction->code == (BPF_JMP | BPF_CALL) && instruction->src_reg == 0 &&
               instruction->imm == helper;
}

/* Whether one of the programs' own functions is called. */
static bool is_own_call(const struct bpf_insn *instruction) {
        return instruction->code == (BPF_JMP | BPF_CALL) && instruction->src_reg == BPF_PSEUDO_CALL;
}

/* How many additions to the generation there are; all of them fetch. */
static unsigned count_generations(Program program) {
        unsigned n = 0;

        for (size_t i = 0; i < program.n; i++)
                if (is_atomic_add(&program.instructions[i], offsetof(ArbiterControl, generation))) {
                        assert_true(program.instructions[i].imm & BPF_FETCH);
                        n++;
                }
        return n;
}

static void test_barrier(void **state) {
        struct spe_arbiter *programs = *state;
        /* What changes the table, and how often: refuse() enters, and takes out what it refuses. */
        const struct {
                const struct bpf_program *program;
                unsigned n;
        } all[] = {
                {programs->progs.refuse, 2}, {programs->progs.allocated, 2}, {programs->progs.freeing, 1},
                {programs->progs.freed, 1},  {programs->progs.look, 1},      {programs->progs.returning, 1},
        };

        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
                assert_true(count_generations(get_program(all[i].program)) >= all[i].n);
}

/* Marks what can be reached from @from without the barrier: the generation's addition is where a way ends. */
static void walk(Program program, size_t from, bool *reached) {
        for (size_t i = from; i < program.n && !reached[i];) {
                const struct bpf_insn *instruction = &program.instructions[i];
                uint8_t class = BPF_CLASS(instruction->code), operation = BPF_OP(instruction->code);
                size_t next = i + (instruction->code == (BPF_LD | BPF_IMM | BPF_DW) ? 2 : 1);

                reached[i] = true;
                if (is_atomic_add(instruction, offsetof(ArbiterControl, generation)))
                        return;
                if ((class == BPF_JMP || class == BPF_JMP32) && operation != BPF_CALL) {
                        if (operation == BPF_EXIT)
                                return;
                        if (operation != BPF_JA)
                                walk(program, next, reached);
                        next = (size_t)((ptrdiff_t)i + 1 + instruction->off);
                }
                i = next;
        }
}

/* In refuse(), no way leads from the entry into the table to the look at the closed sets, which begins with
 * the target being read (and ends with a look-up, or where meets() is called), but by the barrier. */
static void test_order(void **state) {
        struct spe_arbiter *programs = *state;
        Program program = get_program(programs->progs.refuse);
        bool reached[INSTRUCTIONS_MAX] = {0};
        unsigned n_entered = 0, n_refused = 0, n_read = 0, n_looks = 0;

        assert_true(program.n <= INSTRUCTIONS_MAX);
        for (size_t i = 0; i < program.n; i++)
                if (is_call(&program.instructions[i], BPF_FUNC_map_update_elem)) {
                        n_entered++;
                        walk(program, i + 1, reached);
                }
        for (size_t i = 0; i < program.n; i++) {
                n_read += is_call(&program.instructions[i], BPF_FUNC_probe_read_kernel);
                n_refused += reached[i] && is_call(&program.instructions[i], BPF_FUNC_ringbuf_reserve);
                n_looks += is_own_call(&program.instructions[i]);
                if (is_call(&program.instructions[i], BPF_FUNC_probe_read_kernel) ||
                    is_call(&program.instructions[i], BPF_FUNC_map_lookup_elem) ||
                    is_own_call(&program.instructions[i]))
                        assert_false(reached[i]);
        }
        assert_true(n_entered >= 2 && n_read >= 3 && n_looks >= 3); /* it is what is looked at */
        assert_true(n_refused >= 1); /* and ways are followed: the table is full */
}

static int set_up(void **state) {
        *state = spe_arbiter__open();
        return *state ? 0 : -1;
}

static int tear_down(void **state) {
        spe_arbiter__destroy(*state);
        return 0;
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_barrier),
                cmocka_unit_test(test_order),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
