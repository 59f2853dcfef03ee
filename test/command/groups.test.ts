/** Server groups and servers: HOSTSPEC, numbers, families, adding, removing, switching. */
import { describe, expect, test } from "bun:test";
import { formatAddress } from "../../src/model/address.ts";
import { serverId } from "../../src/model/lookup.ts";
import { errorOf, FakeHost, ilbadm, outputOf, setUp } from "../support/fake-host.ts";

/** `ID ADDRESS[:PORTS]` of every server of a group, in the order in which they were added. */
function servers(host: FakeHost, index = 0): string[] {
  const group = host.config().groups[index];
  if (group === undefined) return [];
  return group.servers.map((server) => {
    const { ports } = server;
    const suffix = ports === null ? "" : ports.min === ports.max ? `:${ports.min}` : `:${ports.min}-${ports.max}`;
    return `${serverId(group, server)} ${formatAddress(server.address)}${suffix}`;
  });
}

async function hostWith(...lines: string[]): Promise<FakeHost> {
  const host = new FakeHost();
  await setUp(host, ...lines);
  return host;
}

/** What adding one server specification to a new group says. */
const adding = (specification: string) =>
  errorOf(new FakeHost(), ["create-sg", "-s", `server=${specification}`, "sg1"]);

test("ILB-021 a group is created empty", async () => {
  expect((await hostWith("create-servergroup sg1")).config().groups).toMatchObject([{ name: "sg1", servers: [] }]);
});

test("ILB-022 a group exists once, whatever the case", async () => {
  const host = await hostWith("create-sg sg1");
  expect(await errorOf(host, "create-sg sg1")).toBe("ilbadm: servergroup already exists\n");
  expect(await errorOf(host, "create-sg SG1")).toBe("ilbadm: servergroup already exists\n");
});

test("ILB-023 a group's name has at most 14 characters", async () => {
  const long = "a23456789012345";
  expect(await errorOf(new FakeHost(), ["create-sg", long])).toBe(
    `ilbadm: servergroup name ${long} is too long - must not exceed 14 chars\n`,
  );
  await hostWith(`create-sg ${long.slice(1).replace("2", "b")}`);
});

test("ILB-024 servers are numbered in the order of the command line", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10,192.0.2.11 sg1");
  expect(servers(host)).toEqual(["_sg1.0 192.0.2.10", "_sg1.1 192.0.2.11"]);
});

test("ILB-025 servers= is server=", async () => {
  expect(servers(await hostWith("create-sg -s servers=192.0.2.10 sg1"))).toEqual(["_sg1.0 192.0.2.10"]);
});

test("ILB-026 an address range makes one server per address", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10-192.0.2.14:8080 sg1");
  expect(servers(host)).toEqual([10, 11, 12, 13, 14].map((last, n) => `_sg1.${n} 192.0.2.${last}:8080`));
});

test("ILB-027 a range holds at most 256 addresses", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.0-192.0.2.255 sg1");
  expect(servers(host).length).toBe(256);
  expect(await adding("192.0.2.0-192.0.3.0")).toBe(
    "ilbadm: server: address range contains more than 255 IP addresses\n",
  );
});

test("ILB-028 a range that begins above its end is refused, one of equal ends is one server", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.9-192.0.2.9 sg1");
  const text = "ilbadm: starting IP address must be less than ending ip address in ip range specification\n";
  expect(await errorOf(host, "add-server -s server=192.0.2.14-192.0.2.10 sg1")).toBe(text);
  expect(servers(host)).toEqual(["_sg1.0 192.0.2.9"]);
});

test.each([
  "192.0.2.1-[2001:db8::1]",
  "192.0.2.1-2001:db8::1",
  "[2001:db8::1]-192.0.2.1",
  "[2001:db8::1]-192.0.2.1:80",
])("ILB-029 a range of two families is refused: %s", async (range) => {
  expect(await adding(range)).toBe("ilbadm: IP address mismatch\n");
});

test("ILB-030 an IPv6 range with a port is expanded", async () => {
  const host = await hostWith("create-sg -s server=[2001:db8::1]-[2001:db8::3]:80 sg1");
  expect(servers(host)).toEqual([1, 2, 3].map((last, n) => `_sg1.${n} 2001:db8::${last}:80`));
});

