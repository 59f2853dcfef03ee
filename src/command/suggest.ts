/**
 * What a misspelt word was probably meant to be, for a hint behind an error. The error's own line never changes; where
 * nothing is close enough nothing is said.
 */
import type { Failure, Result } from "../model/result.ts";
import { type ErrorCode, failure as failureOf } from "./errors.ts";

/** Longer words may have more mistakes, but a hint that is far off is worse than none. */
const allowedEdits = (length: number): number => (length < 3 ? 0 : length < 6 ? 1 : 2);

/**
 * How many letters must be inserted, dropped, replaced or swapped with their neighbour (optimal string alignment), or
 * `limit + 1` when they are more than `limit`.
 */
export function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let [twoBack, previous]: [number[], number[]] = [[], Array.from({ length: b.length + 1 }, (_, i) => i)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min(previous[j]! + 1, row[j - 1]! + 1, previous[j - 1]! + (same ? 0 : 1));
      if (a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] && i > 1 && j > 1) best = Math.min(best, twoBack[j - 2]! + 1);
      row.push(best);
    }
    if (Math.min(...row) > limit) return limit + 1;
    [twoBack, previous] = [previous, row];
  }
  return Math.min(previous[b.length]!, limit + 1);
}

/** The candidate that is closest to `word` without regard to case, null when none is close or it is the word itself. */
export function closest(word: string, candidates: Iterable<string>): string | null {
  const wanted = word.toLowerCase();
  let found: string | null = null;
  let limit = allowedEdits(wanted.length);
  for (const candidate of candidates) {
    if (limit === 0) break;
    const distance = editDistance(wanted, candidate.toLowerCase(), limit);
    if (distance === 0) return null;
    if (distance > limit) continue;
    found = candidate;
    limit = distance - 1;
  }
  return found;
}

/** The same failure, with a hint if one of the candidates is close to the word. */
export function suggesting(failure: Failure, word: string, candidates: Iterable<string>): Failure {
  const found = closest(word, candidates);
  return found === null ? failure : { ...failure, hint: `did you mean ${found}?` };
}

/** The failure of a name that none of the objects has. */
export const unknownName = (code: ErrorCode, name: string, objects: readonly { readonly name: string }[]) =>
  failSuggesting(failureOf(code), name, namesOf(objects));

function* namesOf(objects: readonly { readonly name: string }[]): Generator<string> {
  for (const { name } of objects) yield name;
}

/** So many near names are enough. */
const MAX_NEAR = 5;

/** Candidates near to a word: that hold it or are held by it, or are close in spelling; the first few. */
function near(word: string, candidates: Iterable<string>): string[] {
  const wanted = word.toLowerCase();
  const found = [...candidates].filter((candidate) => {
    const lower = candidate.toLowerCase();
    const isPart = wanted.length >= 3 && (lower.includes(wanted) || wanted.includes(lower));
    const limit = Math.max(2, allowedEdits(wanted.length));
    return isPart || editDistance(wanted, lower, limit) <= (wanted.length < 4 ? 1 : limit);
  });
  return found.slice(0, MAX_NEAR);
}

/** The failure of a word of a vocabulary, with all the near words of it. */
export function failNaming(failure: Failure, word: string, vocabulary: Iterable<string>): Result<never> {
  const found = near(word, vocabulary);
  return { ok: false, failure: found.length === 0 ? failure : { ...failure, hint: `near names: ${found.join(", ")}` } };
}

/** A failing Result of `suggesting`. */
export const failSuggesting = (failure: Failure, word: string, candidates: Iterable<string>): Result<never> => ({
  ok: false,
  failure: suggesting(failure, word, candidates),
});
