/** Records of the flow policy: its tables in an image, and what a worker counts of it. */
import type { RecordSpec } from "./record.ts";

export const POLICY_RECORDS: Readonly<Record<string, RecordSpec>> = {
  PolicyHeader: {
    doc: "The compiled flow policy of an image. Offsets are linear.",
    size: 64,
    fields: [
      [
        "epoch",
        "u32",
        "another one for every other policy, never 0; what a worker remembers of addresses holds for one",
      ],
      ["flags", "u32", "POLICY_… flags"],
      ["ranges", "u32", "offset of PolicyRange records, ascending; the first begins at the lowest address"],
      ["rangeCount", "u32", "number of them"],
      ["classCount", "u32", "number of classes"],
      [
        "matrix",
        "u32",
        "offset of u16 per ordered pair of classes, (from - 1) * classCount + (to - 1): index of a list, 0: the empty one",
      ],
      ["lists", "u32", "offset of PolicyList records"],
      ["blocks", "u32", "offset of PolicyBlock records, 16-byte aligned"],
      ["pad0", "u64", "zero"],
      ["pad1", "u64", "zero"],
      ["pad2", "u64", "zero"],
      ["pad3", "u64", "zero"],
    ],
  },
  PolicyRange: {
    doc: "Addresses from this one to the next range, of one class. Most significant half first, as numbers; IPv4 as ::ffff:a.b.c.d.",
    size: 24,
    fields: [
      ["head", "u64", "upper half of the first address, as a number"],
      ["tail", "u64", "lower half of the first address, as a number"],
      ["kind", "u32", "class of the addresses from 1 on, 0: not bound"],
      ["pad0", "u32", "zero"],
    ],
  },
  PolicyList: {
    doc: "The flows that one class may open to another, in the order in which they are counted: blocks of TCP, then blocks of UDP.",
    size: 8,
    fields: [
      ["first", "u32", "index of the first PolicyBlock"],
      ["tcpBlocks", "u16", "number of blocks of TCP"],
      ["udpBlocks", "u16", "number of blocks of UDP, behind those"],
    ],
  },
  PolicyBlock: {
    doc: "Eight permitted flows of one protocol, compared at once: 8 u16 lowest ports, 8 u16 highest, 8 u16 counters, below POLICY_FLOWS. Of unused lanes the lowest port is above the highest.",
    size: 48,
    fields: [
      ["minLow", "u64", "first destination ports of lanes 0..3, host order, lane 0 lowest"],
      ["minHigh", "u64", "of lanes 4..7"],
      ["maxLow", "u64", "last destination ports of lanes 0..3"],
      ["maxHigh", "u64", "of lanes 4..7"],
      ["flowLow", "u64", "counters of lanes 0..3"],
      ["flowHigh", "u64", "counters of lanes 4..7"],
    ],
  },
  PolicyCounter: {
    doc: "One counter of the policy in one worker. Never reset.",
    size: 16,
    fields: [
      ["packets", "u64", "packets"],
      ["bytes", "u64", "IP total lengths"],
    ],
  },
  PolicyRefused: {
    doc: "One refused tuple that a worker remembers. Distinct by addresses, protocol, counter and the port that tells: the destination's, the source's of a reply that opens a connection.",
    size: 64,
    fields: [
      ["source", "addr", "source address"],
      ["destination", "addr", "destination address"],
      ["protocol", "u16", "IP protocol number"],
      ["counter", "u16", "POLICY_… counter of the refusal"],
      ["sourcePort", "u16", "of the last packet, host order; 0: none could be found"],
      ["destinationPort", "u16", "of the last packet, host order; 0: none could be found"],
      ["lastMs", "u32", "engine clock at the last packet, wraps"],
      ["order", "u32", "rises with every refused packet of the worker, wraps; 0: the record is empty"],
      ["packets", "u64", "packets"],
      ["pad0", "u64", "zero"],
    ],
  },
  PolicyCache4: {
    doc: "The class of an IPv4 address that a worker met.",
    size: 8,
    fields: [
      ["addressBe", "u32", "the address, as stored"],
      ["kind", "u32", "its class; a record that is empty holds 0.0.0.0, which belongs to the first one alone"],
    ],
  },
  PolicyCache6: {
    doc: "The class of an IPv6 address that a worker met.",
    size: 24,
    fields: [
      ["address", "addr", "the address"],
      ["known", "u32", "its class plus 1, 0: the record is empty"],
      ["pad0", "u32", "zero"],
    ],
  },
  PolicyPairCache: {
    doc: "What one IPv4 address that a worker met may open to another: a word per protocol, 0: nothing is known; 1: the policy has nothing to say; else where its blocks begin, bytes from the first block plus 16, and their number in the lowest four bits.",
    size: 16,
    fields: [
      ["addresses", "u64", "source and destination, as they follow each other in a header"],
      ["udp", "u32", "word of UDP"],
      ["tcp", "u32", "word of TCP, right behind it"],
    ],
  },
};
