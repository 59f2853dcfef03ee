/**
 * Damaged command lines and import files: whatever somebody types, nothing throws, and what is refused leaves the
 * configuration as it was. A few thousand inputs; a million with ILB_TEST_FULL=1.
 */
import { expect, test } from "bun:test";
import { findSubcommand, SUBCOMMANDS } from "../../src/command/spec.ts";
import { isFullRun } from "../support/capabilities.ts";
import { objections } from "../support/changes.ts";
import { type Answer, FakeHost, ilbadm } from "../support/fake-host.ts";
import { propertySeed, Random } from "../support/random.ts";

const seed = propertySeed();
const LINES = isFullRun ? 900_000 : 8_000;
const FILES = isFullRun ? 100_000 : 1_200;

/** What lines are made of before they are damaged. Several work on the configuration below. */
const MODELS = [
  "create-rule -e -p -i vip=198.51.100.10,port=5000-5009,protocol=tcp -m lbalg=rr,type=NAT,proxy-src=203.0.113.1-203.0.113.4,pmask=24 -h hc-name=hc1,hc-port=ANY -t conn-drain=180,nat-timeout=180,persist-timeout=180 -o servergroup=sg1 rule1",
  "create-rule -i vip=2001:db8::1,port=http -m type=h -o sg=sg6 rule6",
  "create-rule -i vip=198.51.100.77,port=80,protocol=udp -m algo=hipv,topo=d -o sg=sg1 r7",
  "delete-rule r1 r2",
  "delete-rule -a",
  "enable-rule r1 nosuch",
  "disable-rule",
  "create-servergroup -s server=192.0.2.10-192.0.2.14:8080,[2001:db8::1]-[2001:db8::3]:80,web-1:http sgn",
  "delete-servergroup sg2",
  "add-server -s server=192.0.2.20:6000-6009,192.0.2.21 sg2",
  "remove-server -s server=_sg1.0,_sg1.1 sg1",
  "enable-server _sg1.0 _sg1.1",
  "disable-server _sg1.0",
  "create-healthcheck -n -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 hcn",
  "delete-healthcheck hc1 hc2",
  "show-rule -f r1",
  "show-rule -p -o rulename,vip,port -e r1 r2",
  "show-rule --json",
  "show-servergroup -o all",
  "show-server -p -o serverid,hostname r1",
  "show-healthcheck hc1",
  "show-hc-result r1",
  "show-statistics -p -o pkt_p,time -A -r r1 -i 1 2",
  "show-statistics -tv 1 2",
  "show-nat 5",
  "show-persist",
  "show-audit -o all 3",
  "history",
  "rollback -n 0",
  "export-config",
  "import-config -p -n -",
  "explain -i src=192.0.2.1,dst=198.51.100.1,sport=1,dport=80",
  "help create-rule",
].map((line) => line.split(" "));

const TOKENS = [
  ...Object.keys(SUBCOMMANDS),
  ..."-e -p -i -m -h -t -o -a -s -f -v -d -A -n -r -z -- - --json --help -ep -oall".split(" "),
  ..."vip= port=80 port=0 port=65536 port=-1 port=1-65535 pmask=0 pmask=129 =x a=b , ,, server=".split(" "),
  ..."server=[ server=[]:1 server=[::1]-[::2]: server=a-b:c-1 type=n type=DSR hc-test=/ hc-name=hc1".split(" "),
  ..."r1 R1 sg1 SG1 _sg1.0 _sg1.999 _.0 _ 0 1 -1 99999999999999999999 é \u0000 \u001b[2J __proto__ constructor".split(
    " ",
  ),
  "",
  "x".repeat(300),
];
const CHARACTERS = [..."=,:[]-_./%@ \t\\#*0123456789abcxyzAZ\u0000é\u{1f600}"];

class Damage {
  constructor(private readonly random: Random) {}

  pick<T>(list: readonly T[]): T {
    return list[this.random.below(list.length)] as T;
  }

  word(word: string): string {
    const at = this.random.below(word.length + 1);
    const length = this.random.below(3);
    const inserted = this.random.chance(0.6) ? this.pick(CHARACTERS) : "";
    return word.slice(0, at) + inserted + word.slice(at + length);
  }

  words(words: readonly string[]): string[] {
    const out = [...words];
    for (let times = this.random.below(4); times > 0; times--) {
      const at = this.random.below(out.length + 1);
      const kind = this.random.below(6);
      if (kind === 0) out.splice(at, 1);
      else if (kind === 1) out.splice(at, 0, this.pick(TOKENS));
      else if (kind === 2) out[at] = this.pick(TOKENS);
      else if (kind === 3 && out[at] !== undefined) out[at] = this.word(out[at]);
      else if (kind === 4) out.splice(at, 0, ...this.pick(MODELS).slice(1, 3));
      else if (out.length > 1) out.push(out.splice(this.random.below(out.length), 1)[0] ?? "");
    }
    return out.map((word) => word ?? "");
  }
}

const BASE = [
  "create-servergroup -s server=192.0.2.10,192.0.2.11 sg1",
  "create-servergroup sg2",
  "create-servergroup -s server=[2001:db8::10]:80 sg6",
  "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 hc1",
  "create-healthcheck -h hc-test=ping,hc-rise=2,hc-fall=3,hc-initial=down,hc-panic=50,hc-passive=no hc2",
  "create-rule -e -i vip=198.51.100.1,port=80 -m type=DSR -h hc-name=hc1 -o servergroup=sg1 r1",
  "create-rule -i vip=198.51.100.1,port=81 -m type=NAT,proxy-src=203.0.113.9 -o servergroup=sg1 r2",
];

