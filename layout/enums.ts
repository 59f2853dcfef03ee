/**
 * Every enumeration and constant that more than one language reads. Part of the layout schema (layout/schema.ts).
 * Says nothing about what the engine does with a value; docs/packet-path.md does.
 */

export interface EnumValue {
  readonly name: string;
  readonly value: number;
  readonly doc: string;
}

export interface EnumSpec {
  readonly doc: string;
  readonly values: readonly EnumValue[];
  /** Also written to the C header. */
  readonly c?: boolean;
}

const numbered = (rows: readonly (readonly [string, string])[]): EnumValue[] =>
  rows.map(([name, doc], value) => ({ name, value, doc }));

export const VERDICT: EnumSpec = {
  doc: "What happens to a received frame. Exactly one per packet.",
  c: true,
  values: numbered([
    ["Ignore", "The kernel has it. Never re-injected, never sent."],
    [
      "Forward",
      "Leaves on outPort, rewritten; or, when madeCount is not 0, its made frames (fragments) leave in its place.",
    ],
    [
      "Reply",
      "An answer of the box leaves on outPort: the frame itself turned round, or its made frames in its place.",
    ],
    ["Pass", "Given back to the kernel unmodified, as if it had arrived on its own interface."],
    ["Drop", "Goes nowhere."],
  ]),
};

export const DIRECTION: EnumSpec = {
  doc: "Which way a packet of a flow runs.",
  values: numbered([
    ["None", "Belongs to no flow and to no rule."],
    ["ClientToServer", "From a client to a VIP."],
    ["ServerToClient", "From a server back to a client."],
  ]),
};

export const FLOW_STATE: EnumSpec = {
  doc: "What the packet had to do with the flow table.",
  values: numbered([
    ["None", "No flow (DSR, ICMP, passed or dropped traffic)."],
    ["New", "The packet opened the flow."],
    ["Found", "The flow was there."],
  ]),
};

export const RULE_TYPE: EnumSpec = {
  doc: "How packets reach the server.",
  values: numbered([
    ["Dsr", "Unchanged, the server answers the client directly."],
    ["HalfNat", "Destination rewritten."],
    ["Nat", "Source and destination rewritten (full NAT)."],
  ]),
};

export const ALGORITHM: EnumSpec = {
  doc: "How a rule picks a server.",
  values: numbered([
    ["RoundRobin", "The next enabled server of a circular list."],
    ["HashIp", "CRC-32 over the client address."],
    ["HashIpPort", "CRC-32 over the client address xor the client port."],
    ["HashIpVip", "CRC-32 over the client address xor the VIP."],
  ]),
};

export const HOP_STATE: EnumSpec = {
  doc: "What the kernel's route and neighbour tables say about a server.",
  values: numbered([
    ["None", "No route."],
    ["Unresolved", "Route known, neighbour silent."],
    ["Resolved", "Port and MAC addresses are valid."],
  ]),
};

export const COMPAT_MODE: EnumSpec = {
  doc: "How fragments, ICMP errors and IPv6 extension headers are treated (--compat).",
  values: numbered([
    ["Modern", "They are translated wherever the flow can be told."],
    ["Ilb", "As the original does."],
  ]),
};

export const PORT_KIND: EnumSpec = {
  doc: "What a frame of the port begins with.",
  values: numbered([
    ["Absent", "No such port."],
    ["Ethernet", "A MAC header."],
    ["Ip", "The IP header (TUN); the kernel routes and steps the TTL."],
  ]),
};