test.each([
  ["2001:db8::1", "server: syntax failure - refer to ilbadm(8)"],
  ["2001:db8::1-2001:db8::4", "server: syntax failure - refer to ilbadm(8)"],
  ["[2001:db8::1", "server: syntax failure - refer to ilbadm(8)"],
  ["[2001:db8::1]80", "server: syntax failure - refer to ilbadm(8)"],
  ["[2001:db8::1]-2001:db8::4", "server: syntax failure - refer to ilbadm(8)"],
  ["[web]", "server: address is invalid"],
  ["[192.0.2.1]", "server: address family is invalid"],
  ["192.0.2.300", "server: address is invalid"],
  ["192.0.2", "server: address is invalid"],
  ["0x7f000001", "server: address is invalid"],
])("ILB-031 %s is no server", async (specification, text) => {
  const host = new FakeHost();
  expect(await errorOf(host, ["create-sg", "-s", `server=${specification}`, "sg1"])).toBe(`ilbadm: ${text}\n`);
  expect(host.looked).toEqual([]);
});

test("ILB-031 a bad element later in the list is named itself", async () => {
  expect(await adding("192.0.2.1,2001:db8::1")).toBe("ilbadm: 2001:db8::1: syntax failure - refer to ilbadm(8)\n");
  expect(await adding("192.0.2.1,server=192.0.2.2")).toBe("ilbadm: server=192.0.2.2: address is invalid\n");
});

test("ILB-032 a service name is stored as a number", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10:http sg1");
  expect(await outputOf(host, "export-config")).toBe(
    "create-servergroup sg1\nadd-server -s server=192.0.2.10:80 sg1\n",
  );
});

test.each([
  ["0", "0"],
  ["65536", "65536"],
  ["90-80", "80"],
  ["80-80", "80"],
  ["0-5", "0"],
  ["80-65536", "65536"],
  ["80abc", "80abc"],
  ["+80", "+80"],
])("ILB-033 :%s is no port", async (port, fault) => {
  expect(await adding(`192.0.2.10:${port}`)).toBe(`ilbadm: invalid port value ${fault} specified\n`);
});

test("ILB-034 a range with a name is no range", async () => {
  expect(await adding("192.0.2.10:http-8080")).toBe("ilbadm: ranges are only allowed for numeric ports\n");
});

test("ILB-035 a host name is resolved once and not remembered, hyphens included", async () => {
  const host = new FakeHost();
  host.hosts.set("web-1", "192.0.2.20");
  await setUp(host, "create-sg -s server=web-1:80 sg1");
  expect(servers(host)).toEqual(["_sg1.0 192.0.2.20:80"]);
  expect(host.looked).toEqual(["web-1"]);
  expect(await errorOf(host, "add-server -s server=web-2 sg1")).toBe("ilbadm: server: address is invalid\n");
});

test("ILB-036 an address is in a group once, whatever its ports", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10:80 sg1");
  expect(await errorOf(host, "add-server -s server=192.0.2.10:81 sg1")).toBe(
    "ilbadm: cannot add 192.0.2.10 to sg1: object already exists\n",
  );
});

const MISMATCH = "address family mismatch with previous hosts in servergroup or with rule\n";

test("ILB-037 families do not mix in a group", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10 sg1");
  expect(await errorOf(host, "add-server -s server=[2001:db8::1] sg1")).toBe(
    `ilbadm: cannot add 2001:db8::1 to sg1: ${MISMATCH}`,
  );
});

test("ILB-038 a rule decides the family of its empty group", async () => {
  const host = await hostWith("create-sg sg1", "create-rule -i vip=2001:db8::1,port=80 -m type=d -o sg=sg1 r1");
  expect(await errorOf(host, "add-server -s server=192.0.2.10 sg1")).toBe(
    `ilbadm: cannot add 192.0.2.10 to sg1: ${MISMATCH}`,
  );
});

test("ILB-039 a group is not created when one of its servers is refused", async () => {
  const host = new FakeHost();
  expect(await errorOf(host, "create-sg -s server=192.0.2.10,224.0.0.1 sg1")).toBe(
    "ilbadm: cannot add 224.0.0.1 to sg1: invalid argument(s) - see man page\n",
  );
  expect(host.config().groups).toEqual([]);
});

