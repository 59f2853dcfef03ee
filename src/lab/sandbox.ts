/**
 * A private place for a laboratory: one process tree with its own network, mounts and process numbers, made by
 * `unshare`. Namespaces, links, nft tables and processes made inside cannot be seen outside and end with the tree,
 * also when its starter is killed by SIGKILL, because the kernel takes them down. Without root the same is done inside
 * a user namespace, where the kernel allows that.
 *
 * It does not build networks (lab.ts does), and it gives no protection against hostile code.
 */

/** Set to "1" for everything that runs inside a sandbox. */
export const SANDBOX_VARIABLE = "ILB_SANDBOX";

export type Sandbox =
  | {
      readonly available: true;
      /** The same command, run inside a new sandbox. Standard streams, environment and exit status pass through. */
      wrap(argv: readonly string[]): string[];
    }
  | {
      readonly available: false;
      /** Why not, for a person. */
      readonly reason: string;
    };

/**
 * The first process of the sandbox: a private /run for `ip netns` and sockets, loopback up, then the command. The
 * shell stays, as process 1, to collect orphans; when it ends the kernel kills whatever is left.
 */
const INIT = `mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/netns && ip link set lo up || exit 125
export ${SANDBOX_VARIABLE}=1
"$@"
exit $?`;

/** What `unshare` is asked for. `setpriv` ties the tree to the life of its starter. */
function command(isRoot: boolean, argv: readonly string[]): string[] {
  const unshare = ["unshare", "--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"];
  const identity = isRoot ? [] : ["--user", "--map-root-user"];
  return [
    "setpriv",
    "--pdeathsig",
    "KILL",
    ...unshare,
    ...identity,
    "--mount-proc",
    "sh",
    "-c",
    INIT,
    "ilb-sandbox",
    ...argv,
  ];
}

/** Tries once whether this machine allows a sandbox to this user. Takes some 10 ms. */
export function findSandbox(): Sandbox {
  const isRoot = process.geteuid?.() === 0;
  const attempts: string[] = [];
  // Root in a container may lack CAP_SYS_ADMIN and still be allowed a user namespace.
  for (const asRoot of isRoot ? [true, false] : [false]) {
    const trial = Bun.spawnSync(command(asRoot, ["ip", "netns", "add", "ilb-trial"]), {
      stdout: "ignore",
      stderr: "pipe",
    });
    if (trial.exitCode === 0) return { available: true, wrap: (argv) => command(asRoot, argv) };
    attempts.push(trial.stderr.toString().trim().split("\n")[0] ?? `status ${trial.exitCode}`);
  }
  const reason = `no network namespaces for this user (${attempts.join("; ")})`;
  return { available: false, reason: isRoot ? reason : `${reason}; run as root, or allow user namespaces` };
}
