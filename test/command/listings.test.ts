/** Listings, byte for byte. */
import { describe, expect, test } from "bun:test";
import type { FlowSnapshot } from "../../src/engine/engine.ts";
import { type Address, parseAddress } from "../../src/model/address.ts";
import { findRule, findServer } from "../../src/model/lookup.ts";
import { errorOf, FakeHost, ilbadm, outputOf, setUp } from "../support/fake-host.ts";

const ip = (text: string) => parseAddress(text) as Address;

async function hostWith(...lines: string[]): Promise<FakeHost> {
  const host = new FakeHost();
  await setUp(host, ...lines);
  return host;
}

/** The configuration of the samples of show-rule. */
const samples = () =>
  hostWith(
    "create-sg -s server=192.0.2.10,192.0.2.11 sg1",
    "create-rule -e -i vip=198.51.100.10,port=81 -m lbalg=hip,type=n,proxy-src=203.0.113.1 -o sg=sg1 r2",
    "create-rule -i vip=198.51.100.20,port=5000-5009,protocol=udp -m type=h -o sg=sg1 webrule",
    "create-rule -e -i vip=198.51.100.30,port=80 -m lbalg=hipp,type=d -o sg=sg1 dsr-rule-with-name1",
  );

const full = () =>
  hostWith(
    "create-hc -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 hc1",
    "create-sg -s server=192.0.2.10:6000-6009,192.0.2.11:7000-7009 sg1",
    "create-rule -e -i vip=198.51.100.10,port=5000-5009 -m type=NAT,proxy-src=203.0.113.1-203.0.113.5,pmask=24 -h hc-name=hc1 -t conn-drain=180,nat-timeout=180,persist-timeout=180 -o sg=sg1 rule1",
  );

const FULL = `       RULENAME: rule1
         STATUS: E
           PORT: 5000-5009
       PROTOCOL: TCP
          LBALG: roundrobin
           TYPE: NAT
      PROXY-SRC: 203.0.113.1-203.0.113.5
          PMASK: /24
        HC-NAME: hc1
        HC-PORT: ANY
     CONN-DRAIN: 180
    NAT-TIMEOUT: 180
PERSIST-TIMEOUT: 180
    SERVERGROUP: sg1
            VIP: 198.51.100.10
        SERVERS: _sg1.0,_sg1.1
`;

test("ILB-110 empty listings print nothing and succeed", async () => {
  const host = new FakeHost();
  const lines = [
    "show-rule",
    "show-rule -f",
    "show-rule -o all",
    "show-rule -p -o rulename",
    "show-sg",
    "show-sg -o all",
  ];
  host.healthResults = () => [];
  for (const line of [...lines, "show-srv", "show-hc", "show-hc-res", "show-nat", "show-pt", "export-cf"]) {
    expect([line, await ilbadm(host, line)]).toEqual([line, { exit: 0, stdout: "", stderr: "", chunks: [] }]);
  }
});

test("ILB-111 show-rule prints the sample", async () => {
  expect(await outputOf(await samples(), "show-rule")).toBe(
    `RULENAME            STATUS LBALG       TYPE    PROTOCOL VIP         PORT
r2                  E      hash-ip     NAT     TCP  198.51.100.10   81
webrule             D      roundrobin  HALF-NAT UDP 198.51.100.20   5000-5009
dsr-rule-with-name1 E      hash-ip-port DSR    TCP  198.51.100.30   80
`,
  );
});

test("ILB-111 an IPv6 rule first widens the addresses", async () => {
  const host = await hostWith(
    "create-sg -s server=[2001:db8:5::1]:21 g6",
    "create-rule -e -i vip=2001:db8::10,port=21 -m lbalg=hipv,type=d -o sg=g6 v6rule",
  );
  expect(await outputOf(host, "show-rule")).toBe(
    `RULENAME            STATUS LBALG       TYPE    PROTOCOL VIP                                PORT
v6rule              E      hash-ip-vip DSR     TCP  2001:db8::10                           21
`,
  );
  expect(await outputOf(host, "show-server")).toBe(
    `SERVERID            ADDRESS                                PORT RULENAME            STATUS SERVERGROUP
_g6.0               2001:db8:5::1                          21   v6rule              E      g6
`,
  );
});

