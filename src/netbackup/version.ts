/** Product versions such as `7.0.1`: numbers joined by dots, compared part by part. No dates, letters or build names. */

const VERSION = /^[0-9]{1,5}(\.[0-9]{1,5}){0,5}$/;

/** The version without leading zeros in its parts; null for text that is no version. */
export const parseVersion = (text: string): string | null =>
  VERSION.test(text) ? text.split(".").map(Number).join(".") : null;

/** Negative, zero or positive as `a` is older than, as old as or newer than `b`. Missing parts are 0: 7.0 equals 7. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a.split("."), b.split(".")];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = Number(left[i] ?? 0) - Number(right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