/** How a caller leaves who has seen one sample of an endless listing. */
const GONE = new Error("the caller has gone");

/** What is said beside a change that was made: set-port -f finds no key in an empty text, for one. */
const REMARKS = /^(ilbadm: (notice|warning): .*\n)+$/;

type Outcome = Pick<Answer, "exit" | "stdout" | "stderr">;

async function runLine(host: FakeHost, words: string | readonly string[], input = ""): Promise<Outcome> {
  try {
    return await ilbadm(host, words, { input });
  } catch (error) {
    if (error === GONE) return { exit: 0, stdout: "", stderr: "" };
    throw error;
  }
}

async function base(): Promise<FakeHost> {
  const host = new FakeHost();
  host.hosts.set("web-1", "192.0.2.77");
  host.healthResults = () => [];
  host.whileSleeping = () => {
    throw GONE;
  };
  const { exit, stderr } = await ilbadm(host, "import-config", { input: BASE.join("\n") });
  expect({ exit, stderr }).toEqual({ exit: 0, stderr: "" });
  return host;
}

/** Subcommands whose operands are changes of their own: what came before the one that fails stays. */
const isRow = (name: string): boolean => {
  const spec = findSubcommand(name);
  const one = [
    "create-rule",
    "create-servergroup",
    "create-healthcheck",
    "delete-servergroup",
    "import-config",
    "rollback",
  ];
  return spec !== undefined && spec.right !== "show" && !one.includes(spec.long);
};

test(
  `damaged command lines: nothing throws, and what is refused changes nothing (seed ${seed})`,
  async () => {
    const damage = new Damage(new Random(seed));
    let host = await base();
    let done = 0;
    for (let n = 0; n < LINES; n++) {
      const words = damage.words(damage.pick(MODELS));
      const before = host.config();
      const { exit, stdout, stderr } = await runLine(host, words);
      const after = host.config();
      const said = JSON.stringify(words);
      if (exit === 0) done++;
      if (![0, 1, 2].includes(exit)) throw new Error(`${said}: status ${exit}`);
      const isRemarked = exit === 0 && REMARKS.test(stderr);
      if ((exit === 1) !== (stderr !== "") && !isRemarked) throw new Error(`${said}: status ${exit}, stderr ${stderr}`);
      if (stderr !== "" && !/^(ilbadm: |Usage:)/.test(stderr)) throw new Error(`${said}: ${stderr}`);
      if (exit !== 0 && !isRow(words[0] ?? "") && after !== before) throw new Error(`${said}: refused, yet it changed`);
      if (after !== before && stdout !== "") throw new Error(`${said}: changed and printed ${stdout}`);
      if (after !== before && objections(after).length > 0) throw new Error(`${said}: ${objections(after)[0]}`);
      if (after.rules.length === 0 || n % 50 === 0) host = await base();
    }
    // The damage is light enough that many lines still do something.
    expect(done).toBeGreaterThan(LINES / 20);
  },
  isFullRun ? 1_800_000 : 60_000,
);

test(
  `damaged import files: refused as a whole, or imported so that the export imports the same (seed ${seed})`,
  async () => {
    const random = new Random(seed ^ 0x5a5a5a);
    const damage = new Damage(random);
    const host = await base();
    let imported = 0;
    for (let n = 0; n < FILES; n++) {
      const lines = [...BASE, ...(random.chance(0.5) ? [damage.pick(MODELS).join(" ")] : [])];
      for (let times = random.below(3); times > 0; times--) {
        const at = random.below(lines.length);
        const kind = random.below(5);
        if (kind === 0) lines[at] = damage.words((lines[at] ?? "").split(" ")).join(" ");
        else if (kind === 1) lines.splice(at, 1);
        else if (kind === 2) lines.splice(at, 0, damage.words(damage.pick(MODELS)).join(" "));
        else if (kind === 3) lines[at] = damage.word(lines[at] ?? "");
        else lines.splice(at, 0, damage.pick(["#", "", "\\", "# \\", "\t", "\r", "show-rule"]));
      }
      const text = lines.join(damage.pick(["\n", "\r\n", "\n\n", " \\\n"]));
      const before = host.config();
      const { exit, stderr } = await runLine(host, random.chance(0.3) ? "import-config -p" : "import-config", text);
      if (exit !== 0) {
        if (host.config() !== before) throw new Error(`refused, yet it changed: ${JSON.stringify(text)}`);
        if (!/^ilbadm: -: line \d+: /.test(stderr)) throw new Error(`no line is named: ${stderr}`);
        continue;
      }
      imported++;
      const wrong = objections(host.config());
      if (wrong.length > 0) throw new Error(`${wrong[0]}: ${JSON.stringify(text)}`);
      const exported = (await ilbadm(host, "export-config")).stdout;
      const copy = new FakeHost();
      const again = await ilbadm(copy, "import-config", { input: exported });
      if (again.exit !== 0) throw new Error(`${again.stderr} from ${JSON.stringify(exported)}`);
      expect((await ilbadm(copy, "export-config")).stdout).toBe(exported);
    }
    expect(imported).toBeGreaterThan(FILES / 20);
  },
  isFullRun ? 1_800_000 : 60_000,
);
