/*
 * What bounds every eBPF load balancer with a connection table: look-ups and inserts in an LRU hash of the kernel, with
 * random keys, run by the kernel's own program test (BPF_PROG_TEST_RUN). A handful of instructions written by hand and
 * loaded through bpf(2), so that neither a compiler for BPF nor libbpf is needed. Not part of the product.
 *
 * A program does LOOKS operations, the kernel repeats it; a third program does all but the operation itself, and what it
 * takes is subtracted. So timers and the making of keys do not count. One set of maps at a time.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOOKS 64
/* From the first instruction of the loop to its jump back, both included. */
#define LOOP_LENGTH 32
#define ELEMENTS(array) (sizeof(array) / sizeof(*(array)))

/*
 * Key as a balancer of both families has it, which the engine is too (as flow_key of Katran): addresses of 16 bytes, ports,
 * protocol. `client` tells flows apart, the rest is the same for all. Value: which server, and when it was used.
 */
struct key {
  uint64_t client, source, destination[2], ports_and_protocol;
};
struct value {
  uint64_t server, used;
};
_Static_assert(sizeof(struct key) == 40 && sizeof(struct value) == 16, "sizes that programs store by words");
enum { SOURCE = 0x0a000001, DESTINATION = 0x0650ac10, PORTS = 0x00501f90 };

/* What programs remember from run to run. */
struct memory {
  uint64_t random, done;
};

static struct {
  int map, memory, look, insert, nothing;
  uint32_t keys;
} open_maps = {-1, -1, -1, -1, -1, 0};

static int bpf(int command, union bpf_attr *attr) {
  const long result = syscall(SYS_bpf, command, attr, sizeof *attr);
  return result < 0 ? -errno : (int)result;
}

static int make_map(uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t entries) {
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.map_type = type;
  attr.key_size = key_size;
  attr.value_size = value_size;
  attr.max_entries = entries;
  return bpf(BPF_MAP_CREATE, &attr);
}

/* `command`: BPF_MAP_UPDATE_ELEM takes the value from there, BPF_MAP_LOOKUP_ELEM puts it there. */
static int element(int command, int map, const void *key, const void *value) {
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.map_fd = (uint32_t)map;
  attr.key = (uintptr_t)key;
  attr.value = (uintptr_t)value;
  return bpf(command, &attr);
}

/* --- the programs --- */

#define INSN(c, d, s, o, i) ((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)})
#define MOVE(d, s) INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define SET(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define XOR(d, s) INSN(BPF_ALU64 | BPF_XOR | BPF_X, d, s, 0, 0)
#define LEFT(d, i) INSN(BPF_ALU64 | BPF_LSH | BPF_K, d, 0, 0, i)
#define RIGHT(d, i) INSN(BPF_ALU64 | BPF_RSH | BPF_K, d, 0, 0, i)
#define MULTIPLY(d, i) INSN(BPF_ALU64 | BPF_MUL | BPF_K, d, 0, 0, i)
#define ADD(d, i) INSN(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, i)
#define PLUS(d, s) INSN(BPF_ALU64 | BPF_ADD | BPF_X, d, s, 0, 0)
#define LOAD(d, s, o) INSN(BPF_LDX | BPF_MEM | BPF_DW, d, s, o, 0)
#define STORE(d, o, s) INSN(BPF_STX | BPF_MEM | BPF_DW, d, s, o, 0)
#define STORE_NUMBER(d, o, i) INSN(BPF_ST | BPF_MEM | BPF_DW, d, 0, o, i)
#define CALL(f) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define NO_CALL SET(BPF_REG_0, 1)
#define LOAD_MAP(d, kind, fd) INSN(BPF_LD | BPF_DW | BPF_IMM, d, kind, 0, fd), INSN(0, 0, 0, 0, 0)

enum operation { LOOK, INSERT, NOTHING };

/* Places on a program's stack. */
enum { KEY_AT = -40, VALUE_AT = -56 };

/*
 * r6: struct memory, r7: operations done, r8: random number (xorshift64, Marsaglia 2003), r9: those that succeeded.
 * A look-up picks one of the keys that are there; an insert takes a key that has never been there.
 */
