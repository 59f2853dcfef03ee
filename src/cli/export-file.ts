/**
 * The FILE of export-config: a temporary file beside it (mode 0600) that is renamed over it when everything is there,
 * so that FILE is either as before or complete. It is opened with the caller's rights, by the caller's process.
 */
import {
  closeSync,
  fsyncSync,
  lstatSync,
  openSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { failure } from "../command/errors.ts";
import type { Failure } from "../model/result.ts";

/** The file cannot be made; `failure` is what to print. */
export class ExportFailed extends Error {
  override readonly name = "ExportFailed";
  constructor(readonly failure: Failure) {
    super(failure.text);
  }
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

export class ExportFile {
  private fd: number;
  /** null: the file is a device or a pipe, which cannot be replaced, so it is written directly. */
  private readonly working: string | null;
  private readonly target: string;
  private readonly onSignal = (): void => {
    this.abandon();
    process.exit(1);
  };

  /** Opens the temporary file. Throws ExportFailed. */
  constructor(private readonly file: string) {
    try {
      const { target, isReplaceable } = placeOf(file);
      const working = join(dirname(target), `.${basename(target)}.ilbadm-${process.pid}`);
      this.target = target;
      this.fd = isReplaceable ? openSync(working, "wx", 0o600) : openSync(target, "w");
      this.working = isReplaceable ? working : null;
    } catch {
      throw new ExportFailed(failure("E-WORKFILE"));
    }
    for (const signal of SIGNALS) process.once(signal, this.onSignal);
  }

  write(text: string): void {
    const bytes = Buffer.from(text);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.fd, bytes, done);
    } catch (error) {
      throw this.failed(error);
    }
  }

  /** Puts the file in place. */
  commit(): void {
    try {
      if (this.working !== null) {
        fsyncSync(this.fd);
        renameSync(this.working, this.target);
      }
      this.close();
    } catch (error) {
      throw this.failed(error);
    }
  }

  /** FILE stays as it was and no temporary file remains. */
  abandon(): void {
    this.close();
    if (this.working === null) return;
    try {
      unlinkSync(this.working);
    } catch {
      // It is gone already, which is what we want.
    }
  }

  private failed(error: unknown): ExportFailed {
    this.abandon();
    const reason = (error as NodeJS.ErrnoException).message.replace(/^[A-Z]+: /, "").replace(/,.*/, "");
    return new ExportFailed(failure("E-CREATEFILE", this.file, reason));
  }

  private close(): void {
    for (const signal of SIGNALS) process.removeListener(signal, this.onSignal);
    if (this.fd < 0) return;
    const fd = this.fd;
    this.fd = -1;
    closeSync(fd);
  }
}

/** Where a file that was asked for has to be written. */
export interface Place {
  readonly target: string;
  /** Whether another file may be renamed over the target. Pipes and devices cannot be replaced, only written. */
  readonly isReplaceable: boolean;
}

/**
 * Links are followed, so that renaming replaces what they point at; a name that does not exist yet is itself. What the
 * kernel shows as a link but has no name of its own (/dev/stdout that is a pipe, a deleted file) is written through the
 * name that was asked for, and so is a link to nothing. Throws errors of the system.
 */
export function placeOf(file: string): Place {
  const there = statSync(file, { throwIfNoEntry: false });
  if (there === undefined) {
    const isLink = lstatSync(file, { throwIfNoEntry: false }) !== undefined;
    return { target: file, isReplaceable: !isLink };
  }
  if (!there.isFile()) return { target: file, isReplaceable: false };
  const target = realpathSync(file);
  const named = lstatSync(target, { throwIfNoEntry: false });
  const isSame = named !== undefined && named.ino === there.ino && named.dev === there.dev;
  return isSame ? { target, isReplaceable: true } : { target: file, isReplaceable: false };
}
