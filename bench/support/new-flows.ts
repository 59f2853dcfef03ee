/**
 * Packets that open flows, each from a client that has never been seen. Once the table is full every new flow costs an old
 * one its place (half-open ones, the oldest first): the state that an LRU hash is always in after its first fill.
 */
import { BATCH_SIZE, Reason } from "../../src/gen/layout.ts";
import { EngineWorld, FIRST_SERVER, FIRST_VIP, SERVER_PORT, VIP_PORT } from "./engine-world.ts";
import { type Segment, SYN } from "./frames.ts";
import type { Side } from "./timing.ts";

const NETWORK = 0x0a000000;
const PORT_BASE = 1024;
const ANY_MS = 1;

export class NewFlows implements Side {
  readonly #world: EngineWorld;
  readonly #sources = new Uint32Array(BATCH_SIZE);
  readonly #ports = new Uint16Array(BATCH_SIZE);
  readonly #segment: Segment = { source: 0, destination: 0, sourcePort: 0, destinationPort: 0 };
  #opened = 0;

  private constructor(world: EngineWorld) {
    this.#world = world;
  }

  /** A table of `maxFlows` flows that is full. */
  static async create(maxFlows: number): Promise<NewFlows> {
    const world = await EngineWorld.create({ flows: 0, maxFlows });
    const flows = new NewFlows(world);
    for (let opened = 0; opened < maxFlows; opened += BATCH_SIZE) {
      flows.fill();
      flows.process(ANY_MS);
    }
    const { flows: alive } = world.host.health();
    if (alive !== maxFlows) throw new Error(`${alive} flows stand instead of ${maxFlows}`);
    return flows;
  }

  /** The next of 2^24 hosts in an order that has nothing to do with any table, with a new port each time round. */
  #next(slot: number): void {
    const number = this.#opened++;
    this.#sources[slot] = NETWORK | (Math.imul(number, 0x9e3779b1) & 0xffffff);
    this.#ports[slot] = PORT_BASE + (number >>> 24);
  }

  fill(): void {
    for (let slot = 0; slot < BATCH_SIZE; slot++) {
      this.#next(slot);
      const segment = this.#segment;
      segment.source = this.#sources[slot]!;
      segment.sourcePort = this.#ports[slot]!;
      segment.destination = FIRST_VIP;
      segment.destinationPort = VIP_PORT;
      this.#world.writeClient(slot, segment, slot, SYN);
    }
  }

  process(nowMs: number): void {
    this.#world.process(nowMs);
  }

  check(): void {
    for (let slot = 0; slot < BATCH_SIZE; slot++) {
      const segment = this.#segment;
      segment.source = this.#sources[slot]!;
      segment.sourcePort = this.#ports[slot]!;
      segment.destination = FIRST_SERVER;
      segment.destinationPort = SERVER_PORT;
      this.#world.checkSlot(slot, Reason.FlowNew, segment, slot);
    }
  }
}
