/** How a health check judges, all defaults filled in: without options exactly as the original. Pure. */
import type { HealthCheck, Judging } from "./config.ts";

const AS_THE_ORIGINAL: Required<Judging> = Object.freeze({
  rise: 1,
  fall: 1,
  initial: "up",
  panicPercent: 0,
  passive: true,
});

/** Percent 0: never panics. `passive` moves only the time of a check, so it is on unless it was switched off. */
export const judgingOf = ({ judging }: HealthCheck): Required<Judging> =>
  judging === undefined ? AS_THE_ORIGINAL : { ...AS_THE_ORIGINAL, ...judging };
