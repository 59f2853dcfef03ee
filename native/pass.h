/*
 * The way of a frame back to the kernel as if it had arrived on its own interface: written to a TAP of ours, marked and
 * redirected by a two-instruction classifier to the ingress of the interface it came from.
 *
 *   worker -> TAP (MAC address of the interface) -> clsact ingress: mark, redirect -> ingress of the interface -> kernel
 *
 * Where the classifier cannot be loaded (bpf(2) needs CAP_BPF in the first user namespace), a pair of veth interfaces
 * does the same: the frame leaves a packet socket that marks it at one end, and a u32 filter redirects it at the other.
 *
 * Errors are negative errno. Links (names, addresses, flags) are made over netlink by the caller.
 */
#ifndef ILB_PASS_H
#define ILB_PASS_H

#include <stdint.h>

#include "ilb.h"

/*
 * Creates a TAP: no packet information, virtio-net header of 10 bytes, non-blocking, not persistent (it vanishes with the
 * descriptor). `name` may hold a %d for the kernel to fill in; the real name is written back, NUL-terminated.
 * Returns the descriptor. Errors: -ENOENT, -EACCES, -ENODEV, -ENXIO opening /dev/net/tun; -EPERM no CAP_NET_ADMIN;
 * -EBUSY the name is taken.
 */
ILB_API int ilb_tap_open(char name[16]);

/*
 * Puts a clsact qdisc on interface `from_index` and a classifier on its ingress that sets the packet mark to `mark` and
 * redirects to the ingress of interface `to_index`. Both vanish with the interface.
 * `stage` receives what failed: 1 bpf(2), 2 qdisc, 3 filter. Returns 0. Errors: -EPERM or -ENOSYS from bpf(2);
 * -ENOENT from the kernel without sch_ingress or cls_bpf.
 */
ILB_API int ilb_redirect_by_bpf(uint32_t from_index, uint32_t to_index, uint32_t mark, int32_t *stage);

/* The same with a u32 filter and the mirred action, which leave the mark as it is. Stages 2 and 3. */
ILB_API int ilb_redirect_by_u32(uint32_t from_index, uint32_t to_index, int32_t *stage);

/*
 * A packet socket that only sends, with virtio-net headers (10 bytes) and `mark` on all it sends, bound to `index`.
 * Returns the descriptor. -EPERM: no CAP_NET_RAW or no CAP_NET_ADMIN.
 */
ILB_API int ilb_marked_socket_open(uint32_t index, uint32_t mark);

#endif