test("ILB-040 the good servers of add-server are added beside a bad one", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10 sg1");
  expect(await errorOf(host, "add-server -s server=192.0.2.10,192.0.2.11 sg1")).toBe(
    "ilbadm: cannot add 192.0.2.10 to sg1: object already exists\n",
  );
  expect(servers(host)).toEqual(["_sg1.0 192.0.2.10", "_sg1.1 192.0.2.11"]);
});

describe("server numbers", () => {
  const three = () => hostWith("create-sg -s server=192.0.2.10-192.0.2.12 sg1");

  test("ILB-041 the last number is taken again when it is free", async () => {
    const host = await three();
    await setUp(host, "remove-server -s server=_sg1.2 sg1", "add-server -s server=192.0.2.13 sg1");
    expect(servers(host).at(-1)).toBe("_sg1.2 192.0.2.13");
  });

  test("ILB-042 a lower number is not", async () => {
    const host = await three();
    await setUp(host, "remove-server -s server=_sg1.0 sg1", "add-server -s server=192.0.2.13 sg1");
    expect(servers(host).at(-1)).toBe("_sg1.3 192.0.2.13");
  });

  test("ILB-043 a failed addition costs no number", async () => {
    const host = await three();
    await errorOf(host, "add-server -s server=192.0.2.10 sg1");
    await setUp(host, "add-server -s server=192.0.2.13 sg1");
    expect(servers(host).at(-1)).toBe("_sg1.3 192.0.2.13");
  });

  test("ILB-044 a number that drains is not given out", async () => {
    const host = await three();
    await setUp(host, "remove-server -s server=_sg1.2 sg1");
    host.draining.set(host.config().groups[0]!.id, new Set([2]));
    await setUp(host, "add-server -s server=192.0.2.13 sg1");
    expect(servers(host).at(-1)).toBe("_sg1.3 192.0.2.13");
  });

  test("ILB-045 a group holds at most 1000 servers, those that drain included", async () => {
    const range = (third: number) => `198.51.${third}.0-198.51.${third}.249`;
    const host = await hostWith(`create-sg -s server=${[0, 1, 2, 3].map(range).join(",")} sg1`);
    const full = "servergroup is full - cannot add any more servers to this servergroup\n";
    const add = "add-server -s server=192.0.2.10 sg1";
    expect(await errorOf(host, add)).toBe(`ilbadm: cannot add 192.0.2.10 to sg1: ${full}`);
    await setUp(host, "remove-server -s server=_sg1.7 sg1");
    host.draining.set(host.config().groups[0]!.id, new Set([7]));
    expect(await errorOf(host, add)).toBe(`ilbadm: cannot add 192.0.2.10 to sg1: ${full}`);
    host.draining.clear();
    await setUp(host, add);
    expect(servers(host).at(-1)).toBe("_sg1.7 192.0.2.10");
  });
});

test("ILB-047 an added server is enabled and shows in every rule of the group", async () => {
  const host = await hostWith(
    "create-sg sg1",
    "create-rule -i vip=198.51.100.1,port=80 -m type=d -o sg=sg1 r1",
    "create-rule -i vip=198.51.100.2,port=80 -m type=d -o sg=sg1 r2",
    "add-server -s server=192.0.2.10 sg1",
  );
  expect(await outputOf(host, "show-server -p -o serverid,rulename,status")).toBe("_sg1.0:r1:E\n_sg1.0:r2:E\n");
});

test("ILB-048 add-server -e is accepted and ignored", async () => {
  const host = await hostWith("create-sg sg1", "add-server -e -s server=192.0.2.10 sg1");
  expect(servers(host)).toEqual(["_sg1.0 192.0.2.10"]);
});

test("ILB-049 adding to an unknown group fails per server", async () => {
  expect(await errorOf(new FakeHost(), "add-server -s server=192.0.2.10 nosuch")).toBe(
    "ilbadm: cannot add 192.0.2.10 to nosuch: no such/no more element(s)\n",
  );
});

test("ILB-050 only server IDs are removed and switched", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10 sg1");
  expect(await errorOf(host, "remove-server -s server=192.0.2.10 sg1")).toBe("ilbadm: server: server ID is invalid\n");
  expect(await errorOf(host, "remove-server -s server=_sg1.0,x sg1")).toBe("ilbadm: x: server ID is invalid\n");
  expect(await errorOf(host, "disable-server 192.0.2.10")).toBe("ilbadm: server ID is invalid\n");
  expect(servers(host)).toEqual(["_sg1.0 192.0.2.10"]);
});