test("ILB-113 show-rule -f prints 16 lines per rule and a blank line between rules", async () => {
  const host = await full();
  expect(await outputOf(host, "show-rule -f")).toBe(FULL);
  await setUp(host, "create-rule -i vip=198.51.100.11,port=5000-5009 -m type=h -o sg=sg1 rule2");
  const blocks = (await outputOf(host, "show-rule -f")).split("\n\n");
  expect(blocks.map((block) => block.trimEnd().split("\n").length)).toEqual([16, 16]);
});

test("ILB-114 -e and -d choose by state, the last wins, among named rules too", async () => {
  const host = await samples();
  const names = async (line: string) =>
    (await outputOf(host, `show-rule -p -o rulename ${line}`)).split("\n").slice(0, -1);
  expect(await names("-e")).toEqual(["r2", "dsr-rule-with-name1"]);
  expect(await names("-d")).toEqual(["webrule"]);
  expect(await names("-de")).toEqual(["r2", "dsr-rule-with-name1"]);
  expect(await names("-e -d -e -d")).toEqual(["webrule"]);
  expect(await names("-e webrule r2")).toEqual(["r2"]);
});

test("ILB-115 -f and -o exclude each other", async () => {
  expect(await errorOf(new FakeHost(), "show-rule -f -o port")).toBe(
    "ilbadm: options -o and -f are mutually exclusive\n",
  );
});

test("ILB-116 -p needs -o", async () => {
  for (const command of ["show-rule", "show-sg", "show-srv", "show-stats"]) {
    expect(await errorOf(new FakeHost(), `${command} -p`)).toBe("ilbadm: option -p requires -o\n");
  }
});

test("ILB-117 -p needs fields by name", async () => {
  for (const command of ["show-rule", "show-sg", "show-srv"]) {
    expect(await errorOf(new FakeHost(), `${command} -p -o All`)).toBe(
      "ilbadm: option -p requires explicit field names for -o\n",
    );
  }
  expect(await errorOf(new FakeHost(), "show-stats -p -o ALL")).toBe(
    "ilbadm: option -p requires explicit field names\n",
  );
});

const six = () => hostWith("create-sg g6", "create-rule -i vip=2001:db8::10,port=21 -m type=d -o sg=g6 r6");

test("ILB-118 several parsable fields escape colons", async () => {
  expect(await outputOf(await six(), "show-rule -p -o rulename,vip,port r6")).toBe("r6:2001\\:db8\\:\\:10:21\n");
});

test("ILB-119 one parsable field does not", async () => {
  expect(await outputOf(await six(), "show-rule -p -o vip")).toBe("2001:db8::10\n");
});

test("ILB-120 an unknown field is refused, with or without rows", async () => {
  for (const host of [new FakeHost(), await samples()]) {
    for (const command of ["show-rule", "show-sg", "show-srv", "show-stats"]) {
      expect(await errorOf(host, `${command} -o x,y`)).toBe("ilbadm: unknown output field: x\n");
    }
    expect(await errorOf(host, ["show-rule", "-o", ""])).toBe("ilbadm: unknown output field: \n");
    expect(await errorOf(host, "show-rule -o vip,,port")).toBe("ilbadm: unknown output field: \n");
    expect(await errorOf(host, "show-rule -o vip,")).toBe("ilbadm: unknown output field: \n");
  }
});

test("ILB-121 fields come in the order asked for, headers spelt as usual", async () => {
  expect(await outputOf(await samples(), "show-rule -o Port,rulename r2")).toBe("PORT      RULENAME\n81        r2\n");
});

test("ILB-122 an empty value is -- for people and nothing for programs", async () => {
  const host = await samples();
  expect(await outputOf(host, "show-rule -o pmask,hc-name,rulename r2")).toBe(
    "PMASK HC-NAME             RULENAME\n--    --                  r2\n",
  );
  expect(await outputOf(host, "show-rule -p -o pmask,hc-name,rulename r2")).toBe("::r2\n");
  await setUp(host, "create-sg empty", "create-rule -i vip=198.51.100.31,port=80 -m type=d -o sg=empty none");
  expect(await outputOf(host, "show-rule -o servers none")).toBe("SERVERS\n--\n");
});

