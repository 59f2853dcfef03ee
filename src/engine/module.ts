/**
 * Where a program finds the engine: in a checkout where the build left it, in a released executable inside it. Apart
 * from abi.ts because the bundler follows the import below into every bundle that has it.
 */
import { readModule } from "./abi.ts";

/** Bytes of the engine for this program. Throws one line when it has not been built. */
export async function readEngineModule(): Promise<Uint8Array<ArrayBuffer>> {
  if (!Bun.main.startsWith("/$bunfs/")) return readModule();
  const embedded = (await import("../../build/engine.wasm", { with: { type: "file" } })) as { default: string };
  return readModule(embedded.default);
}
