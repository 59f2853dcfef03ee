/**
 * The daemon's log on stderr: one record per line, as text or JSON. A message is one sentence about what happened; facts
 * stand in fields. Writes synchronously, so that the last words before an exit are not lost.
 */
import { writeSync } from "node:fs";
import type { Log, LogFields } from "./control/ports.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export const LOG_FORMATS = ["text", "json"] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** @param write gets whole lines; default: stderr */
export function createLog(level: LogLevel, format: LogFormat, write: (line: string) => void = toStderr): Log {
  const lowest = LOG_LEVELS.indexOf(level);
  const at =
    (recordLevel: LogLevel) =>
    (message: string, fields: LogFields = {}): void => {
      if (LOG_LEVELS.indexOf(recordLevel) < lowest) return;
      const time = new Date().toISOString();
      write(
        format === "json" ? jsonLine(time, recordLevel, message, fields) : textLine(time, recordLevel, message, fields),
      );
    };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

function jsonLine(time: string, level: LogLevel, message: string, fields: LogFields): string {
  const record = { time, level, message, ...fields };
  return `${JSON.stringify(record, (_key, value: unknown) => (typeof value === "bigint" ? value.toString() : value))}\n`;
}

function textLine(time: string, level: LogLevel, message: string, fields: LogFields): string {
  const pairs = Object.entries(fields).map(([name, value]) => ` ${name}=${quoted(String(value))}`);
  return `${time} ${level.padEnd(5)} ${oneLine(message)}${pairs.join("")}\n`;
}

/** Values with blanks, quotes or control characters are quoted, so that a record stays one line of fields. */
const quoted = (text: string): string => (/^[^\s"=\p{Cc}]+$/u.test(text) ? text : JSON.stringify(text));
const oneLine = (text: string): string => text.replaceAll(/[\r\n]+/g, " | ");

function toStderr(line: string): void {
  try {
    writeSync(2, line);
  } catch {
    // Nobody reads stderr (closed, or a full pipe): there is nowhere left to say so.
  }
}