static int load_program(enum operation operation) {
  const int map = open_maps.map;
  const struct bpf_insn call = operation == LOOK     ? CALL(BPF_FUNC_map_lookup_elem)
                               : operation == INSERT ? CALL(BPF_FUNC_map_update_elem)
                                                     : NO_CALL;
  /* A look-up succeeds with a pointer, an update with 0. */
  const uint8_t fails = operation == INSERT ? BPF_JNE : BPF_JEQ;
  const int shift = operation == INSERT ? 0 : 32;
  const struct bpf_insn program[] = {
    LOAD_MAP(BPF_REG_6, BPF_PSEUDO_MAP_VALUE, open_maps.memory),
    SET(BPF_REG_7, 0),
    LOAD(BPF_REG_8, BPF_REG_6, 0),
    SET(BPF_REG_9, 0),
    /* loop: */
    MOVE(BPF_REG_1, BPF_REG_8), LEFT(BPF_REG_1, 13), XOR(BPF_REG_8, BPF_REG_1),
    MOVE(BPF_REG_1, BPF_REG_8), RIGHT(BPF_REG_1, 7), XOR(BPF_REG_8, BPF_REG_1),
    MOVE(BPF_REG_1, BPF_REG_8), LEFT(BPF_REG_1, 17), XOR(BPF_REG_8, BPF_REG_1),
    MOVE(BPF_REG_1, BPF_REG_8),
    RIGHT(BPF_REG_1, shift),
    MULTIPLY(BPF_REG_1, operation == INSERT ? 1 : (int32_t)open_maps.keys),
    RIGHT(BPF_REG_1, shift),
    STORE(BPF_REG_10, KEY_AT, BPF_REG_1),
    STORE_NUMBER(BPF_REG_10, KEY_AT + 8, SOURCE),
    STORE_NUMBER(BPF_REG_10, KEY_AT + 16, DESTINATION),
    STORE_NUMBER(BPF_REG_10, KEY_AT + 24, DESTINATION),
    STORE_NUMBER(BPF_REG_10, KEY_AT + 32, PORTS),
    STORE_NUMBER(BPF_REG_10, VALUE_AT, 7),
    STORE_NUMBER(BPF_REG_10, VALUE_AT + 8, 7),
    LOAD_MAP(BPF_REG_1, BPF_PSEUDO_MAP_FD, map),
    MOVE(BPF_REG_2, BPF_REG_10), ADD(BPF_REG_2, KEY_AT),
    MOVE(BPF_REG_3, BPF_REG_10), ADD(BPF_REG_3, VALUE_AT),
    SET(BPF_REG_4, BPF_ANY),
    call,
    INSN(BPF_JMP | fails | BPF_K, BPF_REG_0, 0, 1, 0),
    ADD(BPF_REG_9, 1),
    ADD(BPF_REG_7, 1),
    INSN(BPF_JMP | BPF_JLT | BPF_K, BPF_REG_7, 0, -LOOP_LENGTH, LOOKS),
    /* done */
    STORE(BPF_REG_6, 0, BPF_REG_8),
    LOAD(BPF_REG_1, BPF_REG_6, 8), PLUS(BPF_REG_1, BPF_REG_9), STORE(BPF_REG_6, 8, BPF_REG_1),
    SET(BPF_REG_0, 2),
    INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.prog_type = BPF_PROG_TYPE_XDP;
  attr.insns = (uintptr_t)program;
  attr.insn_cnt = ELEMENTS(program);
  attr.license = (uintptr_t) "Apache-2.0";
  return bpf(BPF_PROG_LOAD, &attr);
}

/* @return nanoseconds that one run of LOOKS operations took, as the kernel says, or -errno */
static int64_t run(int program, uint32_t repeat) {
  uint8_t frame[64] = {0};
  union bpf_attr attr;
  memset(&attr, 0, sizeof attr);
  attr.test.prog_fd = (uint32_t)program;
  attr.test.data_in = (uintptr_t)frame;
  attr.test.data_size_in = sizeof frame;
  attr.test.repeat = repeat;
  const int result = bpf(BPF_PROG_TEST_RUN, &attr);
  return result < 0 ? (int64_t)result : (int64_t)attr.test.duration;
}

void ilb_lru_close(void) {
  int *const all[] = {&open_maps.map, &open_maps.memory, &open_maps.look, &open_maps.insert, &open_maps.nothing};
  for (size_t i = 0; i < ELEMENTS(all); i++) {
    if (*all[i] >= 0) close(*all[i]);
    *all[i] = -1;
  }
}

/*
 * Makes an LRU hash of `entries`, with `keys` keys in it (fewer than entries, or some are pushed out), and the programs.
 * @return 0 or -errno
 */
int32_t ilb_lru_open(uint32_t entries, uint32_t keys) {
  const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &all);
  ilb_lru_close();
  open_maps.keys = keys;
  if ((open_maps.map = make_map(BPF_MAP_TYPE_LRU_HASH, sizeof(struct key), sizeof(struct value), entries)) < 0) return open_maps.map;
  if ((open_maps.memory = make_map(BPF_MAP_TYPE_ARRAY, 4, sizeof(struct memory), 1)) < 0) return open_maps.memory;
  const uint32_t zero = 0;
  const struct memory memory = {0x9e3779b97f4a7c15ull, 0};
  int result = element(BPF_MAP_UPDATE_ELEM, open_maps.memory, &zero, &memory);
  for (uint32_t i = 0; i < keys && result == 0; i++) {
    const struct key key = {i, SOURCE, {DESTINATION, DESTINATION}, PORTS};
    const struct value value = {i, 0};
    result = element(BPF_MAP_UPDATE_ELEM, open_maps.map, &key, &value);
  }
  if (result < 0) return result;
  if ((open_maps.look = load_program(LOOK)) < 0) return open_maps.look;
  if ((open_maps.insert = load_program(INSERT)) < 0) return open_maps.insert;
  if ((open_maps.nothing = load_program(NOTHING)) < 0) return open_maps.nothing;
  return 0;
}

/*
 * Runs `repeat` times LOOKS look-ups (inserts 0) or inserts of new keys (inserts 1).
 * @return nanoseconds per operation; negative: -errno, -ENOENT when one of them found or stored nothing
 */
double ilb_lru_run(uint32_t inserts, uint32_t repeat) {
  const uint32_t zero = 0;
  struct memory before, after;
  int result = element(BPF_MAP_LOOKUP_ELEM, open_maps.memory, &zero, &before);
  const int64_t whole = run(inserts ? open_maps.insert : open_maps.look, repeat);
  if (result == 0) result = element(BPF_MAP_LOOKUP_ELEM, open_maps.memory, &zero, &after);
  const int64_t empty = run(open_maps.nothing, repeat);
  if (result < 0 || whole < 0 || empty < 0) return result < 0 ? result : whole < 0 ? (double)whole : (double)empty;
  if (after.done - before.done != (uint64_t)repeat * LOOKS) return -ENOENT;
  return (double)(whole - empty) / LOOKS;
}
