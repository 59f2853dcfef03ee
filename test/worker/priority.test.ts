/** Whom a strained daemon raises above others: itself, and only as long. */
import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { StrainRelief } from "../../src/worker/priority.ts";

const MODULE = new URL("../../src/worker/priority.ts", import.meta.url).pathname;
const HAS_GROUPS = existsSync("/proc/self/autogroup");

/** What a program says that has this in it, as a session of its own or within ours. */
async function say(body: string, leads: boolean): Promise<unknown> {
  const program = `
    import { readFileSync } from "node:fs";
    import { getPriority, setPriority } from "node:os";
    import { callingThread, ownSession } from ${JSON.stringify(MODULE)};
    const groupNice = () => Number(readFileSync("/proc/self/autogroup", "utf8").trim().split(" ").at(-1));
    const seen = [];
    ${body}
    console.log(JSON.stringify(seen));`;
  const child = Bun.spawn([process.execPath, "-e", program], { stdout: "pipe", stderr: "inherit", detached: leads });
  const text = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  return JSON.parse(text);
}

const SESSION = `
  const nice = getPriority(0);
  const session = ownSession(groupNice() - 3);
  const look = () => seen.push([groupNice(), getPriority(0) - nice]);
  look();
  try {
    session?.raise();
    look();
    session?.restore();
  } catch (error) {
    seen.push(error.code);
  }
  look();
  seen.push(session === null);`;

test.skipIf(!HAS_GROUPS)("who leads a session raises it, and no thread within it, and gives it back", async () => {
  const [before, raised, after, isNull] = (await say(SESSION, true)) as [
    number[],
    number[] | string,
    number[],
    boolean,
  ];
  const wanted = isNull ? before : [before[0]! - 3, 0];
  // Who may not is told so, and has changed nothing.
  expect([wanted, "EPERM"]).toContainEqual(raised);
  expect([before[1], after]).toEqual([0, before]);
});

test.skipIf(!HAS_GROUPS)("the session of whoever started the daemon is left alone", async () => {
  expect(await say(SESSION, false)).toMatchObject({ 3: true });
});

test("a thread raises itself alone, never lowers itself, and gives back what it took", async () => {
  const body = `
    setPriority(0, 10);
    for (const nice of [5, 15]) {
      const thread = callingThread(nice);
      try {
        thread.raise();
        seen.push(getPriority(0));
        thread.restore();
      } catch (error) {
        seen.push(error.code);
      }
    }
    seen.push(getPriority(0));`;
  const [raised, ...rest] = (await say(body, false)) as unknown[];
  expect([5, "EACCES"]).toContain(raised as number | string);
  expect(rest).toEqual([10, 10]);
});

test("several strained workers: raised with the first, given back with the last, and a refusal is told once", () => {
  const done: string[] = [];
  const refused: string[] = [];
  const raise = () => done.push("raise");
  const relief = new StrainRelief({ raise, restore: () => done.push("restore") }, (reason) => refused.push(reason));
  for (const isStrained of [true, true, false]) relief.note(isStrained);
  expect(done).toEqual(["raise"]);
  for (const isStrained of [false, true, false]) relief.note(isStrained);
  expect([done, refused]).toEqual([["raise", "restore", "raise", "restore"], []]);
  const forbidden = () => {
    throw new Error("EPERM");
  };
  const powerless = new StrainRelief({ raise: forbidden, restore: forbidden }, (reason) => refused.push(reason));
  for (const isStrained of [true, false, true, false]) powerless.note(isStrained);
  expect(refused).toEqual(["EPERM"]);
});