test("ILB-123 the default timers of NAT rules show", async () => {
  const host = await samples();
  const timers = "show-rule -p -o nat-timeout,conn-drain,persist-timeout";
  expect(await outputOf(host, `${timers} r2`)).toBe("120:0:0\n");
  expect(await outputOf(host, `${timers} webrule`)).toBe("60:0:0\n");
});

test("ILB-124 a plain DSR rule has no timers, proxy or mask", async () => {
  const text = await outputOf(await samples(), "show-rule -f dsr-rule-with-name1");
  expect(text).toContain("     CONN-DRAIN: 0\n    NAT-TIMEOUT: 0\nPERSIST-TIMEOUT: 0\n");
  expect(text).toContain("      PROXY-SRC: --\n          PMASK: --\n        HC-NAME: --\n        HC-PORT: --\n");
});

test("a sticky rule shows 60 seconds of persistence", async () => {
  const host = await hostWith("create-sg s", "create-rule -p -i vip=198.51.100.1,port=1 -m type=d -o sg=s r");
  expect(await outputOf(host, "show-rule -p -o persist-timeout,pmask")).toBe("60:/32\n");
});

test("ILB-125 unknown rules end a listing behind what was printed", async () => {
  const host = await samples();
  for (const command of ["show-rule -p -o rulename", "show-server -p -o rulename"]) {
    const { exit, stdout, stderr } = await ilbadm(host, `${command} r2 nosuch webrule`);
    expect({ exit, stderr }).toEqual({ exit: 1, stderr: "ilbadm: no such/no more element(s)\n" });
    expect(new Set(stdout.trim().split("\n"))).toEqual(new Set(["r2"]));
  }
});

test("ILB-126 servers are listed in ascending order of address", async () => {
  const host = await hostWith(
    "create-sg -s server=192.0.2.100,192.0.2.9,192.0.2.20 sg1",
    "create-rule -i vip=198.51.100.1,port=80 -m type=d -o sg=sg1 r1",
  );
  expect(await outputOf(host, "show-sg")).toBe(
    "sg1: id:_sg1.1 192.0.2.9\nsg1: id:_sg1.2 192.0.2.20\nsg1: id:_sg1.0 192.0.2.100\n",
  );
  expect(await outputOf(host, "show-rule -p -o servers")).toBe("_sg1.1,_sg1.2,_sg1.0\n");
  expect(await outputOf(host, "show-srv -p -o address")).toBe("192.0.2.9\n192.0.2.20\n192.0.2.100\n");
  expect(await outputOf(host, "show-stats -i -r r1 -p -o servername")).toBe("_sg1.1\n_sg1.2\n_sg1.0\n");
  expect((await outputOf(host, "export-cf")).match(/192\.0\.2\.\d+/g)).toEqual([
    "192.0.2.9",
    "192.0.2.20",
    "192.0.2.100",
  ]);
});

const groups = () =>
  hostWith(
    "create-sg -s server=192.0.2.10 sg1",
    "create-sg -s server=192.0.2.30:9001 sg3",
    "create-sg -s server=192.0.2.40:9001-9006 sg4",
    "create-sg empty",
    "create-sg -s server=[2001:db8::10]:80 sg_v6",
  );

test("ILB-127 show-servergroup prints a line per server", async () => {
  const text = `sg1: id:_sg1.0 192.0.2.10
sg3: id:_sg3.0 192.0.2.30:9001
sg4: id:_sg4.0 192.0.2.40:9001-9006
empty: id:
sg_v6: id:_sg_v6.0 [2001:db8::10]:80
`;
  expect(await outputOf(await groups(), "show-servergroup")).toBe(text);
  expect(await outputOf(await groups(), "show-servergroup -s")).toBe(text);
});

test("ILB-128 show-servergroup -o all prints the five columns", async () => {
  const text = `sgname         serverID            minport maxport IP_address
sg1            _sg1.0              --      --      192.0.2.10
sg3            _sg3.0              9001    9001    192.0.2.30
sg4            _sg4.0              9001    9006    192.0.2.40
empty          --                  --      --      --
`;
  const host = await groups();
  for (const options of ["-o all", "-f", "-v"]) {
    expect(await outputOf(host, `show-servergroup ${options} sg1 sg3 sg4 empty`)).toBe(text);
  }
  expect(await outputOf(host, "show-servergroup -p -o sgname,minport,IP_Address sg_v6 sg1")).toBe(
    "sg_v6:80:2001\\:db8\\:\\:10\nsg1::192.0.2.10\n",
  );
});

