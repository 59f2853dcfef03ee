/** Tests that talk with a server (HTTP, HTTPS, GRPC, DNS), additions to the original: how they are said, kept and shown. */
import { describe, expect, test } from "bun:test";
import { complete } from "../../src/command/complete.ts";
import { questionOf } from "../../src/model/health-test.ts";
import { errorOf, FakeHost, outputOf, setUp } from "../support/fake-host.ts";

async function hostWith(...lines: string[]): Promise<FakeHost> {
  const host = new FakeHost();
  await setUp(host, ...lines);
  return host;
}

async function question(hcspec: string) {
  const host = await hostWith(`create-hc -h ${hcspec} h`);
  return questionOf(host.config().healthChecks[0]!.test);
}

describe("what a test asks for", () => {
  test("HTTP in any case asks for / and takes 200 to 399", async () => {
    const plain = { kind: "http", path: "/", status: [{ min: 200, max: 399 }], host: null, tls: null } as const;
    for (const word of ["HTTP", "http", "Http"]) expect(await question(`hc-test=${word}`)).toEqual(plain);
    expect(await question("hc-test=HTTPS")).toEqual({ ...plain, tls: { verify: false } });
  });

  test("path, host and status codes, with commas in the list and keys behind it", async () => {
    const given =
      "hc-test=HTTPS,hc-path=/health?deep=1,hc-status=200,301-302,401,hc-host=www.example.com,hc-tls-verify=YES";
    const status = [
      { min: 200, max: 200 },
      { min: 301, max: 302 },
      { min: 401, max: 401 },
    ];
    const asked = { kind: "http", path: "/health?deep=1", status, host: "www.example.com", tls: { verify: true } };
    expect(await question(given)).toEqual(asked as never);
  });

  test("a URL says kind, host and path", async () => {
    expect(await question("hc-test=https://www.example.com/health")).toMatchObject({
      host: "www.example.com",
      path: "/health",
      tls: { verify: false },
    });
    expect(await question("hc-test=http://[2001:db8::1]")).toMatchObject({ host: "2001:db8::1", path: "/", tls: null });
    expect(await question("hc-test=http://h?x=1,hc-status=204")).toMatchObject({ path: "/?x=1" });
  });

  test("GRPC asks for the server's health, over TLS on demand", async () => {
    expect(await question("hc-test=GRPC")).toEqual({ kind: "grpc", service: "", host: null, tls: null });
    const tls = await question("hc-test=grpc,hc-service=shop.Cart,hc-tls=yes,hc-tls-verify=yes,hc-host=cart");
    expect(tls).toEqual({ kind: "grpc", service: "shop.Cart", host: "cart", tls: { verify: true } });
  });

  test("DNS asks for a name, also said as hc-name, and for an address", async () => {
    expect(await question("hc-test=DNS,hc-query=example.com")).toEqual({ kind: "dns", name: "example.com", type: "A" });
    const aliased = await question("hc-test=DNS,hc-name=.,hc-type=ns");
    expect(aliased).toEqual({ kind: "dns", name: ".", type: "NS" });
  });
});

describe("what is refused", () => {
  const INVALID = "invalid value  - refer to ilbadm(8)";
  test.each([
    ["hc-test=HTTP,hc-path=health", `hc-path: ${INVALID}`],
    ["hc-test=HTTP,hc-path=/a#b", `hc-path: ${INVALID}`],
    ["hc-test=HTTP,hc-path=/a\\b", `hc-path: ${INVALID}`],
    [`hc-test=HTTP,hc-path=/${"x".repeat(1024)}`, `hc-path: ${INVALID}`],
    ["hc-test=HTTP,hc-status=99", `hc-status: ${INVALID}`],
    ["hc-test=HTTP,hc-status=399-200", `hc-status: ${INVALID}`],
    ["hc-test=HTTP,hc-status=200,6xx", "6xx: assignment '=' missing"],
    ["hc-test=HTTP,hc-host=a_b!", `hc-host: ${INVALID}`],
    ["hc-test=HTTPS,hc-tls-verify=maybe", `hc-tls-verify: ${INVALID}`],
    ["hc-test=HTTP,hc-tls-verify=yes", "hc-tls-verify: goes with the tests HTTPS, GRPC only"],
    ["hc-test=tcp,hc-path=/", "hc-path: goes with the tests HTTP, HTTPS only"],
    ["hc-test=/bin/x,hc-status=200", "hc-status: goes with the tests HTTP, HTTPS only"],
    ["hc-test=HTTP,hc-query=x", "hc-query: goes with the tests DNS only"],
    ["hc-test=http://h/x,hc-path=/y", "hc-path: the URL of hc-test says it already"],
    ["hc-test=http://h/x,hc-host=y", "hc-host: the URL of hc-test says it already"],
    ["hc-test=http://h:8080/x", "hc-test: a URL names no port here - the port is hc-port of create-rule"],
    ["hc-test=http://[2001:db8::1]:80/", "hc-test: a URL names no port here - the port is hc-port of create-rule"],
    ["hc-test=http://u@h/", "invalid argument(s) - see man page"],
    ["hc-test=http:///x", "invalid argument(s) - see man page"],
    ["hc-test=ftp://h/", "invalid argument(s) - see man page"],
    ["hc-test=GRPC,hc-tls-verify=yes", "invalid/incompatible keywords - refer to ilbadm(8)"],
    ["hc-test=GRPC,hc-service=a b", "usage"],
    ["hc-test=DNS", "hc-query: missing"],
    ["hc-test=DNS,hc-query=a..b", `hc-query: ${INVALID}`],
    ["hc-test=DNS,hc-query=a,hc-type=AXFR", `hc-query-type: ${INVALID}`.replace("hc-query-type", "hc-type")],
  ])("%s", async (hcspec, text) => {
    const host = new FakeHost();
    const error = await errorOf(host, `create-hc -h ${hcspec} h`);
    if (text === "usage") expect(error).not.toBe("");
    else expect(error).toBe(`ilbadm: ${text}\n`);
    expect(host.config().healthChecks).toEqual([]);
  });

  const rule = (name: string, more: string, type = "NAT,proxy-src=203.0.113.1"): string =>
    `create-rule -i vip=198.51.100.10,port=80${more} -m type=${type} -h hc-name=${name} -o servergroup=sg r`;
  const CHECKS = [
    "create-sg -s server=192.0.2.1 sg",
    "create-hc -h hc-test=HTTP web",
    "create-hc -h hc-test=GRPC rpc",
    "create-hc -h hc-test=DNS,hc-query=. dns",
  ];

  test("HTTP and GRPC need a TCP rule; DNS fits both", async () => {
    const text = "ilbadm: protocol used in rule and health check does not match\n";
    expect(await errorOf(await hostWith(...CHECKS), rule("web", ",protocol=udp"))).toBe(text);
    expect(await errorOf(await hostWith(...CHECKS), rule("rpc", ",protocol=udp"))).toBe(text);
    await hostWith(...CHECKS, rule("dns", ",protocol=udp"));
    await hostWith(...CHECKS, rule("dns", ""));
  });

  test("over UDP nothing talks with servers of a DSR rule", async () => {
    const host = await hostWith(...CHECKS);
    expect(await errorOf(host, rule("dns", ",protocol=udp", "DSR"))).toBe(
      "ilbadm: health check dns cannot reach servers of a DSR rule over UDP - use udp, ping or a program\n",
    );
    expect(host.config().rules).toEqual([]);
    for (const name of ["web", "rpc", "dns"]) await hostWith(...CHECKS, rule(name, "", "DSR"));
  });
});

