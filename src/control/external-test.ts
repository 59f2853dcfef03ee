/** The program of an external health test, as it stands in the file system: whether it can be a test, and what is odd. */
import { accessSync, constants, statSync } from "node:fs";
import { dirname } from "node:path";

/**
 * Who external tests run as when the daemon is root: `nobody` of every Linux system, the kernel's overflow id. The
 * kernel leaves it out where a user namespace does not have it.
 */
export const TEST_USER = Object.freeze({ uid: 65534, gid: 65534 });

const S_IWGRP = 0o020;
const S_IWOTH = 0o002;
const S_IXOTH = 0o001;
const S_ISVTX = 0o1000;

/** What stands at the path, for this process. */
export function externalTest(path: string): "executable" | "missing" | "unusable" {
  try {
    if (!statSync(path).isFile()) return "unusable";
    accessSync(path, constants.X_OK);
    return "executable";
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
    if (isRoot && !isForEveryone(test))
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
