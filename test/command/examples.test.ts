/** The manual's examples, typed as printed. */
import { describe, expect, test } from "bun:test";
import { FakeHost, outputOf, setUp } from "../support/fake-host.ts";

const FIRST = [
  "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3, hc-interval=10 hc1",
  "create-servergroup -s server=192.0.2.10:6000-6009,192.0.2.11:7000-7009 sg1",
  "create-rule -e -i vip=198.51.100.10,port=5000-5009,protocol=tcp -m lbalg=rr,type=NAT,proxy-src=203.0.113.1-203.0.113.4, pmask=24 -h hc-name=hc1 -t conn-drain=180,nat-timeout=180,persist-timeout=180 -o servergroup=sg1 rule1",
];

describe("examples of the manual", () => {
  test("1 and 4: port shifting, stickiness, health check, timers, and everything deleted again", async () => {
    const host = new FakeHost();
    await setUp(host, ...FIRST);
    expect(await outputOf(host, "show-rule")).toBe(
      `RULENAME            STATUS LBALG       TYPE    PROTOCOL VIP         PORT
rule1               E      roundrobin  NAT     TCP  198.51.100.10   5000-5009
`,
    );
    await setUp(host, "delete-rule -a", "delete-servergroup sg1", "delete-healthcheck hc1");
    expect(await outputOf(host, "export-config")).toBe("");
  });

  test("1, second part: defaults, no health check, and a server more", async () => {
    const host = new FakeHost();
    await setUp(
      host,
      "create-servergroup -s server=192.0.2.10 sg1",
      "create-rule -e -i vip=198.51.100.10,port=5000 -m lbalg=rr,type=NAT,proxy-src=203.0.113.5 -o servergroup=sg1 rule1",
      "add-server -e -s server=192.0.2.11 sg1",
      "enable-rule rule1",
    );
    expect(await outputOf(host, "show-rule -p -o servers,nat-timeout")).toBe("_sg1.0,_sg1.1:120\n");
  });

  test("2: port collapsing, servers after the rule", async () => {
    await setUp(
      new FakeHost(),
      "create-servergroup sg1",
      "create-rule -e -i vip=198.51.100.10,port=5000-5009 -m lbalg=rr,type=h -o servergroup=sg1 rule1",
      "add-server -s server=192.0.2.10:6000,192.0.2.11:7000 sg1",
    );
  });

  test("3: two sets of rules, one server in both groups, switched independently", async () => {
    const host = new FakeHost();
    await setUp(
      host,
      "create-servergroup -s servers=192.0.2.9,192.0.2.10 websg",
      "create-servergroup -s servers=192.0.2.10,192.0.2.11 ftpgroup",
      "create-rule -e -i vip=198.51.100.10,port=80 -m lbalg=hash-ip-port,type=DSR -o servergroup=websg webrule",
      "create-rule -e -i vip=198.51.100.10,port=ftp -m lbalg=hash-ip-port,type=DSR,pmask=24 -o servergroup=ftpgroup ftprule",
      "create-rule -e -p -i vip=198.51.100.10,port=ftp-data -m lbalg=hash-ip-port,type=DSR,pmask=24 -o servergroup=ftpgroup ftpdatarule",
      "disable-server _websg.1",
    );
    expect(await outputOf(host, "show-server -p -o serverid,rulename,status")).toBe(
      "_websg.0:webrule:E\n_websg.1:webrule:D\n_ftpgroup.0:ftprule:E\n_ftpgroup.1:ftprule:E\n_ftpgroup.0:ftpdatarule:E\n_ftpgroup.1:ftpdatarule:E\n",
    );
    expect(await outputOf(host, "show-rule -p -o port,pmask")).toBe("80:\n21:/24\n20:/24\n");
  });

  test("5: show-rule in order of creation, and -f of a HALF-NAT rule without -t", async () => {
    const host = new FakeHost();
    await setUp(
      host,
      "create-sg -s server=192.0.2.1 g",
      "create-rule -e -i vip=198.51.100.10,port=81 -m lbalg=hip,type=n,proxy-src=203.0.113.1 -o sg=g r2",
      "create-rule -e -i vip=198.51.100.10,port=80 -m lbalg=hip,type=n,proxy-src=203.0.113.1 -o sg=g r1",
    );
    expect(await outputOf(host, "show-rule")).toBe(
      `RULENAME            STATUS LBALG       TYPE    PROTOCOL VIP         PORT
r2                  E      hash-ip     NAT     TCP  198.51.100.10   81
r1                  E      hash-ip     NAT     TCP  198.51.100.10   80
`,
    );
    const other = new FakeHost();
    await setUp(
      other,
      "create-hc -h hc-test=tcp hc1",
      "create-sg -s server=192.0.2.10,192.0.2.11 sg1",
      "create-rule -e -i vip=198.51.100.2,port=80 -m type=h -h hc-name=hc1 -o sg=sg1 rule1",
    );
    expect(await outputOf(other, "show-rule -f")).toBe(
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

  test("8 and 9: show-healthcheck, delete-healthcheck", async () => {
    const host = new FakeHost();
    await setUp(
      host,
      "create-hc -h hc-test=tcp,hc-timeout=2,hc-count=1,hc-interval=10 hc1",
      "create-hc -n -h hc-test=/opt/probes/probe,hc-timeout=2,hc-count=1,hc-interval=10 hc2",
    );
    expect(await outputOf(host, "show-healthcheck")).toBe(
      `HCNAME        TIMEOUT COUNT   INTERVAL DEF_PING TEST
hc1           2       1       10       Y        tcp
hc2           2       1       10       N        /opt/probes/probe
`,
    );
    await setUp(host, "delete-healthcheck hc1");
  });

  test("14: show-servergroup as lines and as a table", async () => {
    const host = new FakeHost();
    await setUp(host, "create-sg -s server=192.0.2.2-192.0.2.4:80 sg1");
    expect(await outputOf(host, "show-servergroup")).toBe(
      "sg1: id:_sg1.0 192.0.2.2:80\nsg1: id:_sg1.1 192.0.2.3:80\nsg1: id:_sg1.2 192.0.2.4:80\n",
    );
    const other = new FakeHost();
    await setUp(
      other,
      "create-sg -s server=192.0.2.1 sg1",
      "create-sg -s server=192.0.2.5,192.0.2.6 sg2",
      "remove-server -s server=_sg2.0 sg2",
      "create-sg -s server=192.0.2.100-192.0.2.108,192.0.2.14:9001,192.0.2.15:9001 sg3",
      "remove-server -s server=_sg3.0,_sg3.1,_sg3.2,_sg3.3,_sg3.4,_sg3.5,_sg3.6,_sg3.7,_sg3.8 sg3",
      "create-sg -s server=192.0.2.1:9001-9006 sg4",
    );
    expect(await outputOf(other, "show-servergroup -o all")).toBe(
      `sgname         serverID            minport maxport IP_address
sg1            _sg1.0              --      --      192.0.2.1
sg2            _sg2.1              --      --      192.0.2.6
sg3            _sg3.9              9001    9001    192.0.2.14
sg3            _sg3.10             9001    9001    192.0.2.15
sg4            _sg4.0              9001    9006    192.0.2.1
`,
    );
  });

  test("15: show-server", async () => {
    const host = new FakeHost();
    await setUp(
      host,
      "create-sg -s server=192.0.2.10-192.0.2.12:80 sg1",
      "create-rule -i vip=198.51.100.1,port=80 -m type=d -o sg=sg1 r1",
      "disable-server _sg1.2",
    );
    expect(await outputOf(host, "show-server r1")).toBe(
      `SERVERID            ADDRESS         PORT RULENAME            STATUS SERVERGROUP
_sg1.0              192.0.2.10      80   r1                  E      sg1
_sg1.1              192.0.2.11      80   r1                  E      sg1
_sg1.2              192.0.2.12      80   r1                  D      sg1
`,
    );
  });
});