describe("how they are shown", () => {
  const LINE = "create-hc -n -h hc-test=HTTP,hc-timeout=2,hc-path=/health,hc-status=200,204 web";

  test("show-healthcheck has the original's columns, -v what else was given", async () => {
    const host = await hostWith(LINE, "create-hc -h hc-test=tcp t");
    expect(await outputOf(host, "show-hc")).toBe(
      `HCNAME        TIMEOUT COUNT   INTERVAL DEF_PING TEST
web           2       3       30       N        HTTP
t             5       3       30       Y        tcp
`,
    );
    expect(await outputOf(host, "show-hc -v")).toBe(
      `HCNAME        TIMEOUT COUNT   INTERVAL DEF_PING TEST                            OPTIONS
web           2       3       30       N        HTTP                            hc-path=/health,hc-status=200,204
t             5       3       30       Y        tcp                             --
`,
    );
  });

  test("export-config says what was given, no more", async () => {
    const host = await hostWith(LINE);
    expect(await outputOf(host, "export-config")).toBe(
      "create-healthcheck -n -h hc-test=HTTP,hc-timeout=2,hc-count=3,hc-interval=30,hc-path=/health,hc-status=200,204 web\n",
    );
  });

  test("JSON has the options that were given", async () => {
    const host = await hostWith(LINE, "create-hc -h hc-test=tcp t");
    const [web, plain] = JSON.parse(await outputOf(host, "show-hc --json"));
    expect(web).toMatchObject({ "hc-test": "HTTP", "hc-path": "/health", "hc-status": "200,204" });
    expect(Object.keys(plain)).toEqual(["name", "hc-test", "hc-timeout", "hc-count", "hc-interval", "default-ping"]);
  });

  test("completion offers tests, their keys, and words", () => {
    const words = (line: string): string[] => complete(line.split(" ")).candidates.map(({ word }) => word);
    expect(words("create-hc -h hc-test=h")).toEqual(["HTTP", "HTTPS", "http://", "https://"]);
    expect(words("create-hc -h hc-test=DNS,hc-q")).toEqual(["hc-query=", "hc-query-type="]);
    expect(words("create-hc -h hc-test=HTTPS,hc-tls-verify=")).toEqual(["yes", "no"]);
  });

  test("the certificate's end shows in show-hc-result -v and in JSON", async () => {
    const host = await hostWith(
      "create-sg -s server=192.0.2.1 sg",
      "create-hc -h hc-test=HTTPS web",
      "create-rule -i vip=198.51.100.10,port=443 -m type=HALF-NAT -h hc-name=web -o servergroup=sg r",
    );
    const [rule] = host.config().rules;
    const [group] = host.config().groups;
    const certificateUntilMs = Date.UTC(2027, 2, 4, 5, 6, 7);
    host.healthResults = () => [
      {
        ruleId: rule!.id,
        serverId: group!.servers[0]!.id,
        status: "alive",
        fail: 0,
        lastAtMs: 0,
        nextAtMs: null,
        rttMicroseconds: 9,
        certificateUntilMs,
      },
    ];
    expect(await outputOf(host, "show-hc-result -v")).toEndWith(" 9        2027-03-04 --     --\n");
    expect(JSON.parse(await outputOf(host, "show-hc-result --json"))[0].certificateUntil).toBe(
      "2027-03-04T05:06:07.000Z",
    );
  });
});
