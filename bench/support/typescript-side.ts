/** The plain TypeScript twin with established flows, filled with the packets that the engine gets, and checked alike. */
import { BATCH_SIZE, HEAD_L3_OFFSET, HEAD_STRIDE } from "../../src/gen/layout.ts";
import { clientOf, FIRST_SERVER, FIRST_VIP, IDLE_MS, portOf, SERVER_PORT, VIP_PORT } from "./engine-world.ts";
import {
  BOX_CLIENT_MAC,
  BOX_SERVER_MAC,
  CLIENT_MAC,
  checkFrame,
  type FramePlaces,
  frameBytes,
  macBytes,
  SERVER_MAC,
  writeFrame,
} from "./frames.ts";
import { Order, type Side } from "./timing.ts";
import { TypescriptTwin } from "./typescript-twin.ts";

export class TypescriptSide implements Side, FramePlaces {
  readonly view: DataView;
  readonly #twin: TypescriptTwin;
  /** Those that found room: the twin does not move entries, so a few do not. */
  readonly #flows: Uint32Array;
  readonly #order: Order;
  readonly #inBatch = new Uint32Array(BATCH_SIZE);
  #forwarded = 0;

  constructor(flows: number) {
    const twin = new TypescriptTwin(flows);
    const pair = twin.addPair({
      vip: FIRST_VIP,
      server: FIRST_SERVER,
      portAdd: SERVER_PORT - VIP_PORT,
      idleTimeoutMs: IDLE_MS,
      serverMac: macBytes(SERVER_MAC),
      serverSideMac: macBytes(BOX_SERVER_MAC),
    });
    const hop = twin.addHop({ clientMac: macBytes(CLIENT_MAC), clientSideMac: macBytes(BOX_CLIENT_MAC) });
    this.#flows = Uint32Array.from({ length: flows }, (_, flow) => flow).filter((flow) =>
      twin.addFlow({ protocol: 6, client: clientOf(flow), clientPort: portOf(flow), vipPort: VIP_PORT, pair, hop }, 1),
    );
    this.#twin = twin;
    this.#order = new Order(this.#flows.length);
    this.view = new DataView(twin.bytes.buffer);
    twin.lengths.fill(frameBytes(4));
  }

  layer3 = (slot: number): number => slot * HEAD_STRIDE + HEAD_L3_OFFSET;

  fill(): void {
    for (let slot = 0; slot < BATCH_SIZE; slot++) {
      const flow = this.#flows[this.#order.next()]!;
      this.#inBatch[slot] = flow;
      const ends = {
        source: clientOf(flow),
        sourcePort: portOf(flow),
        destination: FIRST_VIP,
        destinationPort: VIP_PORT,
      };
      writeFrame(this, slot, 4, ends, [CLIENT_MAC, BOX_CLIENT_MAC], flow);
    }
  }

  process(nowMs: number): void {
    this.#forwarded = this.#twin.process(BATCH_SIZE, nowMs);
  }

  check(): void {
    if (this.#forwarded !== BATCH_SIZE) throw new Error(`the twin forwarded ${this.#forwarded} of a batch`);
    for (let slot = 0; slot < BATCH_SIZE; slot++) {
      const flow = this.#inBatch[slot]!;
      const ends = {
        source: clientOf(flow),
        sourcePort: portOf(flow),
        destination: FIRST_SERVER,
        destinationPort: SERVER_PORT,
      };
      checkFrame(this, slot, 4, ends, [BOX_SERVER_MAC, SERVER_MAC], flow);
    }
  }
}
