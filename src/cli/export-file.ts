/**
 * The FILE of export-config: a temporary file beside it (mode 0600) that is renamed over it when everything is there,
 * so that FILE is either as before or complete. It is opened with the caller's rights, by the caller's process.
 */
import { closeSync, fsyncSync, lstatSync, openSync, realpathSync, renameSync, unlinkSync, writeSync } from "node:fs";
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
    this.target = followLinks(file);
    try {
      const there = lstatSync(this.target, { throwIfNoEntry: false });
      const isReplaceable = there === undefined || there.isFile();
      const working = join(dirname(this.target), `.${basename(this.target)}.ilbadm-${process.pid}`);
      this.fd = isReplaceable ? openSync(working, "wx", 0o600) : openSync(this.target, "w");
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

/** A link is followed, so that renaming replaces what it points at; a name that does not exist yet is itself. */
function followLinks(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return file;
  }
}
