/** The examples of docs/netbackup.md are run: what stands there is what ilbadm prints. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { FakeHost, ilbadm } from "../support/fake-host.ts";

const TEXT = readFileSync(join(import.meta.dir, "../../docs/netbackup.md"), "utf8");
const PROMPT = "# ilbadm ";

/** Blocks of commands, each with what it prints. */
const blocks = [...TEXT.matchAll(/^```\n([\s\S]*?)^```$/gm)]
  .map(([, block]) => block!)
  .filter((block) => block.startsWith(PROMPT));

test.each(blocks)("an example of the page prints what the page says: %s", async (block) => {
  const host = new FakeHost();
  let printed = "";
  for (const line of block.split("\n").filter((text) => text.startsWith(PROMPT))) {
    const { stdout, stderr } = await ilbadm(host, line.slice(PROMPT.length));
    printed += `${line}\n${stdout}${stderr}`;
  }
  expect(printed).toBe(block);
});

test("the page has its examples", () => {
  expect(blocks.length).toBeGreaterThanOrEqual(6);
});
