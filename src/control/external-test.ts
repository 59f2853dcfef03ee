/** The program of an external health test, as it stands in the file system: whether it can be a test, and what is odd. */
import { accessSync, constants, realpathSync, statSync } from "node:fs";
import { dirname } from "node:path";

interface User {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Who external tests mostly run as when the daemon is root: `nobody` of every Linux system, the kernel's overflow id.
 * The kernel leaves it out where a user namespace does not have it.
 */
export const TEST_USER: User = Object.freeze({ uid: 65534, gid: 65534 });

const S_IWGRP = 0o020;
const S_IWOTH = 0o002;
const S_IXOTH = 0o001;
const S_ISVTX = 0o1000;

/**
 * Who a test runs as; null: the daemon's own user, without its capabilities. A daemon that is root has nobody run it, but
 * what nobody may not execute and root alone keeps (a script in /root) runs as root, for it could not run at all.
 */
export function userOfTest(test: string, isRoot = process.geteuid?.() === 0): User | null {
  return isRoot && !isKeptByRoot(test) ? TEST_USER : null;
}

/**
 * Whether nobody may not execute it, and root alone decides what it is: owner of the file and of all folders above it,
 * with no one else to write there. A way over links does not count, because who owns a link can turn it.
 */
function isKeptByRoot(test: string): boolean {
  try {
    return !isForEveryone(test) && realpathSync(test) === test && [test, ...foldersOf(test)].every(isRootsAlone);
  } catch {
    return false;
  }
}

function isRootsAlone(path: string): boolean {
  const entry = statSync(path);
  const isGuarded = entry.isDirectory() && (entry.mode & S_ISVTX) !== 0;
  return entry.uid === 0 && (isGuarded || (entry.mode & (S_IWGRP | S_IWOTH)) === 0);
}

/**
 * What stands at the path, for this process.
 * @param isForRoot whether who asks is root as well; `forbidden`: anybody else would have root run what they may not
 */
export function externalTest(
  path: string,
  isForRoot = true,
  isRoot = process.geteuid?.() === 0,
): "executable" | "missing" | "unusable" | "forbidden" {
  try {
    if (!statSync(path).isFile()) return "unusable";
    accessSync(path, constants.X_OK);
    return !isForRoot && isRoot && isKeptByRoot(path) ? "forbidden" : "executable";
  } catch (error) {
    return ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "") ? "missing" : "unusable";
  }
}

/**
 * Remarks on a test that has just been accepted, one line each: who else may change what it does, and whether it can be
 * run at all. @param test as the user spelled it; built-in tests give none
 */
export function remarksOnTest(test: string, isRoot = process.geteuid?.() === 0): string[] {
  if (!test.startsWith("/")) return [];
  const remarks: string[] = [];
  try {
    const writable = [test, ...foldersOf(test)].find((path) => isWritableByOthers(path));
    if (writable !== undefined)
      remarks.push(`warning: ${writable} can be written by others than its owner, who so decide what ilbd runs`);
    if (isRoot && !isForEveryone(test) && !isKeptByRoot(test))
      remarks.push(
        `warning: ${test} runs as nobody (uid ${TEST_USER.uid}), who may not execute it; use chmod o+rx on it and its folders`,
      );
  } catch {
    // Gone since it was looked at: its first run will say so.
  }
  return remarks;
}

function foldersOf(path: string): string[] {
  const folders: string[] = [];
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    folders.push(folder);
    if (folder === "/") return folders;
  }
}

/** In a folder with the sticky bit nobody replaces what is another's. */
function isWritableByOthers(path: string): boolean {
  const { mode, gid } = statSync(path);
  if ((mode & S_ISVTX) !== 0) return false;
  return (mode & S_IWOTH) !== 0 || ((mode & S_IWGRP) !== 0 && gid !== 0);
}

const isForEveryone = (path: string): boolean =>
  [path, ...foldersOf(path)].every((part) => {
    const { mode, uid } = statSync(part);
    return (mode & S_IXOTH) !== 0 || uid === TEST_USER.uid;
  });