test("ILB-129 an unknown group ends the listing", async () => {
  expect(await errorOf(new FakeHost(), "show-servergroup nosuch")).toBe("ilbadm: cannot find specified server group\n");
});

test("ILB-238 show-servergroup refuses two of -s, -f and -o", async () => {
  const args = "ilbadm: invalid/incompatible keywords - refer to ilbadm(8)\n";
  expect(await errorOf(new FakeHost(), "show-sg -s -f")).toBe(args);
  expect(await errorOf(new FakeHost(), "show-sg -s -o all")).toBe(args);
  expect(await errorOf(new FakeHost(), "show-sg -f -o all")).toBe("ilbadm: options -o and -f are mutually exclusive\n");
  expect(await outputOf(await groups(), "show-sg -v sg1")).toContain("sgname ");
});

test("ILB-130 ILB-262 a server shows once per rule, rules in operand or creation order", async () => {
  const host = await hostWith(
    "create-sg -s server=192.0.2.1 a",
    "create-sg -s server=192.0.2.2 b",
    "create-sg -s server=192.0.2.3 unused",
    "create-rule -i vip=198.51.100.1,port=80 -m type=d -o sg=a r1",
    "create-rule -i vip=198.51.100.1,port=81 -m type=d -o sg=b r2",
    "create-rule -i vip=198.51.100.1,port=82 -m type=d -o sg=a r3",
  );
  const list = (names: string) => outputOf(host, `show-server -p -o serverid,rulename ${names}`);
  expect(await list("")).toBe("_a.0:r1\n_b.0:r2\n_a.0:r3\n");
  expect(await list("r2 r1")).toBe("_b.0:r2\n_a.0:r1\n");
});

test("show-server prints ? for a server without ports and the administrative state", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.10:80,192.0.2.11:6000-6009,192.0.2.12 sg1", "create-sg x");
  await setUp(host, "create-rule -i vip=198.51.100.1,port=80 -m type=h -o sg=x rule1");
  expect(await outputOf(host, "show-server")).toBe("");
  const good = await hostWith(
    "create-sg -s server=192.0.2.10:80,192.0.2.11:81,192.0.2.12 sg1",
    "create-rule -i vip=198.51.100.1,port=80 -m type=h -o sg=sg1 rule1",
    "disable-server _sg1.1",
  );
  expect(await outputOf(good, "show-server")).toBe(
    `SERVERID            ADDRESS         PORT RULENAME            STATUS SERVERGROUP
_sg1.0              192.0.2.10      80   rule1               E      sg1
_sg1.1              192.0.2.11      81   rule1               D      sg1
_sg1.2              192.0.2.12      ?    rule1               E      sg1
`,
  );
});

test("host names are looked up only when asked for, each address once", async () => {
  const host = await hostWith(
    "create-sg -s server=192.0.2.1,192.0.2.2 a",
    "create-rule -i vip=198.51.100.1,port=80 -m type=d -o sg=a r1",
    "create-rule -i vip=198.51.100.1,port=81 -m type=d -o sg=a r2",
  );
  host.names.set("192.0.2.1", "web-1.example");
  await outputOf(host, "show-server");
  expect(host.looked).toEqual([]);
  expect(await outputOf(host, "show-server -o serverid,hostname r1 r2")).toBe(
    `SERVERID            HOSTNAME
_a.0                web-1.example
_a.1                --
_a.0                web-1.example
_a.1                --
`,
  );
  expect(host.looked).toEqual(["192.0.2.1", "192.0.2.2"]);
  expect(await outputOf(host, "show-server -o all r1")).toStartWith(
    "SERVERID            ADDRESS         PORT RULENAME            STATUS SERVERGROUP    HOSTNAME\n",
  );
});

function flow(parts: Partial<FlowSnapshot>): FlowSnapshot {
  return {
    protocol: "tcp",
    ruleId: 1,
    serverId: 1,
    client: ip("192.0.2.200"),
    clientPort: 40000,
    vip: ip("198.51.100.10"),
    vipPort: 80,
    source: ip("203.0.113.1"),
    sourcePort: 4096,
    server: ip("192.0.2.10"),
    serverPort: 8080,
    ...parts,
  };
}

