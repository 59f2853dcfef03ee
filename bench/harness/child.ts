/**
 * A row process: measures the rows of one fixture, one after the other, and tells its parent what came out. Rows have
 * a process each because what one leaves behind (memories, compiled code, a torn heap) would be measured with the next.
 * SIGINT and SIGTERM end the round in hand and take everything down that was built.
 */
import { type BenchContext, type BenchRow, type BenchSides, Unavailable } from "../row.ts";
import { findRows } from "./catalogue.ts";
import { Fixtures, measure } from "./measure.ts";
import type { Assignment, RowMessage } from "./messages.ts";

const INTERRUPTED = 130;

/** Rejects when the process is told to end. */
const interrupted = new Promise<never>((_, reject) => {
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => reject(new Error("interrupted")));
});
interrupted.catch(() => undefined);

function tell(message: RowMessage): void {
  process.send?.(message);
}

/** The row with sides that stop waiting when the process is told to end. */
function interruptible(row: BenchRow): BenchRow {
  const guarded = (side: () => Promise<number> | number) => () => Promise.race([side(), interrupted]);
  const setup = async (context: BenchContext): Promise<BenchSides> => {
    const sides = await row.setup(context);
    return {
      ours: guarded(() => sides.ours()),
      ...(sides.peer && { peer: guarded(() => sides.peer!()) }),
      parts: () => sides.parts?.() ?? {},
      close: () => sides.close?.(),
    };
  };
  return { ...row, setup };
}

async function runRow(row: BenchRow, assignment: Assignment, fixtures: Fixtures): Promise<void> {
  const { quick, sideMs, rounds } = assignment;
  const reason = (await row.unavailable?.()) ?? null;
  if (reason !== null) return tell({ kind: "skipped", id: row.id, reason });
  const context: BenchContext = { quick, sideMs, shared: (name, create) => fixtures.get(name, create) };
  try {
    const onRound = (round: number) => tell({ kind: "round", id: row.id, round });
    tell({ kind: "result", result: await measure(interruptible(row), context, rounds, onRound) });
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    tell({ kind: error instanceof Unavailable ? "skipped" : "failed", id: row.id, reason: text });
  }
}

async function main(assignment: Assignment): Promise<void> {
  const rows = (await findRows()).filter(({ id }) => assignment.ids.includes(id));
  const fixtures = new Fixtures();
  let status = 0;
  try {
    for (const row of rows) await Promise.race([runRow(row, assignment, fixtures), interrupted]);
  } catch {
    status = INTERRUPTED;
  }
  await fixtures.close();
  process.exit(status);
}

await main(JSON.parse(process.argv[2] ?? "") as Assignment);
