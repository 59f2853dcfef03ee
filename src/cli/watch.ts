/** `--watch` and `--pretty`: the same command again and again on a cleared screen, and tables for people. */
import { isTimed } from "../command/run.ts";
import { findSubcommand } from "../command/spec.ts";
import type { View } from "./options.ts";
import type { Sink } from "./output.ts";
import { prettify } from "./pretty.ts";

/** Cursor to the corner, then everything below it away: no flicker as of a cleared screen. */
const HOME = "\u001b[H";
const CLEAR_BELOW = "\u001b[J";
const CLEAR_LINE_END = "\u001b[K";

/** Colours are for terminals, and not for those who asked for none (https://no-color.org). */
const wantsColours = (environment: Readonly<Record<string, string | undefined>>): boolean =>
  process.stdout.isTTY === true && !environment.NO_COLOR;

/**
 * Runs a command and shows its output as `view` has it.
 * @param once runs the command once, its output into the sink; gives the exit status
 */
export async function show(
  view: View,
  argv: readonly string[],
  once: (sink: Sink) => Promise<number>,
  caller: Sink,
  environment: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  const { pretty, everySeconds } = view;
  if (!pretty && everySeconds === null) return once(caller);
  if (isTimed(argv)) {
    // It has a rhythm of its own, and may never end.
    if (everySeconds === null) return once(caller);
    caller.stderr("ilbadm: --watch and an INTERVAL do not go together\n");
    return 1;
  }
  const colours = wantsColours(environment);
  const name = argv[0] ?? "";
  const whole = async (): Promise<{ text: string; status: number }> => {
    let text = "";
    const status = await once({ stdout: (piece) => (text += piece), stderr: caller.stderr });
    return { text: prettify(name, text, colours), status };
  };
  if (everySeconds === null) {
    const { text, status } = await whole();
    caller.stdout(text);
    return status;
  }
  if (findSubcommand(name)?.right !== "show") {
    caller.stderr(`ilbadm: --watch is for show commands, and ${name} is none\n`);
    return 1;
  }
  const screen = (text: string): string =>
    process.stdout.isTTY ? HOME + text.replaceAll("\n", `${CLEAR_LINE_END}\n`) + CLEAR_BELOW : text;
  for (;;) {
    const { text, status } = await whole();
    if (status !== 0) return status;
    const title = `every ${everySeconds} s: ilbadm ${argv.join(" ")}   ${new Date().toLocaleTimeString("en-GB")}\n\n`;
    caller.stdout(screen(title + text));
    await Bun.sleep(everySeconds * 1000);
  }
}