test("ILB-051 removing an unknown server fails, the others go", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10,192.0.2.11 sg1");
  expect(await errorOf(host, "remove-server -s server=_sg1.9,_sg1.0 sg1")).toBe(
    "ilbadm: cannot remove _sg1.9 from sg1: cannot find specified server\n",
  );
  expect(servers(host)).toEqual(["_sg1.1 192.0.2.11"]);
  expect(await errorOf(host, "remove-server -s server=_x.0 x")).toBe(
    "ilbadm: cannot remove _x.0 from x: cannot find specified server group\n",
  );
});

test("ILB-052 remove-server needs -s and a group", async () => {
  const text = "ilbadm: mandatory argument(s) missing - refer to ilbadm(8)\n";
  for (const line of ["remove-server sg1", "remove-server -s server=_sg1.0", "remove-server"]) {
    expect(await errorOf(new FakeHost(), line)).toBe(text);
  }
});

test("create-servergroup and add-server name themselves when something mandatory is missing", async () => {
  const text = (name: string) =>
    `ilbadm: missing mandatory arguments - please refer to '${name}' subcommand description in ilbadm(8)\n`;
  expect(await errorOf(new FakeHost(), "create-sg")).toBe(text("create-servergroup"));
  expect(await errorOf(new FakeHost(), "add-srv sg1")).toBe(text("add-server"));
  expect(await errorOf(new FakeHost(), "add-srv -s server=192.0.2.1")).toBe(text("add-server"));
});

test("ILB-053 a group that a rule uses is not deleted", async () => {
  const host = await hostWith("create-sg sg1", "create-rule -i vip=198.51.100.1,port=80 -m type=d -o sg=sg1 r1");
  expect(await errorOf(host, "delete-sg sg1")).toBe(
    "ilbadm: cannot remove server group - its in use with other active rules\n",
  );
});

test("ILB-054 an unused group goes with its servers", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10 sg1", "delete-servergroup SG1");
  expect(host.config().groups).toEqual([]);
  expect(await errorOf(host, "delete-servergroup sg1")).toBe("ilbadm: cannot find specified server group\n");
});

test("ILB-055 delete-servergroup takes exactly one name", async () => {
  const host = await hostWith("create-sg a", "create-sg b");
  for (const line of ["delete-sg", "delete-sg a b"]) {
    expect(await errorOf(host, line)).toStartWith("ilbadm: usage: ilbadm delete-servergroup");
  }
  expect(host.config().groups.length).toBe(2);
});

const TWO_RULES = [
  "create-sg -s server=192.0.2.10,192.0.2.11 sg1",
  "create-rule -e -i vip=198.51.100.1,port=80 -m type=d -o sg=sg1 r1",
  "create-rule -e -i vip=198.51.100.2,port=80 -m type=d -o sg=sg1 r2",
];

test("ILB-056 a disabled server shows D in both rules", async () => {
  const host = await hostWith(...TWO_RULES, "disable-server _sg1.0");
  expect(await outputOf(host, "show-server -p -o serverid,status")).toBe("_sg1.0:D\n_sg1.1:E\n_sg1.0:D\n_sg1.1:E\n");
});

test("ILB-058 an unknown ID is reported and the others are switched", async () => {
  const host = await hostWith(...TWO_RULES);
  expect(await errorOf(host, "disable-server _x.1 _sg1.0")).toBe("ilbadm: no such/no more element(s): _x.1\n");
  expect(host.config().groups[0]?.servers.map((server) => server.enabled)).toEqual([false, true]);
});

test("ILB-059 servers of a group without rules are not switched", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10 sg1");
  for (const verb of ["enable-server", "disable-server"]) {
    expect(await errorOf(host, `${verb} _sg1.0`)).toBe(
      "ilbadm: server cannot be enabled because it's not associated with any rule\n",
    );
  }
});

test("ILB-060 enabling an enabled server changes nothing", async () => {
  const host = await hostWith(...TWO_RULES);
  const before = host.config();
  await setUp(host, "enable-server _sg1.0");
  expect(host.config()).toBe(before);
});

test("switching needs an ID", async () => {
  expect(await errorOf(new FakeHost(), "enable-srv")).toBe(
    "ilbadm: missing required argument (server specification)\n",
  );
});