/** Reasons: PascalCase name, verdict, meaning. The printed name is the kebab-case form. */
export const REASONS: readonly (readonly [name: string, verdict: string, meaning: string])[] = [
  ["Unguarded", "Ignore", "no rule, server or proxy address has to do with it"],
  ["VlanTagged", "Ignore", "carries a VLAN tag, so it belongs to another interface"],
  ["NotIp", "Ignore", "no packet of an address family that the engine handles"],

  ["FlowFound", "Forward", "belongs to a known flow"],
  ["FlowNew", "Forward", "opened a flow"],
  ["DsrSent", "Forward", "sent to a server of a DSR rule"],
  ["FragmentsMade", "Forward", "too big for the egress MTU and sent as fragments"],
  ["TooBigTranslated", "Forward", "ICMP fragmentation needed or packet too big, translated for the server"],
  ["IcmpErrorTranslated", "Forward", "other ICMP error that quotes a flow, translated"],
  ["FragmentTranslated", "Forward", "fragment of a known flow, translated"],

  ["EchoAnswered", "Reply", "echo request to a VIP, answered by the box"],
  ["TimeExceededSent", "Reply", "TTL or hop limit ran out; the box told the sender"],
  ["TooBigSent", "Reply", "too big for the egress MTU and not to be fragmented; the box told the sender"],

  ["RuleDisabled", "Pass", "matches a disabled rule"],
  ["ServerTraffic", "Pass", "from a server, but of no flow"],
  ["ProxyTraffic", "Pass", "to a proxy address, but of no flow"],
  ["RuleGone", "Pass", "to a VIP and port whose rule is gone, and of no flow"],
  ["LocalSynAck", "Pass", "answers a connection that the box itself opened from a VIP of its own"],
  ["LocalIcmp", "Pass", "ICMP to a VIP of the box itself that answers the box's own traffic"],
  ["ProxyIcmp", "Pass", "ICMP to a proxy address that quotes no flow"],
  ["ServerIcmp", "Pass", "ICMP error about a packet to a server that belongs to no flow"],
  ["ServerFragment", "Pass", "fragment from a server that belongs to no flow"],
  ["ProxyFragment", "Pass", "fragment to a proxy address that belongs to no flow"],
  ["VipFragment", "Pass", "fragment to a VIP of a packet that the kernel has"],
  ["ExtensionHeader", "Pass", "IPv6 packet with an extension header that is not balanced"],

  ["MalformedLink", "Drop", "frame shorter than its link header"],
  ["MalformedIp", "Drop", "IP header cut short or contradicting the frame"],
  ["HeaderChain", "Drop", "more IPv6 extension headers than are looked at"],
  ["MalformedTransport", "Drop", "TCP or UDP header cut short or contradicting the packet"],
  ["MalformedOffload", "Drop", "checksum or segmentation request of the virtio header contradicts the packet"],
  ["Truncated", "Drop", "the receive buffer was too small for the frame"],
  ["GsoUnknown", "Drop", "kind of super-packet that the engine does not know"],
  ["MartianSource", "Drop", "source address that no host may send from"],
  ["NoServer", "Drop", "the rule has no server that takes new flows"],
  ["NoFlowMemory", "Drop", "flow table full and nothing in it may be given up"],
  ["NoPairMemory", "Drop", "table of servers in use full"],
  ["NoStickyMemory", "Drop", "table of sticky clients full"],
  ["NoPort", "Drop", "no free port on any proxy address"],
  ["FragmentToVip", "Drop", "fragment to a VIP that belongs to no flow"],
  ["FragmentHeld", "Drop", "kept until the first fragment tells where it goes; a copy leaves then"],
  ["FragmentHoldFull", "Drop", "came before the first fragment and finds no room to wait"],
  ["IcmpToVip", "Drop", "ICMP message to a VIP that the box does not serve"],
  ["IcmpTruncated", "Drop", "ICMP message to a VIP cut short"],
  ["TooBigUnknown", "Drop", "ICMP fragmentation needed or packet too big that quotes no flow"],
  ["NextHopUnresolved", "Drop", "the server's neighbour entry is not resolved"],
  ["NoRoute", "Drop", "no route to the server"],
  ["NoEgressPort", "Drop", "the way out leads through no port of the engine"],
  ["TimeExceededUnsent", "Drop", "TTL or hop limit ran out; no answer was due or allowed"],
  ["TooBigUnsent", "Drop", "too big for the egress MTU; no answer was due or allowed"],
  ["MadePoolFull", "Drop", "no free frame to build the answer or the fragments in"],
  ["HandOverFull", "Drop", "another worker has to decide, and too much is waiting for it"],
  ["PolicyNoFlow", "Drop", "between two bound hosts, and no flow of the policy permits it"],
  ["PolicyReservedSource", "Drop", "begins a permitted flow, but from a reserved port"],
  ["PolicyReplyIsSyn", "Drop", "looks like a reply between two bound hosts, but opens a connection"],
  ["PolicyOutside", "Drop", "between a bound host and one that the policy does not know"],
];

