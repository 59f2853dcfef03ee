/*
 * The Internet checksum (RFC 1071) as one writes it in C, for the compiler to vectorise: what the engine's full checksum is
 * measured against. Not part of the product.
 */
#include <stdint.h>
#include <string.h>

/* Folded sum of `length` bytes, an odd last one padded with zero, in words as they lie. At most 128 KiB. */
static uint32_t sum_bytes(const uint8_t *at, uint32_t length) {
  uint32_t sum = 0;
  for (uint32_t i = 0; i + 2 <= length; i += 2) {
    uint16_t word;
    memcpy(&word, at + i, 2);
    sum += word;
  }
  if (length & 1) sum += at[length - 1];
  sum = (sum & 0xffff) + (sum >> 16);
  return (sum & 0xffff) + (sum >> 16);
}

/* `times` sums, over `buffers` runs of bytes in turn, `stride` apart. @return all of them added up */
uint32_t ilb_sum_many(const uint8_t *at, uint32_t length, uint32_t stride, uint32_t buffers, uint32_t times) {
  uint32_t all = 0;
  for (uint32_t i = 0; i < times; i++) all += sum_bytes(at + (size_t)(i % buffers) * stride, length);
  return all;
}
