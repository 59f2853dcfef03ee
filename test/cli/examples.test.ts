/** The manual's examples with addresses filled in, typed as printed into the real program. */
import { expect, test } from "bun:test";
import { Program } from "../support/program.ts";

const cli = new Program();

const FIRST = [
  "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3, hc-interval=10 hc1",
  "create-servergroup -s server=192.0.2.10:6000-6009,192.0.2.11:7000-7009 sg1",
  "create-rule -e -i vip=198.51.100.10,port=5000-5009,protocol=tcp -m lbalg=rr,type=NAT,proxy-src=203.0.113.1-203.0.113.4, pmask=24 -h hc-name=hc1 -t conn-drain=180,nat-timeout=180,persist-timeout=180 -o servergroup=sg1 rule1",
];

test("examples 1 and 4: port shifting, stickiness, health check, timers; all of it deleted again", async () => {
  await cli.ok(...FIRST);
  await cli.shows(
    "export-config",
    `create-servergroup sg1
add-server -s server=192.0.2.10:6000-6009 sg1
add-server -s server=192.0.2.11:7000-7009 sg1
create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 hc1
create-rule -e -p -i vip=198.51.100.10,port=5000-5009,protocol=tcp -m lbalg=roundrobin,type=NAT,proxy-src=203.0.113.1-203.0.113.4,pmask=/24 -h hc-name=hc1,hc-port=ANY -t conn-drain=180,nat-timeout=180,persist-timeout=180 -o servergroup=sg1 rule1
`,
  );
  await cli.ok("delete-rule -a", "delete-servergroup sg1", "delete-healthcheck hc1");
  await cli.shows("export-config", "");
});

test("example 1, second part: defaults and no health check", async () => {
  await cli.ok(
    "create-servergroup -s server=192.0.2.10 sg1",
    "create-rule -e -i vip=198.51.100.10,port=5000 -m lbalg=rr,type=NAT,proxy-src=203.0.113.5 -o servergroup=sg1 rule1",
    "add-server -e -s server=192.0.2.11 sg1",
    "enable-rule rule1",
  );
  await cli.shows("show-rule -p -o status,servers,nat-timeout", "E:_sg1.0,_sg1.1:120\n");
});

test("example 2: port collapsing, servers after the rule", async () => {
  await cli.ok(
    "create-servergroup sg1",
    "create-rule -e -i vip=198.51.100.10,port=5000-5009 -m lbalg=rr,type=h -o servergroup=sg1 rule1",
    "add-server -s server=192.0.2.10:6000,192.0.2.11:7000 sg1",
  );
  await cli.shows("show-server -p -o serverid,port", "_sg1.0:6000\n_sg1.1:7000\n");
});

test("example 3: two sets of rules, one server in both groups", async () => {
  await cli.ok(
    "create-servergroup -s servers=192.0.2.9,192.0.2.10 websg",
    "create-servergroup -s servers=192.0.2.10,192.0.2.11 ftpgroup",
    "create-rule -e -i vip=198.51.100.10,port=80 -m lbalg=hash-ip-port,type=DSR -o servergroup=websg webrule",
    "create-rule -e -i vip=198.51.100.10,port=ftp -m lbalg=hash-ip-port,type=DSR,pmask=24 -o servergroup=ftpgroup ftprule",
    "create-rule -e -p -i vip=198.51.100.10,port=ftp-data -m lbalg=hash-ip-port,type=DSR,pmask=24 -o servergroup=ftpgroup ftpdatarule",
  );
  await cli.shows("show-rule -p -o rulename,port,pmask", "webrule:80:\nftprule:21:/24\nftpdatarule:20:/24\n");
  await cli.ok("disable-server _websg.1");
  await cli.shows(
    "show-server -p -o serverid,rulename,status",
    "_websg.0:webrule:E\n_websg.1:webrule:D\n_ftpgroup.0:ftprule:E\n_ftpgroup.1:ftprule:E\n_ftpgroup.0:ftpdatarule:E\n_ftpgroup.1:ftpdatarule:E\n",
  );
});

test("example 5: show-rule and show-rule -f", async () => {
  await cli.given(
    "create-servergroup sg1",
    "create-rule -e -i vip=198.51.100.10,port=81 -m lbalg=hip,type=NAT,proxy-src=203.0.113.1 -o servergroup=sg1 r2",
    "create-rule -e -i vip=198.51.100.10,port=80 -m lbalg=hip,type=NAT,proxy-src=203.0.113.1 -o servergroup=sg1 r1",
  );
  await cli.shows(
    "show-rule",
    `RULENAME            STATUS LBALG       TYPE    PROTOCOL VIP         PORT
r2                  E      hash-ip     NAT     TCP  198.51.100.10   81
r1                  E      hash-ip     NAT     TCP  198.51.100.10   80
`,
  );
  await cli.ok("delete-rule -a");
  await cli.given(
    "create-healthcheck -h hc-test=tcp hc1",
    "add-server -s server=192.0.2.10,192.0.2.11 sg1",
    "create-rule -e -i vip=198.51.100.2,port=80 -m type=h -h hc-name=hc1 -o servergroup=sg1 rule1",
  );
  await cli.shows(
    "show-rule -f",
    `       RULENAME: rule1
         STATUS: E
           PORT: 80
       PROTOCOL: TCP
          LBALG: roundrobin
           TYPE: HALF-NAT
      PROXY-SRC: --
          PMASK: --
        HC-NAME: hc1
        HC-PORT: ANY
     CONN-DRAIN: 0
    NAT-TIMEOUT: 120
PERSIST-TIMEOUT: 0
    SERVERGROUP: sg1
            VIP: 198.51.100.2
        SERVERS: _sg1.0,_sg1.1
`,
  );
});