test("ILB-229 names are matched in any case and printed as stored", async () => {
  const host = await hostWith(
    "create-sg -s server=192.0.2.10 Web",
    "create-rule -i vip=198.51.100.1,port=80 -m type=d -o sg=WEB r1",
    "disable-server _WEB.0",
  );
  expect(await outputOf(host, "show-server -p -o serverid,status,servergroup")).toBe("_Web.0:D:Web\n");
  expect(await outputOf(host, "show-stats -s _web.0 -i -p -o servername,pkt_p")).toBe("_Web.0:0\n");
  expect(await errorOf(host, "add-srv -s server=192.0.2.10 WEB")).toBe(
    "ilbadm: cannot add 192.0.2.10 to Web: object already exists\n",
  );
});

test("ILB-235 hyphenated service names and unknown ones", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10:ftp-data sg1");
  expect(servers(host)).toEqual(["_sg1.0 192.0.2.10:20"]);
  expect(await adding("192.0.2.10:nosuch")).toBe("ilbadm: invalid port value nosuch specified\n");
  expect(await adding("192.0.2.10:no-such")).toBe("ilbadm: invalid port value no-such specified\n");
});

test.each(["0.0.0.0", "224.0.0.1", "255.255.255.255", "[::]", "[ff02::1]"])(
  "ILB-252 %s is no server",
  async (server) => {
    const address = server.replace(/[[\]]/g, "");
    const host = await hostWith("create-sg sg1");
    expect(await errorOf(host, ["add-server", "-s", `server=${server}`, "sg1"])).toBe(
      `ilbadm: cannot add ${address} to sg1: invalid argument(s) - see man page\n`,
    );
  },
);

test("ILB-252 loopback is a server", async () => {
  expect(servers(await hostWith("create-sg -s server=127.0.0.2 sg1"))).toEqual(["_sg1.0 127.0.0.2"]);
});

test("ILB-253 a server given twice is added once, and not at all with a new group", async () => {
  const host = await hostWith("create-sg sg1");
  const text = (group: string) => `ilbadm: cannot add 192.0.2.10 to ${group}: object already exists\n`;
  expect(await errorOf(host, "add-server -s server=192.0.2.10,192.0.2.10 sg1")).toBe(text("sg1"));
  expect(servers(host)).toEqual(["_sg1.0 192.0.2.10"]);
  expect(await errorOf(host, "create-sg -s server=192.0.2.10,192.0.2.10 sg2")).toBe(text("sg2"));
  expect(host.config().groups.length).toBe(1);
});

test("ILB-256 a rule that is created later shows the server disabled too", async () => {
  const host = await hostWith(...TWO_RULES, "disable-server _sg1.0");
  await setUp(host, "create-rule -i vip=198.51.100.3,port=80 -m type=d -o sg=sg1 r3");
  expect(await outputOf(host, "show-server -p -o serverid,status r3")).toBe("_sg1.0:D\n_sg1.1:E\n");
});

test("ILB-261 an ID without a dot stops the command, what came before stays done", async () => {
  const host = await hostWith(...TWO_RULES);
  expect(await errorOf(host, "disable-server _nodot")).toBe("ilbadm: invalid argument(s) - see man page\n");
  expect(await errorOf(host, "disable-server _sg1.0 192.0.2.10 _sg1.1")).toBe("ilbadm: server ID is invalid\n");
  expect(host.config().groups[0]?.servers.map((server) => server.enabled)).toEqual([false, true]);
});

test("the servers of one add-server are one change with one audit line", async () => {
  const host = await hostWith("create-sg sg1");
  await ilbadm(host, "add-server -s server=192.0.2.10,192.0.2.11:80 sg1");
  expect(host.audit.slice(1)).toEqual(["add-server -s server=192.0.2.10 sg1; add-server -s server=192.0.2.11:80 sg1"]);
});

test("when the box cannot take all servers of one add-server, those that it can take are added", async () => {
  const host = await hostWith("create-sg sg1");
  host.failNext = { ok: false, failure: { code: "E-NOMEM", text: "no" } };
  expect((await ilbadm(host, "add-server -s server=192.0.2.10,192.0.2.11:80 sg1")).stderr).toBe("");
  expect(host.config().groups[0]?.servers).toHaveLength(2);
  expect(host.audit.slice(1)).toEqual([
    "add-server -s server=192.0.2.10 sg1",
    "add-server -s server=192.0.2.11:80 sg1",
  ]);
});
