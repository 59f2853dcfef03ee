/** Random flow policies over the addresses of the differential world: few classes, ports that its traffic has, modes of all kinds. */
import type { PermittedFlow, PolicyHost, PolicyTables } from "../../src/engine/policy.ts";
import type { Address } from "../../src/model/address.ts";
import { ip } from "../support/addresses.ts";
import type { Random } from "../support/random.ts";

/** Prefixes that hold clients, VIPs, servers and proxy addresses, some within others. */
const PREFIXES: readonly (readonly [prefix: Address, bits: number])[] = [
  [ip("0.0.0.0"), 0],
  [ip("192.0.2.0"), 24],
  [ip("192.0.2.10"), 31],
  [ip("192.0.2.12"), 32],
  [ip("198.51.100.0"), 24],
  [ip("198.51.100.8"), 30],
  [ip("198.51.100.11"), 32],
  [ip("203.0.113.0"), 24],
  [ip("203.0.113.128"), 25],
  [ip("::"), 0],
  [ip("2001:db8::"), 32],
  [ip("2001:db8:2::"), 48],
  [ip("2001:db8:2::8"), 126],
  [ip("2001:db8:100::"), 48],
  [ip("2001:db8:100::a"), 127],
  [ip("2001:db8:100::b"), 128],
  [ip("2001:db8:113::"), 48],
];
const PORTS = [
  { min: 80, max: 80 },
  { min: 53, max: 53 },
  { min: 443, max: 443 },
  { min: 5003, max: 5009 },
  { min: 2000, max: 9000 },
  { min: 40_000, max: 40_010 },
  { min: 40_003, max: 41_000 },
  { min: 1024, max: 65_535 },
  { min: 1, max: 65_535 },
] as const;
const MOST_CLASSES = 4;
const FLOWS = 12;

export class PolicyMaker {
  readonly #random: Random;
  /** Null: none is in force. */
  current: PolicyTables | null = null;

  constructor(random: Random) {
    this.#random = random;
  }

  /** Another one, or none. */
  change(): void {
    this.current = this.#random.chance(0.3) ? null : this.#make();
  }

  #make(): PolicyTables {
    const random = this.#random;
    const classCount = random.between(1, MOST_CLASSES);
    const hosts: PolicyHost[] = PREFIXES.filter(() => random.chance(0.5)).map(([prefix, bits]) => ({
      prefix,
      bits,
      kind: random.between(1, classCount),
    }));
    const classes = Array.from({ length: classCount }, (_, index) => index + 1);
    const pairs = classes.flatMap((from) =>
      classes.filter(() => random.chance(0.6)).map((to) => ({ from, to, flows: this.#flows() })),
    );
    return {
      mode: random.of(["monitor", "enforce"]),
      outside: random.of(["pass", "pass", "drop"]),
      sourcePorts: random.of(["any", "non-reserved", "non-reserved"]),
      hosts,
      classCount,
      pairs,
    };
  }

  #flows(): PermittedFlow[] {
    const random = this.#random;
    return Array.from({ length: random.below(4) }, () => ({
      flow: random.below(FLOWS),
      protocol: random.of(["tcp", "udp"]),
      ports: random.of(PORTS),
    }));
  }
}
