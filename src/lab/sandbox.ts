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
 * The first process of the sandbox: mounts of its own, a private /run for `ip netns`, sockets and temporary files,
 * loopback up, then the command. The shell stays, as process 1, to collect orphans; when it ends the kernel kills whatever is left.
 *
 * In a chroot "/" is no mount point, so it can be neither private nor, later, a slave for `ip netns exec`: there the
 * script binds the tree to a place below some mount that it can make private, moves in and begins again.
 */
const INIT = `fail() { echo "sandbox: $*" >&2; exit 125; }
if ! mount --make-rprivate / 2>/dev/null; then
  [ -z "$ILB_SANDBOX_MOVED" ] || fail "mounts cannot be made private"
  for place in /run /dev /sys /proc; do mount --make-rprivate $place 2>/dev/null && break; place=; done
  [ -n "$place" ] && mount -t tmpfs tmpfs $place && mkdir $place/root && mount --rbind / $place/root ||
    fail "no place for a root of its own"
  export ILB_SANDBOX_MOVED="$PWD"
  exec chroot $place/root sh -c 'eval "$ILB_SANDBOX_INIT"' ilb-sandbox "$@"
fi
[ -z "$ILB_SANDBOX_MOVED" ] || cd "$ILB_SANDBOX_MOVED" || fail "cannot enter $ILB_SANDBOX_MOVED"
mount -t proc proc /proc && mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/netns && mkdir -m 1777 /run/tmp &&
  ip link set lo up || fail "cannot be set up"
export TMPDIR=/run/tmp
unset ILB_SANDBOX_INIT ILB_SANDBOX_MOVED
export ${SANDBOX_VARIABLE}=1
"$@"
exit $?`;

/** What `unshare` is asked for. `setpriv` ties the tree to the life of its starter. */
function command(isRoot: boolean, argv: readonly string[]): string[] {
  const tie = ["setpriv", "--pdeathsig", "KILL"];
  const identity = isRoot ? [] : ["--user", "--map-root-user"];
  const unshare = ["unshare", ...identity, "--net", "--mount", "--propagation", "unchanged", "--pid", "--fork"];
  const start = [
    "--kill-child",
    "env",
    `ILB_SANDBOX_INIT=${INIT}`,
    "sh",
    "-c",
    'eval "$ILB_SANDBOX_INIT"',
    "ilb-sandbox",
  ];
  return [...tie, ...unshare, ...start, ...argv];
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
