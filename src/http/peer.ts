/**
 * From the operating-system identity of a socket's other end to a Caller with rights (specification G): root and the
 * daemon's own user may do everything, members of `ilb-config` and `ilb-enable` what those groups give, everybody may
 * read. Rights come from the groups of the connecting process, not from the group file's member lists: that is what the
 * kernel vouches for. Reads /etc/group and /etc/passwd for names only.
 */
import { readFileSync } from "node:fs";
import type { Right } from "../command/command.ts";
import type { Caller } from "../control/caller.ts";

/** SO_PEERCRED and SO_PEERGROUPS of a connected Unix socket, as of the moment of connecting. */
export interface PeerIdentity {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly groups: readonly number[];
}

/** What the account files say, injected for tests. */
export interface Accounts {
  /** Id of a group, null when there is none of that name. */
  groupId(name: string): number | null;
  /** Name of a user, null when unknown. */
  userName(uid: number): string | null;
}

export const CONFIG_GROUP = "ilb-config";
export const ENABLE_GROUP = "ilb-enable";

/** @param ownUid the daemon's own user: whoever shares it could as well change its files */
export function callerOfPeer(peer: PeerIdentity, accounts: Accounts, ownUid: number): Caller {
  const user = accounts.userName(peer.uid);
  const name = user === null ? `uid ${peer.uid}` : `uid ${peer.uid} (${user})`;
  if (peer.uid === 0 || peer.uid === ownUid)
    return { name, rights: new Set<Right>(["show", "enable", "config"]), isSuperuser: true };
  const groups = new Set([peer.gid, ...peer.groups]);
  const isMember = (group: string): boolean => {
    const id = accounts.groupId(group);
    return id !== null && groups.has(id);
  };
  const rights = new Set<Right>(["show"]);
  if (isMember(CONFIG_GROUP)) rights.add("config");
  if (isMember(ENABLE_GROUP)) rights.add("enable");
  return { name, rights };
}

/** The machine's account files, read anew for each question: edits count at the next connection. */
export function systemAccounts(groupFile = "/etc/group", passwdFile = "/etc/passwd"): Accounts {
  return {
    groupId(name) {
      const row = rows(groupFile).find((fields) => fields[0] === name);
      return row === undefined ? null : numberOrNull(row[2]);
    },
    userName: (uid) => rows(passwdFile).find((fields) => fields[2] === String(uid))?.[0] ?? null,
  };
}

function rows(file: string): string[][] {
  try {
    return readFileSync(file, "utf8")
      .split("\n")
      .map((line) => line.split(":"));
  } catch {
    return [];
  }
}

const numberOrNull = (text: string | undefined): number | null =>
  text !== undefined && /^\d+$/.test(text) ? Number(text) : null;
