/** Expected failure as a value; exceptions are for bugs. */

/** Stable codes of the error catalogue, e.g. `E-DUPRULE`. The text that users see belongs to command/errors.ts. */
export interface Failure {
  readonly code: string;
  /** What ilbadm prints after `ilbadm: `. */
  readonly text: string;
  /** The key, operand or body field at fault, where there is one. */
  readonly field?: string;
  /** What may help, for people; printed behind the text where a terminal may be. */
  readonly hint?: string;
}

export type Result<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly failure: Failure };

export const ok = <T>(value: T): Result<T> => ({ ok: true, value });
export const fail = (code: string, text: string, field?: string): Result<never> => ({
  ok: false,
  failure: field === undefined ? { code, text } : { code, text, field },
});
