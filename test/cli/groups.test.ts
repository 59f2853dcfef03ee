/** ILB-021 to 060, 251 to 253 and 261: server groups and servers, through the real program. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Daemon, Place } from "../daemon/daemon.ts";
import { Program, TEXT } from "../support/program.ts";

const cli = new Program();
const cannotAdd = (address: string, text: string, group = "sg1") => `cannot add ${address} to ${group}: ${text}`;
const servers = (count: number): string => Array.from({ length: count }, (_, i) => `192.0.2.${10 + i}`).join(",");

test("ILB-021 create-servergroup makes an empty group", async () => {
  await cli.ok("create-servergroup sg1");
  await cli.shows("show-servergroup", "sg1: id:\n");
});

test("ILB-022 a group that exists, in whatever case, is E-SGEXISTS", async () => {
  await cli.given("create-servergroup sg1");
  await cli.refuses(["create-servergroup sg1", TEXT.SGEXISTS], ["create-servergroup SG1", TEXT.SGEXISTS]);
});

test("ILB-023 group names have at most 14 characters", async () => {
  const name = "abcdefghijklmno";
  await cli.refuses([`create-servergroup ${name}`, `servergroup name ${name} is too long - must not exceed 14 chars`]);
  await cli.ok(`create-servergroup ${name.slice(1)}`);
});

test("ILB-024 several servers of one command are numbered in its order", async () => {
  await cli.ok("create-sg -s server=192.0.2.10,192.0.2.11 sg1");
  await cli.shows("show-sg", "sg1: id:_sg1.0 192.0.2.10\nsg1: id:_sg1.1 192.0.2.11\n");
});

test("ILB-025 `servers` is accepted like `server`", async () => {
  await cli.ok("create-sg -s servers=192.0.2.10 sg1", "add-server -s servers=192.0.2.11 sg1");
  await cli.ok("remove-server -s servers=_sg1.0 sg1");
  await cli.shows("show-sg", "sg1: id:_sg1.1 192.0.2.11\n");
});

test("ILB-026 a range of addresses with a port makes ascending servers", async () => {
  await cli.ok("create-sg -s server=192.0.2.10-192.0.2.14:8080 sg1");
  const lines = [0, 1, 2, 3, 4].map((n) => `sg1: id:_sg1.${n} 192.0.2.${10 + n}:8080\n`);
  await cli.shows("show-sg", lines.join(""));
});

test("ILB-027 a range spans at most 256 addresses", async () => {
  await cli.ok("create-sg -s server=192.0.2.0-192.0.2.255 sg1");
  expect((await cli.prepared(["show-sg"])).trimEnd().split("\n")).toHaveLength(256);
  const tooLong = "server: address range contains more than 255 IP addresses";
  await cli.refuses(["create-sg -s server=192.0.2.0-192.0.3.0 sg2", tooLong]);
});

test("ILB-028 ILB-029 a range that runs backwards or mixes families is refused", async () => {
  await cli.given("create-servergroup sg1");
  await cli.refuses(
    [
      "add-server -s server=192.0.2.11-192.0.2.10 sg1",
      "starting IP address must be less than ending ip address in ip range specification",
    ],
    [
      "add-server -s server=[2001:db8::2]-[2001:db8::1] sg1",
      "starting IP address must be less than ending ip address in ip range specification",
    ],
  );
});

test("ILB-029 the ends of a range are of one family", async () => {
  await cli.given("create-servergroup sg1");
  await cli.refuses(["add-server -s server=192.0.2.1-[2001:db8::1] sg1", "IP address mismatch"]);
});

test("ILB-030 an IPv6 range with a port adds every address", async () => {
  await cli.ok("create-sg -s server=[2001:db8::1]-[2001:db8::3]:80 sg1");
  const lines = [1, 2, 3].map((n) => `sg1: id:_sg1.${n - 1} [2001:db8::${n}]:80\n`);
  await cli.shows("show-sg", lines.join(""));
});

test("ILB-031 IPv6 servers need brackets", async () => {
  await cli.refuses(
    ["create-sg -s server=2001:db8::1 sg1", `server: ${TEXT.SYNTAX}`],
    ["create-sg -s server=[2001:db8::1 sg1", `server: ${TEXT.SYNTAX}`],
    ["create-sg -s server=[192.0.2.1] sg1", "server: address family is invalid"],
    ["create-sg -s server=[web] sg1", "server: address is invalid"],
  );
});

test("ILB-032 a service name becomes its number, shown and exported", async () => {
  await cli.ok("create-sg -s server=192.0.2.10:http sg1");
  await cli.shows("show-sg", "sg1: id:_sg1.0 192.0.2.10:80\n");
  expect(await cli.config()).toBe("create-servergroup sg1\nadd-server -s server=192.0.2.10:80 sg1\n");
});

test("ILB-033 bad port numbers are named", async () => {
  await cli.refuses(
    ["create-sg -s server=192.0.2.10:0 sg1", "invalid port value 0 specified"],
    ["create-sg -s server=192.0.2.10:65536 sg1", "invalid port value 65536 specified"],
    ["create-sg -s server=192.0.2.10:90-80 sg1", "invalid port value 80 specified"],
    ["create-sg -s server=192.0.2.10:80-80 sg1", "invalid port value 80 specified"],
  );
});

test("ILB-034 a range needs numbers at both ends", async () => {
  await cli.refuses(["create-sg -s server=192.0.2.10:http-8080 sg1", "ranges are only allowed for numeric ports"]);
});

describe("names that the daemon looks up in its own files", () => {
  let place: Place;
  let daemon: Daemon;
  beforeAll(async () => {
    place = new Place();
    // A copy of /etc is what the daemon sees: a file that is not there could not be mounted over without making it.
    const etc = join(place.directory, "etc");
    const copied = Bun.spawnSync(["cp", "-a", "/etc", etc]);
    expect(copied.exitCode, copied.stderr.toString()).toBe(0);
    const file = (name: string, text: string): void => {
      rmSync(join(etc, name), { force: true });
      writeFileSync(join(etc, name), text);
    };
    file("hosts", "127.0.0.1 localhost\n192.0.2.20 web-1\n");
    file("services", "split 7001/udp\nsplit 7002/tcp\n");
    file("nsswitch.conf", "hosts: files\n");
    daemon = await Daemon.startUnder(
      ["unshare", "-m", "sh", "-ec", `mount --bind ${etc} /etc; exec "$@"`, "sh"],
      place,
    );
  });
  afterAll(async () => {
    await daemon.stop("SIGKILL");
    place.remove();
  });

  test("ILB-035 a host name, also one with a hyphen, is resolved by the daemon, once", async () => {
    await place.must("create-servergroup -s server=web-1:80 named");
    expect(await place.must("show-servergroup named")).toBe("named: id:_named.0 192.0.2.20:80\n");
    expect((await place.ilbadm("add-server -s server=no-such-host.invalid named")).stderr).toBe(
      "ilbadm: server: address is invalid\n",
    );
  });

  test("ILB-234 without an entry in the services file the built-in names hold", async () => {
    await place.must("create-servergroup sg1");
    const ports = { telnet: 23, dns: 53, ftp: 21, "ftp-data": 20, http: 80 };
    for (const [name, port] of Object.entries(ports)) {
      await place.must(`create-rule -i vip=198.51.100.10,port=${name} -m type=DSR -o servergroup=sg1 ${name}`);
      expect(await place.must(`show-rule -p -o port ${name}`)).toBe(`${port}\n`);
    }
  });

  test("ILB-236 a name that means two ports gives that of the rule's protocol", async () => {
    await place.must("create-servergroup sg2");
    await place.must("create-rule -i vip=198.51.100.11,port=split,protocol=udp -m type=DSR -o servergroup=sg2 u");
    await place.must("create-rule -i port=split,vip=198.51.100.11 -m type=DSR -o servergroup=sg2 t");
    expect(await place.must("show-rule -p -o port u t")).toBe("7001\n7002\n");
  });
});

test("ILB-036 an address that is in the group is E-EEXIST, whatever its port", async () => {
  await cli.given("create-servergroup -s server=192.0.2.10:80 sg1");
  await cli.refuses(["add-server -s server=192.0.2.10:81 sg1", cannotAdd("192.0.2.10", TEXT.EEXIST)]);
});

test("ILB-037 ILB-038 families do not mix in a group, nor with its rules", async () => {
  await cli.given(
    "create-servergroup -s server=192.0.2.10 sg1",
    "create-servergroup sg6",
    "create-rule -i vip=2001:db8:1::1,port=80 -m type=DSR -o servergroup=sg6 r6",
  );
  await cli.refuses(
    ["add-server -s server=[2001:db8::1] sg1", cannotAdd("2001:db8::1", TEXT.MISMATCHH)],
    ["add-server -s server=192.0.2.10 sg6", cannotAdd("192.0.2.10", TEXT.MISMATCHH, "sg6")],
  );
});

test("ILB-038 an empty group has the family of the rule that uses it", async () => {
  await cli.given(
    "create-servergroup sg1",
    "create-rule -i vip=2001:db8:1::1,port=80 -m type=DSR -o servergroup=sg1 r6",
  );
  await cli.refuses(["add-server -s server=192.0.2.10 sg1", cannotAdd("192.0.2.10", TEXT.MISMATCHH)]);
});

test("ILB-039 create-servergroup with a bad server leaves no group", async () => {
  await cli.refuses(["create-sg -s server=192.0.2.10,[2001:db8::1] sg1", cannotAdd("2001:db8::1", TEXT.MISMATCHH)]);
});

test("ILB-040 add-server goes on after a server that fails", async () => {
  await cli.given("create-servergroup -s server=192.0.2.10 sg1");
  await cli.fails("add-server -s server=192.0.2.10,192.0.2.11 sg1", cannotAdd("192.0.2.10", TEXT.EEXIST));
  await cli.shows("show-sg", "sg1: id:_sg1.0 192.0.2.10\nsg1: id:_sg1.1 192.0.2.11\n");
});

test("ILB-041 the last number is reused at once", async () => {
  await cli.given(`create-servergroup -s server=${servers(3)} sg1`);
  await cli.ok("remove-server -s server=_sg1.2 sg1", "add-server -s server=192.0.2.20 sg1");
  await cli.shows("show-sg -p -o serverid", "_sg1.0\n_sg1.1\n_sg1.2\n");
});

test("ILB-042 a lower number waits for its turn", async () => {
  await cli.given(`create-servergroup -s server=${servers(3)} sg1`);
  await cli.ok("remove-server -s server=_sg1.0 sg1", "add-server -s server=192.0.2.20 sg1");
  await cli.shows("show-sg -p -o serverid", "_sg1.1\n_sg1.2\n_sg1.3\n");
});

test("ILB-043 a failed add loses no number", async () => {
  await cli.given(`create-servergroup -s server=${servers(2)} sg1`);
  await cli.fails("add-server -s server=192.0.2.10 sg1", cannotAdd("192.0.2.10", TEXT.EEXIST));
  await cli.ok("add-server -s server=192.0.2.20 sg1");
  await cli.shows("show-sg -p -o serverid", "_sg1.0\n_sg1.1\n_sg1.2\n");
});

test("ILB-045 a thousand servers fill a group", async () => {
  const ranges = [0, 1, 2].map((n) => `add-server -s server=10.0.${n}.0-10.0.${n}.255 sg1`);
  await cli.given("create-servergroup sg1", ...ranges, "add-server -s server=10.0.3.0-10.0.3.231 sg1");
  await cli.refuses(["add-server -s server=10.9.9.9 sg1", cannotAdd("10.9.9.9", TEXT.SGFULL)]);
});

test("ILB-046 every server keeps its ID over a restart, and so does the next number", async () => {
  await cli.given(
    `create-servergroup -s server=${servers(3)} sg1`,
    "remove-server -s server=_sg1.0 sg1",
    "add-server -s server=192.0.2.20 sg1",
  );
  await cli.daemon.stop();
  cli.daemon = await Daemon.start(cli.place);
  await cli.shows("show-sg -p -o serverid", "_sg1.1\n_sg1.2\n_sg1.3\n");
  await cli.ok("add-server -s server=192.0.2.21 sg1");
  await cli.shows("show-sg -p -o serverid", "_sg1.1\n_sg1.2\n_sg1.3\n_sg1.4\n");
});

const USED = [
  "create-servergroup -s server=192.0.2.10,192.0.2.11 sg1",
  "create-rule -e -i vip=198.51.100.10,port=80 -m type=DSR -o servergroup=sg1 r1",
  "create-rule -e -i vip=198.51.100.10,port=81 -m type=DSR -o servergroup=sg1 r2",
];

test("ILB-047 a server that is added is enabled in every rule of its group", async () => {
  await cli.given(...USED);
  await cli.ok("add-server -s server=192.0.2.12 sg1");
  expect((await cli.prepared(["show-server", "-p", "-o", "address,rulename,status"])).split("\n")).toEqual(
    expect.arrayContaining(["192.0.2.12:r1:E", "192.0.2.12:r2:E"]),
  );
});

test("ILB-048 add-server -e is accepted and ignored", async () => {
  await cli.given("create-servergroup sg1");
  await cli.ok("add-server -e -s server=192.0.2.10 sg1");
  await cli.shows("show-sg", "sg1: id:_sg1.0 192.0.2.10\n");
});

test("ILB-049 an unknown group is named in the failure of each server", async () => {
  await cli.refuses(["add-server -s server=192.0.2.10 nosuch", cannotAdd("192.0.2.10", TEXT.ENOENT, "nosuch")]);
});

test("ILB-050 a server ID begins with an underscore", async () => {
  await cli.given(...USED);
  await cli.refuses(
    ["remove-server -s server=192.0.2.10 sg1", "server: server ID is invalid"],
    ["remove-server -s server=_sg1.0,192.0.2.11 sg1", "192.0.2.11: server ID is invalid"],
    ["disable-server 192.0.2.10", "server ID is invalid"],
    ["enable-server 192.0.2.10", "server ID is invalid"],
  );
});

test("ILB-051 removing a server that is not there", async () => {
  await cli.given(...USED);
  await cli.refuses(
    ["remove-server -s server=_sg1.9 sg1", `cannot remove _sg1.9 from sg1: ${TEXT.SRVUNAVAIL}`],
    ["remove-server -s server=_x.0 nosuch", `cannot remove _x.0 from nosuch: ${TEXT.SGUNAVAIL}`],
  );
});

test("ILB-052 remove-server needs -s and a group", async () => {
  await cli.given(...USED);
  await cli.refuses(["remove-server sg1", TEXT.NOOPT], ["remove-server -s server=_sg1.0", TEXT.NOOPT]);
});

test("ILB-053 a group that a rule uses stays, though the rule is disabled", async () => {
  await cli.given(...USED);
  await cli.refuses(["delete-servergroup sg1", TEXT.SGINUSE]);
  await cli.ok("disable-rule");
  await cli.refuses(["delete-servergroup SG1", TEXT.SGINUSE]);
});

test("ILB-054 a group that no rule uses goes with its servers", async () => {
  await cli.given("create-servergroup -s server=192.0.2.10 sg1");
  await cli.ok("delete-servergroup SG1");
  await cli.shows("show-sg", "");
});

test("ILB-055 delete-servergroup takes exactly one name", async () => {
  await cli.given("create-servergroup sg1", "create-servergroup sg2");
  await cli.refuses(
    ["delete-servergroup", "usage: ilbadm delete-servergroup NAME"],
    ["delete-servergroup sg1 sg2", "usage: ilbadm delete-servergroup NAME"],
  );
});

test("ILB-056 a disabled server shows D in every rule", async () => {
  await cli.given(...USED);
  await cli.ok("disable-server _sg1.0");
  await cli.shows("show-server -p -o serverid,rulename,status", "_sg1.0:r1:D\n_sg1.1:r1:E\n_sg1.0:r2:D\n_sg1.1:r2:E\n");
});

test("ILB-057 a disabled server is disabled after a restart", async () => {
  await cli.given(...USED, "disable-server _sg1.1");
  await cli.daemon.stop("SIGKILL");
  cli.daemon = await Daemon.start(cli.place);
  await cli.shows("show-server -p -o serverid,status r1", "_sg1.0:E\n_sg1.1:D\n");
});

test("ILB-058 an unknown server ID is reported and the others are done", async () => {
  await cli.given(...USED);
  await cli.fails("disable-server _x.1 _sg1.0", `${TEXT.ENOENT}: _x.1`);
  await cli.shows("show-server -p -o serverid,status r1", "_sg1.0:D\n_sg1.1:E\n");
});

test("ILB-059 servers of a group without a rule cannot be switched", async () => {
  await cli.given("create-servergroup -s server=192.0.2.10 sg1");
  await cli.refuses(["enable-server _sg1.0", TEXT.ENBSRVR], ["disable-server _sg1.0", TEXT.ENBSRVR]);
});

test("ILB-060 enabling the enabled and disabling the disabled succeed without effect", async () => {
  await cli.given(...USED);
  await cli.ok("enable-server _sg1.0", "disable-server _sg1.1", "disable-server _sg1.1");
  await cli.shows("show-server -p -o status r1", "E\nD\n");
});

test("ILB-251 a group that an IPv4 rule uses takes no IPv6 rule, though it is empty", async () => {
  await cli.given(
    "create-servergroup sg1",
    "create-rule -i vip=198.51.100.10,port=80 -m type=DSR -o servergroup=sg1 r1",
  );
  await cli.refuses(["create-rule -i vip=2001:db8::1,port=80 -m type=DSR -o servergroup=sg1 r6", TEXT.MISMATCHSG]);
});

test("ILB-252 addresses that no server has", async () => {
  await cli.given("create-servergroup sg1", "create-servergroup sg6");
  await cli.refuses(
    ...["0.0.0.0", "224.0.0.1", "255.255.255.255"].map(
      (address) => [`add-server -s server=${address} sg1`, cannotAdd(address, TEXT.EINVAL)] as const,
    ),
    ...["::", "ff02::1"].map(
      (address) => [`add-server -s server=[${address}] sg6`, cannotAdd(address, TEXT.EINVAL, "sg6")] as const,
    ),
  );
  await cli.ok("add-server -s server=127.0.0.2 sg1");
});

test("ILB-253 a server given twice fails the second time", async () => {
  await cli.given("create-servergroup sg1");
  await cli.fails("add-server -s server=192.0.2.10,192.0.2.10 sg1", cannotAdd("192.0.2.10", TEXT.EEXIST));
  await cli.shows("show-sg sg1", "sg1: id:_sg1.0 192.0.2.10\n");
  await cli.refuses(["create-sg -s server=192.0.2.10,192.0.2.10 sg2", cannotAdd("192.0.2.10", TEXT.EEXIST, "sg2")]);
});

test("ILB-261 an ID without a dot is E-EINVAL and ends the row; so does an address", async () => {
  await cli.given(...USED);
  await cli.refuses(["disable-server _nodot _sg1.0", TEXT.EINVAL]);
  await cli.fails("disable-server _sg1.0 192.0.2.10 _sg1.1", "server ID is invalid");
  await cli.shows("show-server -p -o serverid,status r1", "_sg1.0:D\n_sg1.1:E\n");
});

test("missing operands of create-servergroup, add-server and the switches", async () => {
  const mandatory = (name: string) =>
    `missing mandatory arguments - please refer to '${name}' subcommand description in ilbadm(8)`;
  await cli.refuses(
    ["create-sg", mandatory("create-servergroup")],
    ["add-srv -s server=192.0.2.1", mandatory("add-server")],
    ["add-srv sg1", mandatory("add-server")],
    ["enable-srv", "missing required argument (server specification)"],
    ["disable-srv", "missing required argument (server specification)"],
  );
});
