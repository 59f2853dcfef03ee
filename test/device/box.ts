/** Starts the box program (box-main.ts) in a namespace and talks to it. */
import type { PortCounters } from "../../src/device/device.ts";
import type { BoxAnswer, BoxSpec, RecordedFrame, SendFrame } from "./box-protocol.ts";
import type { Namespaces, Program } from "./namespaces.ts";

/** As numbers: tests count small. */
export type Counters = { readonly [K in keyof PortCounters]: number };

const MAIN = new URL("./box-main.ts", import.meta.url).pathname;

export class Box {
  /** Real names of its ports, in order. */
  readonly ports: readonly string[];
  readonly #program: Program;

  private constructor(program: Program, ports: readonly string[]) {
    this.#program = program;
    this.ports = ports;
  }

  /** @param wrapper argv put before the program, e.g. to take capabilities away. Throws with the program's error line. */
  static async start(namespaces: Namespaces, label: string, spec: BoxSpec, ...wrapper: string[]): Promise<Box> {
    const program = namespaces.start(label, ...wrapper, process.execPath, MAIN, JSON.stringify(spec));
    return new Box(program, await read<string[]>(program));
  }

  async #ask<T>(command: string): Promise<T> {
    this.#program.say(command);
    return await read<T>(this.#program);
  }

  /** Starts the loop of a box that was told to hold. */
  go(): void {
    this.#program.say("go");
  }
  wake(): void {
    this.#program.say("wake");
  }
  counters(): Promise<Counters[]> {
    return this.#ask("counters");
  }
  /** How often receive has come back. */
  returns(): Promise<number> {
    return this.#ask("returns");
  }
  /** Waits until `count` frames were recorded and takes all. */
  frames(count: number): Promise<RecordedFrame[]> {
    return this.#ask(`frames ${count}`);
  }
  send(frames: readonly SendFrame[]): Promise<{ sent: number }> {
    return this.#ask(`send ${JSON.stringify(frames)}`);
  }
  async stop(): Promise<void> {
    await this.#ask("stop");
  }
}

async function read<T>(program: Program): Promise<T> {
  const answer = await program.json<BoxAnswer<T>>();
  if ("error" in answer) throw new Error(answer.error);
  return answer.ok;
}

/** Asks again and again until the answer is right; the time limit is the test's own. */
export async function until<T>(ask: () => Promise<T>, right: (value: T) => boolean): Promise<T> {
  for (;;) {
    const value = await ask();
    if (right(value)) return value;
    await Bun.sleep(5);
  }
}