test("examples 8 and 9: health checks listed and deleted", async () => {
  await cli.ok(
    "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=1,hc-interval=10 hc1",
    "create-healthcheck -n -h hc-test=/bin/true,hc-timeout=2,hc-count=1,hc-interval=10 hc2",
  );
  await cli.shows(
    "show-healthcheck",
    `HCNAME        TIMEOUT COUNT   INTERVAL DEF_PING TEST
hc1           2       1       10       Y        tcp
hc2           2       1       10       N        /bin/true
`,
  );
  await cli.ok("delete-healthcheck hc1");
});

test("example 10: show-statistics with chosen columns, and of a server by rule", async () => {
  await cli.given(
    "create-servergroup -s server=192.0.2.10 sg1",
    "create-rule -e -i vip=198.51.100.10,port=80 -m type=DSR -o servergroup=sg1 r1",
  );
  const [totals, items] = await Promise.all([
    cli.place.must("show-stats -o bytes_d,time 1 2"),
    cli.place.must("show-stats -A -s _sg1.0 -it 1 2"),
  ]);
  const time = "\\d{4}-\\d\\d-\\d\\d:\\d\\d\\.\\d\\d\\.\\d\\d";
  expect(totals).toMatch(new RegExp(`^BYTES_D   TIME\\n(0 {9}${time}\\n){2}$`));
  expect(items).toMatch(new RegExp(`^RULENAME            PKT_P   BYTES_P   TIME\\n(r1 {18}0 {7}0 {9}${time}\\n){2}$`));
});

test("example 14: groups as lines and as a table, numbers as adds and removals made them", async () => {
  await cli.given("create-servergroup -s server=192.0.2.2:80,192.0.2.3:80,192.0.2.4:80 sg1");
  await cli.shows(
    "show-servergroup",
    "sg1: id:_sg1.0 192.0.2.2:80\nsg1: id:_sg1.1 192.0.2.3:80\nsg1: id:_sg1.2 192.0.2.4:80\n",
  );
  await cli.ok("delete-servergroup sg1");
  await cli.given(
    "create-servergroup -s server=192.0.2.1 sg1",
    "create-servergroup -s server=192.0.2.5,192.0.2.6 sg2",
    "remove-server -s server=_sg2.0 sg2",
    "create-servergroup -s server=192.0.2.30-192.0.2.38:9001,192.0.2.14-192.0.2.15:9001 sg3",
    "remove-server -s server=_sg3.0,_sg3.1,_sg3.2,_sg3.3,_sg3.4,_sg3.5,_sg3.6,_sg3.7,_sg3.8 sg3",
    "create-servergroup -s server=192.0.2.1:9001-9006 sg4",
  );
  await cli.shows(
    "show-servergroup -o all",
    `sgname         serverID            minport maxport IP_address
sg1            _sg1.0              --      --      192.0.2.1
sg2            _sg2.1              --      --      192.0.2.6
sg3            _sg3.9              9001    9001    192.0.2.14
sg3            _sg3.10             9001    9001    192.0.2.15
sg4            _sg4.0              9001    9006    192.0.2.1
`,
  );
});

test("example 15: show-server of a rule", async () => {
  await cli.given(
    "create-servergroup -s server=192.0.2.10:80,192.0.2.11:80,192.0.2.12:80 sg1",
    "create-rule -e -i vip=198.51.100.10,port=80 -m type=DSR -o servergroup=sg1 r1",
    "disable-server _sg1.2",
  );
  await cli.shows(
    "show-server r1",
    `SERVERID            ADDRESS         PORT RULENAME            STATUS SERVERGROUP
_sg1.0              192.0.2.10      80   r1                  E      sg1
_sg1.1              192.0.2.11      80   r1                  E      sg1
_sg1.2              192.0.2.12      80   r1                  D      sg1
`,
  );
});

test("ILB-226 clients that change at once: the result is that of some order, and nothing is lost", async () => {
  await cli.given("create-servergroup shared");
  const client = async (name: string, net: number): Promise<void> => {
    for (let n = 1; n <= 12; n++) {
      await cli.ok(`add-server -s server=192.0.${net}.${n} shared`);
      if (n % 4 === 0) await cli.ok(`create-servergroup ${name}${n}`);
    }
  };
  await Promise.all([client("a", 2), client("b", 3), client("c", 4)]);
  const ids = (await cli.prepared(["show-sg", "-p", "-o", "serverid", "shared"])).trimEnd().split("\n");
  const numbers = ids.map((id) => Number(id.split(".")[1])).sort((x, y) => x - y);
  expect(numbers).toEqual(Array.from({ length: 36 }, (_, n) => n));
  const groups = new Set((await cli.prepared(["show-sg", "-p", "-o", "sgname"])).trimEnd().split("\n"));
  expect(groups.size).toBe(1 + 9);
  // The history is the order: made again one by one, it gives the same numbers.
  const again = (await cli.prepared(["history", "-p", "-o", "command", "45"])).trimEnd().split("\n");
  await cli.prepared(["import-config"], `create-servergroup shared\n${again.join("\n")}\n`);
  expect((await cli.prepared(["show-sg", "-p", "-o", "serverid", "shared"])).trimEnd().split("\n")).toEqual(ids);
});