describe("show-nat", () => {
  const NAT = " TCP: 192.0.2.200.40000 > 198.51.100.10.80 >>> 203.0.113.1.4096 > 192.0.2.10.8080\n";

  test("ILB-132 a NAT connection has proxy address and port third", async () => {
    const host = new FakeHost();
    host.flows = [flow({})];
    expect(await outputOf(host, "show-nat")).toBe(NAT);
  });

  test("ILB-133 ILB-265 a HALF-NAT connection has the client again", async () => {
    const host = new FakeHost();
    const client = ip("2001:db8:9::7");
    const vip = ip("2001:db8:1::10");
    const server = ip("2001:db8:2::10");
    const six = { client, source: client, sourcePort: 40000, vip, vipPort: 53, server, serverPort: 53 };
    host.flows = [flow({ protocol: "udp", ...six }), flow({})];
    expect(await outputOf(host, "show-nat")).toBe(
      ` UDP: 2001:db8:9::7.40000 > 2001:db8:1::10.53 >>> 2001:db8:9::7.40000 > 2001:db8:2::10.53\n${NAT}`,
    );
  });

  test("ILB-134 COUNT limits the lines", async () => {
    const host = new FakeHost();
    host.flows = Array.from({ length: 9 }, () => flow({}));
    expect(await outputOf(host, "show-nat 5")).toBe(NAT.repeat(5));
    expect(await outputOf(host, "show-nat 05")).toBe(NAT.repeat(5));
    expect(await outputOf(host, "show-nat 99999999999999999999")).toBe(NAT.repeat(9));
  });

  test.each(["show-nat 0", "show-nat x", "show-nat 1 2", "show-nat -- -1", "show-pt 0", "show-pt x", "show-pt 1 2"])(
    "ILB-135 %s is refused",
    async (line) => {
      expect(await errorOf(new FakeHost(), line)).toBe("ilbadm: invalid value  - refer to ilbadm(8)\n");
    },
  );

  test("a listing of a million entries comes in pieces, and reading stops when the reader does", async () => {
    const host = new FakeHost();
    let made = 0;
    host.natEntries = function* () {
      for (; made < 1_000_000; made++) yield flow({});
    };
    const { run } = await import("../../src/command/run.ts");
    for await (const chunk of run(["show-nat"], host, { right: () => true, origin: "shell" })) {
      expect(chunk.stdout?.length).toBeLessThan(40_000);
      break;
    }
    expect(made).toBeLessThan(1000);
  });
});

test("ILB-136 show-persist prints masked client and server, orphans are left out", async () => {
  const host = await hostWith(
    "create-sg -s server=198.51.100.77 sg1",
    "create-rule -p -i vip=198.51.100.1,port=80 -m type=d,pmask=24 -o sg=sg1 rule2",
  );
  const ruleId = findRule(host.config(), "rule2")!.id;
  const serverId = findServer(host.config(), "_sg1.0")!.server.id;
  host.sticky = [
    { ruleId: 999, serverId, client: ip("203.0.113.0") },
    { ruleId, serverId, client: ip("192.0.2.0") },
    { ruleId, serverId, client: ip("192.0.3.0") },
  ];
  expect(await outputOf(host, "show-persist")).toBe(
    "rule2: 192.0.2.0 --> 198.51.100.77\nrule2: 192.0.3.0 --> 198.51.100.77\n",
  );
  expect(await outputOf(host, "show-pt 1")).toBe("rule2: 192.0.2.0 --> 198.51.100.77\n");
});