/** Constants: name, value, doc, and whether C needs it. */
export const CONSTANTS: readonly (readonly [name: string, value: number, doc: string, c?: boolean])[] = [
  ["BATCH_SIZE", 64, "Received frames per batch; descriptors 0..63.", true],
  ["MADE_SIZE", 64, "Frames that the engine makes per batch; descriptors 64..127.", true],
  ["DESCRIPTOR_COUNT", 128, "Received and made.", true],
  [
    "HEAD_STRIDE",
    2112,
    "Distance of head blocks in bytes. No power of two: frames at such strides share cache sets.",
    true,
  ],
  ["HEAD_L3_OFFSET", 64, "Layer 3 of a received or made frame begins here in its head block.", true],
  ["HEAD_L3_CAPACITY", 2048, "Layer-3 bytes that a head block holds.", true],
  ["ETHERNET_HEADER", 14, "Bytes of a MAC header; Ethernet frames begin at HEAD_L3_OFFSET - 14.", true],
  ["TAIL_STRIDE", 65536, "Distance and size of tail blocks in bytes.", true],
  ["VNET_HEADER", 10, "Bytes of struct virtio_net_hdr, at byte 16 of a descriptor.", true],
  ["FRAME_VLAN", 1, "Descriptor flag: the kernel moved a VLAN tag into the auxiliary data.", true],
  ["FRAME_TRUNCATED", 2, "Descriptor flag: the receive buffer was too small.", true],
  ["PORT_NONE", 255, "outPort of a frame that does not leave.", true],
  ["MAX_PORTS", 64, "Ports (devices) that the engine knows.", true],
  ["MAX_WORKERS", 7, "Packet workers.", false],
  ["EPHEMERAL_FROM", 10_240, "From this port on the lower port of a packet counts for its worker too.", true],
  ["DEAL_WORD", 22, "Secret word of the hash key by which packets are dealt to workers."],

  ["NONE", 0xffffffff, "Index that names nothing."],
  ["NAT_PORT_FIRST", 4096, "First proxy port."],
  ["NAT_PORT_LAST", 65534, "Last proxy port."],
  ["NAT_PORT_SPARED", 13724, "Never a proxy port: another product's well-known port."],
  ["NAT_CHUNK_PORTS", 2048, "Ports whose use one chunk of bits tells."],
  ["NAT_CHUNK_BYTES", 256, "Bytes of a chunk."],
  ["NAT_CHUNKS_PER_POOL", 30, "Chunks of a pool that is in full use."],
  ["NAT_POOL_IDLE_MS", 32000, "An unused pool is forgotten after this long, so that a port is not reused at once."],
  ["MAX_PROXY_ADDRESSES", 10, "Proxy addresses of a rule."],

  ["WAYS", 4, "Entries of a bucket of the flow table."],
  ["META_REVERSE", 1, "Entry flag: server to client."],
  ["META_SLOW", 2, "Entry flag: every packet needs the flow record (handshake, FIN or RST seen)."],
  ["META_RECORD", 4, "Entry flag: the rewrite needs the flow record (full NAT, ports collapsed into one)."],
  ["META_HOP_SHIFT", 4, "Bits 4..11 of an entry's meta: index of the client hop."],
  ["META_PAIR_SHIFT", 12, "Bits 12..31 of an entry's meta: index of the pair."],
  ["MAX_PAIR_RECORDS", 1048576, "Pairs that 20 bits can tell apart."],
  ["HOP_IN_RECORD", 255, "Client hop index: the hop is in the flow record."],
  ["CLIENT_HOPS", 255, "Client hops that have an index."],

  ["FLOW_HALF_OPEN", 1, "Flow state: may be given up when the table is full."],
  ["FLOW_ANSWERED", 2, "Flow state: the server has sent something."],
  ["FLOW_FIN_FORWARD", 4, "Flow state: client's FIN seen."],
  ["FLOW_FIN_REVERSE", 8, "Flow state: server's FIN seen."],
  ["FLOW_CLOSED_FORWARD", 16, "Flow state: client's FIN acknowledged."],
  ["FLOW_CLOSED_REVERSE", 32, "Flow state: server's FIN acknowledged."],
  ["FLOW_RESET", 64, "Flow state: RST seen."],
  ["FLOW_LIVE", 128, "Flow state: the record is in use."],

  ["ENDPOINT_VIP", 1, "Endpoint flag: ICMP and fragments to it are the engine's."],
  ["ENDPOINT_VIP_LOCAL", 2, "Endpoint flag: the VIP is an address of the box."],
  [
    "ENDPOINT_SERVER",
    4,
    "Endpoint flag: later fragments from it and ICMP errors about packets to it are the engine's.",
  ],
  ["ENDPOINT_PROXY", 8, "Endpoint flag: ICMP errors and later fragments to it are the engine's."],
  ["ENDPOINT_OWN", 16, "Endpoint flag: an address of the box; answers to its health probes are the kernel's."],
  ["PROBE_FIRST_PORT", 2048, "First source port of health probes.", true],
  ["PROBE_LAST_PORT", 4095, "Last source port of health probes.", true],

  ["RULE_ENABLED", 1, "Rule flag."],
  ["RULE_VIP_LOCAL", 2, "Rule flag: the VIP is an address of the box."],
  ["RULE_STICKY", 4, "Rule flag."],

  ["MAX_EXTENSION_HEADERS", 8, "IPv6 extension headers that are looked at."],
  ["MAX_EXTENSION_BYTES", 512, "Bytes of IPv6 extension headers that are looked at."],
  ["CHAIN_PLAIN", 0, "View.chain: nothing that keeps the packet from being balanced."],
  ["CHAIN_UNBALANCED", 1, "View.chain: an extension header that the mode does not balance."],
  ["CHAIN_TOO_LONG", 2, "View.chain: more extension headers than are looked at."],
  ["CHAIN_MALFORMED", 3, "View.chain: contradicts the packet."],

  ["PAIR_USED", 1, "Pair flag: the record is in use."],
  ["PAIR_IN_IMAGE", 2, "Pair flag: the current image names the pair."],
  ["PAIR_DRAINING", 4, "Pair flag: drainDeadlineMs holds."],
  ["PAIR_PORT_KEPT", 8, "Pair flag: the client's port can be told from the server's (no collapsing)."],
  ["PAIR_IPV6", 32, "Pair flag: the addresses are IPv6."],
  [
    "PAIR_PORT_RANGE",
    16,
    "Pair flag: the server is used on several ports, so its proxy ports come from one common pool.",
  ],

  [
    "DEADLINE_STEP_MS",
    1000,
    "Deadlines are written this much too late, so that they need to be written once a step only.",
  ],
  ["SWEEP_PERIOD_MS", 5000, "Time in which the sweep visits everything once."],
  ["SWEEP_BEHIND_MS", 1000, "What has been due for longer is put off to the next round."],
  ["SWEEP_SLICE", 1024, "Entries of one table that one slice visits at most."],
  ["PAIR_SLICE", 512, "Pairs that one slice compares with a new image."],
  ["ICMP_TOKENS", 64, "ICMP errors that a worker may send at once."],
  ["ICMP_TOKEN_MS", 10, "One more ICMP error may be sent after this long."],
  ["ICMP_QUOTE_BYTES", 548, "Bytes of a packet that an ICMP error of the box quotes at most: 576 bytes in all."],
  ["ICMP6_QUOTE_BYTES", 1232, "The same for ICMPv6: 1280 bytes in all."],
  ["FRAGMENT_SETS", 128, "Sets of remembered first fragments; a power of two."],
  ["FRAGMENT_WAYS", 8, "First fragments that a set remembers."],
  ["FRAGMENT_MS", 5000, "A first fragment is remembered for this long."],
  ["FRAGMENT_SENT", 1, "FragmentRecord.outcome: left; those that follow go the same way."],
  ["FRAGMENT_KERNEL", 2, "FragmentRecord.outcome: the kernel has it."],
  ["FRAGMENT_DROPPED", 3, "FragmentRecord.outcome: went nowhere."],
  ["FRAGMENT_GIVEN", 4, "FragmentRecord.outcome: handed over to a worker; those that follow go there too."],
  ["FRAGMENT_ANSWERED", 5, "FragmentRecord.outcome: of an echo request; those that follow are turned round too."],
  ["HELD_FRAGMENTS", 64, "Fragments that wait for their first one."],
  ["HELD_PER_PACKET", 16, "Those of one packet."],
  ["HELD_MS", 1000, "They wait for this long."],
  ["HANDED_OVER", 0xfffffffe, "In place of a reason: another worker decides, and counts."],
  ["HANDED_SETTLED", 1, "Descriptor.handOver: the worker that has it decides, whoever else might."],
  ["HANDED_COPY", 2, "Descriptor.handOver: was counted as FragmentHeld when it came, and is not counted again."],
  ["HANDED_JUDGED", 4, "Descriptor.handOver: the flow policy has judged it, and does so only once."],
  ["RING_ENTRIES", 1024, "Frames that may wait in the ring from one worker to another; a power of two."],
  ["RING_TAIL_BYTES", 16777216, "Bytes beyond their head blocks that may wait for one worker."],
  ["RING_TAIL_LEAST", 4194304, "The same for one ring at the least."],
  ["CLOSED_LINGER_MS", 4500, "A closed flow still takes packets for this long."],
  ["REPLY_TTL", 64, "TTL of packets that the box makes."],
  ["MAX_TIMEOUT_MS", 1728000000, "Longest idle time that deadlines can tell (20 days)."],
  ["CRC_TABLE_BYTES", 1024, "CRC-32 table, 256 u32."],
  ["HASH_KEY_WORDS", 32, "Secret u32 words of the keyed hash."],

  ["POLICY_ENFORCE", 1, "PolicyHeader.flags: what is refused is dropped, not only counted."],
  ["POLICY_OUTSIDE_DROP", 2, "PolicyHeader.flags: what has one bound end is refused."],
  ["POLICY_NON_RESERVED", 4, "PolicyHeader.flags: flows may not begin at ports below 1024."],
  ["MAX_POLICY_RANGES", 8193, "Runs of addresses of one class: twice 4096 bound prefixes and one."],
  ["MAX_POLICY_CLASSES", 512, "Kinds of bound hosts that flows can tell apart."],
  ["MAX_POLICY_LISTS", 16384, "Different lists of permitted flows."],
  ["MAX_POLICY_BLOCKS", 16384, "Blocks of permitted flows in all lists."],
  ["POLICY_LANES", 8, "Permitted flows of a block."],
  ["POLICY_FLOWS", 256, "Flows that are counted; the first counters."],
  ["POLICY_MESSAGE", 256, "Counter of ICMP errors, neighbour discovery and echo."],
  ["POLICY_NO_PORTS", 257, "Counter of fragments and other packets that show no ports."],
  ["POLICY_NO_FLOW", 258, "Counter of refusals, and the first of them: no permitted flow."],
  ["POLICY_RESERVED_SOURCE", 259, "Counter of refusals: begins a flow at a reserved port."],
  ["POLICY_REPLY_IS_SYN", 260, "Counter of refusals: a reply that opens a connection."],
  ["POLICY_OUTSIDE", 261, "Counter of refusals: one end is not bound."],
  ["POLICY_COUNTERS", 262, "Counters of the policy."],
  ["POLICY_REFUSED", 64, "Refused tuples that a worker remembers."],
  ["POLICY_CACHE4", 4096, "IPv4 addresses whose class is remembered; a power of two."],
  ["POLICY_CACHE6", 1024, "IPv6 addresses whose class is remembered; a power of two."],
  ["POLICY_PAIRS", 4096, "Pairs of IPv4 addresses of which it is remembered what may be opened; a power of two."],
];
