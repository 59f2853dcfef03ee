/** What ilbadm says and sets about NetBackup, through the real program and a real daemon. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Daemon } from "../daemon/daemon.ts";
import { Program } from "../support/program.ts";

const cli = new Program();

test("NBU-019 show-flows answers through the program, in every form", async () => {
  const table = await cli.place.must("show-flows -b -s media-server@7.0 -d client@7.5");
  const lines = table.trimEnd().split("\n");
  expect(lines).toHaveLength(7);
  expect(lines[2]).toBe(
    "T2-3.07  media-server  client        VNETD        13724  tcp    compat       source older than 7.0.1; required if the client is resilient",
  );
  expect(JSON.parse(await cli.place.must("show-fl -x json -s media -d client -t 2-3"))).toHaveLength(2);
  expect(await cli.place.must("show-fl -x csv -t 2-5")).toStartWith("flow,source,");
});

test("NBU-050 set-port -f reads the file with the caller's rights and names it in errors", async () => {
  const path = join(cli.place.directory, "cloudstore.conf");
  writeFileSync(path, "[NBCSSC]\r\nCSSC_PORT = 5700\r\n");
  expect(await cli.run(`set-port -f ${path}`)).toEqual({ status: 0, stdout: "", stderr: "" });
  await cli.shows("show-services -p -o port nbcssc", "5700/tcp\n");
  writeFileSync(path, "[NBCSSC]\nCSSC_PORT=0\n");
  expect(await cli.run(`set-port -f ${path}`)).toEqual({
    status: 1,
    stdout: "",
    stderr: `ilbadm: ${path}: line 2: CSSC_PORT must be 1 to 65535, not 0\n`,
  });
  await cli.shows("show-services -p -o port nbcssc", "5700/tcp\n");
  const missing = await cli.run(`set-port -f ${path}.none`);
  expect(missing.stderr).toStartWith(`ilbadm: file ${path}.none cannot be opened for reading\n`);
  expect(await cli.place.must("show-audit -p -o result,command 1")).toBe("ok:set-port nbcssc=5700\n");
  await cli.place.must("set-port nbcssc=default");
});

test("NBU-016 NBU-018 a forced rule and a port survive a restart, which checks nothing again", async () => {
  await cli.given("create-servergroup -s server=192.0.2.10 sg");
  await cli.place.must("set-port snmp-trap=1162");
  const rule = "create-rule -i vip=198.51.100.1,port=pbx -m type=HALF-NAT -o servergroup=sg r1";
  const refused = await cli.run(rule);
  expect([refused.status, refused.stderr]).toEqual([
    1,
    "ilbadm: rule r1: port 1556 (VERITAS_PBX): NetBackup does not support NAT or PAT (TECH15006); use type=DSR, or -F to create the rule anyway\n",
  ]);
  await cli.place.must(rule.replace("-i", "-F -i"));
  await cli.daemon.stop("SIGTERM");
  cli.daemon = await Daemon.start(cli.place);
  expect(await cli.place.must("show-rule -f")).toEndWith("\n      NAT-GUARD: forced\n");
  await cli.shows("show-services -p -o port snmp-trap", "1162/udp\n");
  const newest = Number((await cli.place.must("history -p -o id 1")).trim());
  const dry = await cli.run(`rollback -n ${newest - 2}`);
  expect(dry.stdout).toContain('~ netbackup settings: ports {"services":{"snmp-trap":1162},"windows":{}} -> ');
  await cli.place.must(`rollback ${newest - 2}`);
  await cli.shows("show-services -p -o port snmp-trap", "162/udp\n");
});
