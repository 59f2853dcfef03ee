import { afterEach, describe, expect, test } from "bun:test";
import { Box, until } from "./box.ts";
import type { BoxSpec } from "./box-protocol.ts";
import { Namespaces, NO_TUN } from "./namespaces.ts";

const PEERS = new URL("./peers.py", import.meta.url).pathname;

/** The box holds 192.0.2.1; the rest of 192.0.2.0/24 lies behind its TUN. */
const LOCAL = "192.0.2.1";
const BEHIND = "192.0.2.9";

describe.skipIf(NO_TUN !== null)(`TUN${NO_TUN ? ` (${NO_TUN})` : ""}`, () => {
  let open: Namespaces | undefined;
  afterEach(async () => {
    await open?.close();
    open = undefined;
  });

  async function start(spec: Partial<BoxSpec> & { queues?: number; name?: string }, ...wrapper: string[]) {
    const namespaces = new Namespaces("box");
    open = namespaces;
    const { queues = 1, name = "ilbtest%d", ...rest } = spec;
    const box = await Box.start(
      namespaces,
      "box",
      { work: "record", ports: [{ kind: "tun", name, queues }], ...rest },
      ...wrapper,
    );
    namespaces.run("box", "ip", "address", "add", `${LOCAL}/24`, "dev", box.ports[0]!);
    namespaces.run("box", "ip", "link", "set", box.ports[0]!, "up");
    return { namespaces, box };
  }

  /** One UDP datagram of `bytes` times x from the box's own stack. */
  const datagrams = (namespaces: Namespaces, bytes: number, count: number) =>
    namespaces.run(
      "box",
      "python3",
      "-c",
      `import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nfor i in range(${count}): s.sendto(b"x" * ${bytes}, ("${BEHIND}", 9000 + i))`,
    );

  test("packets of the kernel arrive as IP frames with their partial checksum", async () => {
    const { namespaces, box } = await start({});
    expect(box.ports).toEqual(["ilbtest0"]);
    datagrams(namespaces, 300, 1);
    const [frame] = await box.frames(1);
    // Version 4, header of five words, 20 + 8 + 300 bytes; the checksum field of UDP is at 20 + 6.
    expect(frame!.hex.slice(0, 8)).toBe("45000148");
    expect(frame!.hex.length).toBe(2 * 328);
    expect(frame!.vnet).toMatchObject({ flags: 1, gsoType: 0, csumStart: 20, csumOffset: 6 });
    await box.stop();
  });

  test("a TCP stream that the loop turns round comes back whole, in super-packets", async () => {
    // Addresses and ports exchanged, the stack meets itself: a simultaneous open (RFC 9293 3.5), then its own bytes.
    const { namespaces, box } = await start({ work: "reflect" });
    const peer = namespaces.start("box", "python3", PEERS, "reflect", LOCAL, BEHIND, "8080", "4000000");
    const [sent, received] = (await peer.line()).split(" ");
    expect(received).toBe(sent!);
    const [counters] = await box.counters();
    expect(counters!.rxBytes / counters!.rxFrames).toBeGreaterThan(4 * 1500);
    expect(counters).toMatchObject({ txFrames: counters!.rxFrames, txRefused: 0, rxErrors: 0, rxTruncated: 0 });
    await box.stop();
  });

  test("what is given back goes to the kernel through the TUN itself", async () => {
    const { namespaces, box } = await start({ work: "pass" });
    // With forwarding on, the kernel routes the datagram into the TUN again and again, a hop less each time.
    namespaces.setting("box", "net/ipv4/ip_forward", "1");
    namespaces.setting("box", "net/ipv4/conf/all/rp_filter", "0");
    namespaces.setting("box", `net/ipv4/conf/${box.ports[0]}/rp_filter`, "0");
    namespaces.setting("box", `net/ipv4/conf/${box.ports[0]}/accept_local`, "1");
    datagrams(namespaces, 100, 1);
    const counters = await until(
      async () => (await box.counters())[0]!,
      (now) => now.passFrames >= 64,
    );
    expect(counters.passErrors).toBe(0);
    await box.stop();
  });

  test("what goes into the TUN has a hop more than what came out, and a right header checksum", async () => {
    const { namespaces, box } = await start({ work: "pass" });
    // Identifications in steps carry the header's sum through its whole range, both its ends included.
    const sent = 65536 / 32;
    namespaces.run("box", "ip", "link", "set", box.ports[0]!, "txqueuelen", String(sent));
    namespaces.run(
      "box",
      "python3",
      "-c",
      `import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
for i in range(${sent}):
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, i * 32 + 1, 0, 64, 17, 0, socket.inet_aton("${LOCAL}"), socket.inet_aton("${BEHIND}"))
    s.sendto(header + struct.pack("!HHHH", 9, 9, 8, 0), ("${BEHIND}", 0))`,
    );
    const counters = await until(
      async () => (await box.counters())[0]!,
      (now) => now.passFrames >= sent,
    );
    expect(counters.passErrors).toBe(0);
    const [names, values] = namespaces
      .run("box", "cat", "/proc/net/netstat")
      .split("\n")
      .filter((line) => line.startsWith("IpExt:"));
    const wrong = values!.split(" ")[names!.split(" ").indexOf("InCsumErrors")];
    expect(wrong).toBe("0");
    await box.stop();
  });

  test("every queue is a port and delivers what the kernel puts into it", async () => {
    const { namespaces, box } = await start({ queues: 2 });
    expect(box.ports).toEqual(["ilbtest0", "ilbtest0"]);
    datagrams(namespaces, 100, 64);
    expect(await box.frames(64)).toHaveLength(64);
    const counters = await box.counters();
    expect(counters.map((port) => port.rxFrames).reduce((a, b) => a + b)).toBe(64);
    expect(counters.every((port) => port.rxFrames > 0)).toBe(true);
    await box.stop();
  });

  test("the interface is gone when its process is", async () => {
    const { namespaces, box } = await start({});
    expect(namespaces.run("box", "ip", "-brief", "link")).toContain("ilbtest0");
    await box.stop();
    expect(namespaces.run("box", "ip", "-brief", "link")).not.toContain("ilbtest0");
  });

  test("a TUN that somebody deletes ends its port, not the loop", async () => {
    const { namespaces, box } = await start({ timeoutUs: 600_000_000 });
    namespaces.run("box", "ip", "link", "del", box.ports[0]!);
    await until(
      async () => (await box.counters())[0]!,
      (counters) => counters.portDead === 1,
    );
    // The dead port wakes nobody: receive comes back for the wake-up only.
    const returns = await box.returns();
    box.wake();
    await until(
      () => box.returns(),
      (now) => now > returns,
    );
    expect(await box.returns()).toBe(returns + 1);
    await box.stop();
  });

  test("creating says what is wrong and what to do", async () => {
    const { namespaces, box } = await start({ name: "ilbtaken" });
    const failing = (name: string, ...wrapper: string[]) =>
      Box.start(namespaces, "box", { ports: [{ kind: "tun", name, queues: 1 }], work: "record" }, ...wrapper);
    await expect(failing("ilbtaken")).rejects.toThrow(
      "cannot create TUN interface ilbtaken: the name is taken; remove the other interface with 'ip link del' or choose another name",
    );
    await expect(
      failing("ilbmine", "setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"),
    ).rejects.toThrow(
      "cannot create TUN interface ilbmine: TUN interfaces need CAP_NET_ADMIN; run as root, or start the container with --cap-add NET_ADMIN,NET_RAW",
    );
    const hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh"];
    await expect(failing("ilbmine", ...hidden)).rejects.toThrow(
      "cannot create TUN interface ilbmine: /dev/net/tun cannot be opened; load the module ('modprobe tun') or start the container with --device /dev/net/tun",
    );
    await box.stop();
  });
});
