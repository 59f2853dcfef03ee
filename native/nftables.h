/*
 * nftables transactions in this process, by libnftables (the library behind the nft program), which is loaded when it
 * is first needed, so that the shim itself does not depend on it.
 *
 * In the process rather than in a child: the table has the owner flag, so it lives exactly as long as this handle's
 * socket, that is as long as the process; a child could be killed alone, needs its own privileges and keeps a history
 * file. Transactions run on a thread of their own, because one of many thousand elements takes a tenth of a second.
 */
#ifndef ILB_NFTABLES_H
#define ILB_NFTABLES_H

#include <stdint.h>

#include "ilb.h"

struct ilb_nft;

/*
 * Loads the library and opens a handle in the calling thread's network namespace. Returns the handle, or
 * -ENOENT the library cannot be loaded, -ENOSYS it lacks a function, -ENOMEM, or what pthread_create(3) says.
 */
ILB_API int64_t ilb_nft_open(void);

/*
 * Begins one transaction: `text` (nft syntax, `length` bytes, no NUL needed) is copied. Returns 0, -EBUSY while another
 * one runs, -ENOMEM.
 */
ILB_API int ilb_nft_submit(struct ilb_nft *handle, const char *text, uint32_t length);

/*
 * Returns -EAGAIN while a transaction runs, else 0 when the kernel has taken it (or none was submitted), or 1 when it
 * was refused; then nothing of it was carried out. `message` holds what libnftables says, NUL-terminated, cut to
 * `capacity`: the output of the commands, or why they were refused.
 */
ILB_API int ilb_nft_poll(struct ilb_nft *handle, char *message, uint32_t capacity);

/* Waits for a running transaction, then closes the handle; the tables that it owns vanish. Returns 0. */
ILB_API int ilb_nft_close(struct ilb_nft *handle);

#endif
