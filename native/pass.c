/* See pass.h. */
#include "pass.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "netlink.h"
#include "port.h"

enum { STAGE_BPF = 1, STAGE_QDISC = 2, STAGE_FILTER = 3 };
enum { REQUEST_TIMEOUT_MS = 2000, MESSAGE_BYTES = 1024 };

int ilb_tap_open(char name[16]) { return ilb_open_tun_device(name, IFF_TAP | IFF_TUN_EXCL); }

/* ---- The classifier ------------------------------------------------------------------------------------------- */

static int load_classifier(uint32_t to_index, uint32_t mark) {
  const struct bpf_insn program[] = {
      /* skb->mark = mark */
      {.code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = (int32_t)mark},
      {.code = BPF_STX | BPF_MEM | BPF_W,
       .dst_reg = BPF_REG_1,
       .src_reg = BPF_REG_2,
       .off = offsetof(struct __sk_buff, mark)},
      /* return bpf_redirect(to_index, BPF_F_INGRESS) */
      {.code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = BPF_REG_1, .imm = (int32_t)to_index},
      {.code = BPF_ALU | BPF_MOV | BPF_K, .dst_reg = BPF_REG_2, .imm = BPF_F_INGRESS},
      {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_redirect},
      {.code = BPF_JMP | BPF_EXIT},
  };
  union bpf_attr attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
  attributes.insns = (uint64_t)(uintptr_t)program;
  attributes.insn_cnt = sizeof program / sizeof program[0];
  attributes.license = (uint64_t)(uintptr_t) "Apache-2.0"; /* no helper that only GPL programs may call */
  memcpy(attributes.prog_name, "ilb_pass", sizeof "ilb_pass");
  int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attributes, sizeof attributes);
  return fd < 0 ? -errno : fd;
}

/* ---- Traffic control over netlink ----------------------------------------------------------------------------- */

static struct nlmsghdr *begin(char *buffer, uint16_t type, uint32_t index, uint32_t parent, uint32_t info) {
  struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
  header->nlmsg_type = type;
  header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
  struct tcmsg *message = mnl_nlmsg_put_extra_header(header, sizeof *message);
  message->tcm_family = AF_UNSPEC;
  message->tcm_ifindex = (int)index;
  message->tcm_parent = parent;
  message->tcm_info = info;
  return header;
}

static int submit(int fd, struct nlmsghdr *header) {
  uint8_t answer[MESSAGE_BYTES];
  int64_t result = ilb_netlink_request(fd, (uint8_t *)header, header->nlmsg_len, answer, sizeof answer, 1, REQUEST_TIMEOUT_MS);
  return result < 0 ? (int)result : 0;
}

static int add_clsact(int fd, uint32_t index) {
  char buffer[MESSAGE_BYTES];
  struct nlmsghdr *header = begin(buffer, RTM_NEWQDISC, index, TC_H_CLSACT, 0);
  ((struct tcmsg *)mnl_nlmsg_get_payload(header))->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
  mnl_attr_put_strz(header, TCA_KIND, "clsact");
  return submit(fd, header);
}

static struct nlmsghdr *begin_filter(char *buffer, uint32_t index, const char *kind) {
  const uint32_t priority = 1;
  struct nlmsghdr *header = begin(buffer, RTM_NEWTFILTER, index, TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
                                  TC_H_MAKE(priority << 16, htons(ETH_P_ALL)));
  mnl_attr_put_strz(header, TCA_KIND, kind);
  return header;
}

int ilb_redirect_by_bpf(uint32_t from_index, uint32_t to_index, uint32_t mark, int32_t *stage) {
  *stage = STAGE_BPF;
  int program = load_classifier(to_index, mark);
  if (program < 0) return program;
  int fd = ilb_netlink_open(NULL, 0);
  int error = fd < 0 ? fd : 0;
  if (!error) {
    *stage = STAGE_QDISC;
    error = add_clsact(fd, from_index);
  }
  if (!error) {
    *stage = STAGE_FILTER;
    char buffer[MESSAGE_BYTES];
    struct nlmsghdr *header = begin_filter(buffer, from_index, "bpf");
    struct nlattr *options = mnl_attr_nest_start(header, TCA_OPTIONS);
    mnl_attr_put_u32(header, TCA_BPF_FD, (uint32_t)program);
    mnl_attr_put_strz(header, TCA_BPF_NAME, "ilb_pass");
    mnl_attr_put_u32(header, TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
    mnl_attr_nest_end(header, options);
    error = submit(fd, header);
  }
  close(program); /* the filter holds it now */
  if (fd >= 0) close(fd);
  return error;
}

int ilb_redirect_by_u32(uint32_t from_index, uint32_t to_index, int32_t *stage) {
  *stage = STAGE_QDISC;
  int fd = ilb_netlink_open(NULL, 0);
  if (fd < 0) return fd;
  int error = add_clsact(fd, from_index);
  if (!error) {
    *stage = STAGE_FILTER;
    char buffer[MESSAGE_BYTES];
    struct nlmsghdr *header = begin_filter(buffer, from_index, "u32");
    struct nlattr *options = mnl_attr_nest_start(header, TCA_OPTIONS);
    /* A selector whose only key is 0/0 at offset 0 matches everything. */
    struct {
      struct tc_u32_sel selector;
      struct tc_u32_key key;
    } match;
    memset(&match, 0, sizeof match);
    match.selector.flags = TC_U32_TERMINAL;
    match.selector.nkeys = 1;
    mnl_attr_put(header, TCA_U32_SEL, sizeof match, &match);
    struct nlattr *actions = mnl_attr_nest_start(header, TCA_U32_ACT);
    struct nlattr *first = mnl_attr_nest_start(header, 1);
    mnl_attr_put_strz(header, TCA_ACT_KIND, "mirred");
    struct nlattr *action = mnl_attr_nest_start(header, TCA_ACT_OPTIONS);
    struct tc_mirred mirred = {.action = TC_ACT_STOLEN, .eaction = TCA_INGRESS_REDIR, .ifindex = to_index};
    mnl_attr_put(header, TCA_MIRRED_PARMS, sizeof mirred, &mirred);
    mnl_attr_nest_end(header, action);
    mnl_attr_nest_end(header, first);
    mnl_attr_nest_end(header, actions);
    mnl_attr_nest_end(header, options);
    error = submit(fd, header);
  }
  close(fd);
  return error;
}

int ilb_marked_socket_open(uint32_t index, uint32_t mark) {
  /* Protocol 0: it never receives. */
  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -errno;
  int one = 1;
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)index};
  if (setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof one) < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark) < 0 ||
      bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
    int error = -errno;
    close(fd);
    return error;
  }
  return fd;
}