describe("health checks", () => {
  const checks = () =>
    hostWith(
      "create-hc -h hc-test=tcp,hc-timeout=2,hc-count=1,hc-interval=10 hc1",
      "create-hc -n -h hc-test=/opt/probes/http_probe,hc-timeout=2,hc-count=1,hc-interval=10 hc2",
    );

  test("ILB-137 show-healthcheck prints six columns", async () => {
    expect(await outputOf(await checks(), "show-healthcheck")).toBe(
      `HCNAME        TIMEOUT COUNT   INTERVAL DEF_PING TEST
hc1           2       1       10       Y        tcp
hc2           2       1       10       N        /opt/probes/http_probe
`,
    );
  });

  test("ILB-289 in operand order, up to an unknown name", async () => {
    const { exit, stdout, stderr } = await ilbadm(await checks(), "show-hc hc2 HC1 x hc1");
    expect(stdout.split("\n").map((line) => line.split(" ")[0])).toEqual(["HCNAME", "hc2", "hc1", ""]);
    expect({ exit, stderr }).toEqual({ exit: 1, stderr: "ilbadm: no such/no more element(s)\n" });
  });

  async function checked(): Promise<FakeHost> {
    const host = await checks();
    await setUp(
      host,
      "create-sg -s server=192.0.2.10-192.0.2.14 sg1",
      "create-rule -i vip=198.51.100.1,port=80 -m type=d -h hc-name=hc1 -o sg=sg1 rule1",
      "create-rule -i vip=198.51.100.1,port=81 -m type=d -o sg=sg1 plain",
    );
    const ruleId = findRule(host.config(), "rule1")!.id;
    const at = (hours: number, minutes: number, seconds: number) =>
      new Date(2030, 0, 2, hours, minutes, seconds).getTime();
    const rows = [
      ["dead", 6, at(4, 45, 17), at(4, 45, 30), 698],
      ["alive", 0, at(4, 45, 11), at(4, 45, 25), 260],
      ["unreach", 6, at(4, 45, 17), at(4, 45, 30), 0],
      ["disabled", 0, at(4, 45, 17), null, 0],
      ["un-init", 0, at(4, 45, 17), at(4, 45, 52), 0],
    ] as const;
    const servers = host.config().groups[0]!.servers;
    host.healthResults = () =>
      rows.map(([status, fail, lastAtMs, nextAtMs, rttMicroseconds], i) => ({
        ruleId,
        serverId: servers[i]!.id,
        status,
        fail,
        lastAtMs,
        nextAtMs,
        rttMicroseconds,
        reason: fail > 0 ? "timeout after 2 s" : null,
      }));
    return host;
  }

  test("ILB-138 ILB-139 ILB-292 show-hc-result prints the sample, under the stored name", async () => {
    const text = `RULENAME      HCNAME        SERVERID      STATUS   FAIL LAST     NEXT     RTT
rule1         hc1           _sg1.0        dead     6    04:45:17 04:45:30 698
rule1         hc1           _sg1.1        alive    0    04:45:11 04:45:25 260
rule1         hc1           _sg1.2        unreach  6    04:45:17 04:45:30 0
rule1         hc1           _sg1.3        disabled 0    04:45:17 --       0
rule1         hc1           _sg1.4        un-init  0    04:45:17 04:45:52 0
`;
    const host = await checked();
    expect(await outputOf(host, "show-hc-result")).toBe(text);
    expect(await outputOf(host, "show-hc-result RULE1")).toBe(text);
  });

  test("show-hc-result -v adds the reason of the last failure, and nothing else changes", async () => {
    const host = await checked();
    const plain = (await outputOf(host, "show-hc-result")).trimEnd().split("\n");
    const verbose = (await outputOf(host, "show-hc-result -v rule1")).trimEnd().split("\n");
    expect(verbose.map((line, index) => line.startsWith(plain[index]!))).toEqual(plain.map(() => true));
    const reasons = verbose.map((line, index) => line.slice(plain[index]!.length).trim());
    const none = "--         --     ";
    const late = `${none}timeout after 2 s`;
    expect(reasons).toEqual(["CERT_UNTIL VIA    REASON", late, `${none}--`, late, `${none}--`, `${none}--`]);
  });

  test("ILB-138 a rule without health check, or none at all, has no results", async () => {
    const text = "ilbadm: rule does not have health check enabled\n";
    expect(await errorOf(await checked(), "show-hc-result plain")).toBe(text);
    expect(await errorOf(await checked(), "show-hc-result nosuch")).toBe(text);
  });

  test("a process without health checks says so", async () => {
    expect(await errorOf(new FakeHost(), "show-hc-result")).toBe(
      "ilbadm: show-hc-result is not available in this process\n",
    );
  });
});

test("ILB-263 a group is found in any case and printed as stored", async () => {
  const host = await hostWith("create-sg -s server=192.0.2.1 sg1", "create-sg -s server=192.0.2.2 sg2");
  expect(await outputOf(host, "show-servergroup SG2")).toBe("sg2: id:_sg2.0 192.0.2.2\n");
});
