/* Trains: segments of one TCP connection that follow each other in a batch and leave as one super-packet. Not part of the ABI. */
#ifndef ILB_TRAIN_H
#define ILB_TRAIN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "gen/layout.h"

/* What tells whether a frame can be a wagon: where its parts lie. */
struct ilb_segment {
  struct ilb_descriptor *descriptor;
  uint8_t *frame;
  uint32_t transport;     /* bytes before the TCP header */
  uint32_t header_bytes;  /* bytes before the payload */
  uint32_t payload_bytes; /* never 0 */
};

struct ilb_train {
  struct ilb_segment first;
  struct iovec *parts; /* virtio-net header, first frame, further payloads */
  uint32_t count;      /* segments */
  uint32_t payload_bytes;
  bool closed; /* nothing can follow */
};

/* Whether a frame is a whole TCP segment with data and nothing out of the ordinary, which may travel with others. */
bool ilb_segment_read(struct ilb_segment *segment, struct ilb_descriptor *descriptor, uint8_t *memory);

/* A train of one segment. `parts` holds its two parts and has room for as many as segments are added. */
void ilb_train_begin(struct ilb_train *train, const struct ilb_segment *first, struct iovec *parts);

/* Adds a segment if cutting the train up again would give exactly the frames that are in it. */
bool ilb_train_add(struct ilb_train *train, const struct ilb_segment *segment);

/* Makes the first frame's headers those of the super-packet. A train of one stays as it is. */
void ilb_train_close(struct ilb_train *train);

#endif
