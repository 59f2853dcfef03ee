/**
 * docs/commands.md, written from the rows of spec.ts, so that the reference says what the parser does. The examples are
 * run by a test. Writes no file: scripts/commands-doc.ts does.
 */

import { allFields, RULE_ITEM_FIELDS } from "./fields.ts";
import { FIELDS_OF } from "./fields-of.ts";
import type { AnyKey, OptionSpec } from "./options.ts";
import { FRAME_WORDS, SUBCOMMANDS, type SubcommandSpec } from "./spec.ts";

/** Lines that run one after the other, beginning with an empty configuration, and what the last one prints. */
export interface Example {
  readonly title: string;
  readonly lines: readonly string[];
  readonly output: string;
}

export const EXAMPLES: readonly Example[] = Object.freeze([
  {
    title: "Three web servers behind one address, translated both ways",
    lines: [
      "create-servergroup -s server=192.0.2.10-192.0.2.12:8080 web",
      "create-rule -e -i vip=198.51.100.10,port=80 -m lbalg=rr,type=NAT,proxy-src=203.0.113.1 -o servergroup=web www",
      "show-rule",
    ],
    output: `RULENAME            STATUS LBALG       TYPE    PROTOCOL VIP         PORT
www                 E      roundrobin  NAT     TCP  198.51.100.10   80
`,
  },
  {
    title: "Many ports to one, servers added later",
    lines: [
      "create-servergroup sg1",
      "create-rule -e -i vip=198.51.100.10,port=5000-5009 -m type=HALF-NAT -o servergroup=sg1 rule1",
      "add-server -s server=192.0.2.10:6000,192.0.2.11:7000 sg1",
      "show-server",
    ],
    output: `SERVERID            ADDRESS         PORT RULENAME            STATUS SERVERGROUP
_sg1.0              192.0.2.10      6000 rule1               E      sg1
_sg1.1              192.0.2.11      7000 rule1               E      sg1
`,
  },
  {
    title: "Taking a server out for maintenance",
    lines: [
      "create-servergroup -s server=192.0.2.10,192.0.2.11 sg1",
      "create-rule -e -i vip=198.51.100.10,port=80 -m lbalg=hip,type=DSR -o servergroup=sg1 r1",
      "disable-server _sg1.0",
      "show-server -p -o serverid,status",
    ],
    output: "_sg1.0:D\n_sg1.1:E\n",
  },
  {
    title: "IPv6, clients that stay with their server, a health check",
    lines: [
      "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 hc1",
      "create-servergroup -s server=[2001:db8::10]-[2001:db8::11]:53 dns",
      "create-rule -e -i vip=2001:db8:1::1,port=53,protocol=tcp -m lbalg=hipp,type=HALF-NAT,pmask=64 -h hc-name=hc1 -o servergroup=dns resolver",
      "export-config",
    ],
    output: `create-servergroup dns
add-server -s server=[2001:db8::10]:53 dns
add-server -s server=[2001:db8::11]:53 dns
create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 hc1
create-rule -e -p -i vip=2001:db8:1::1,port=53,protocol=tcp -m lbalg=hash-ip-port,type=HALF-NAT,pmask=/64 -h hc-name=hc1,hc-port=ANY -t nat-timeout=120,persist-timeout=60 -o servergroup=dns resolver
`,
  },
]);

const cell = (text: string): string => text.replaceAll("|", "\\|");
const code = (text: string): string => `\`${text}\``;

function keyRow(option: OptionSpec, key: AnyKey): string {
  const names = [key.key, ...key.aliases].map(code).join(", ");
  return `| ${code(`-${option.letter}`)} | ${names} | ${cell(key.codec.help)} | ${key.fallback ?? ""} | ${cell(key.help)} |`;
}

function optionRows(option: OptionSpec): string[] {
  if (option.kind === "keys") return option.keys.map((key) => keyRow(option, key));
  const value = option.kind === "text" ? option.placeholder : "";
  return [`| ${code(`-${option.letter}`)} | | ${cell(value)} | | ${cell(option.help)} |`];
}

function section(spec: SubcommandSpec): string[] {
  const names = spec.short === spec.long ? code(spec.long) : `${code(spec.long)}, ${code(spec.short)}`;
  const lines = [`### ${spec.long}`, "", `${spec.summary}. Names: ${names}. Right: ${spec.right}.`, ""];
  lines.push("```", `ilbadm ${spec.long} ${spec.synopsis}`.trim(), "```", "");
  if (spec.options.length > 0) {
    lines.push("| Option | Key | Value | Default | Meaning |", "| --- | --- | --- | --- | --- |");
    lines.push(...spec.options.flatMap(optionRows), "");
  }
  const fields = FIELDS_OF[spec.long];
  if (fields !== undefined) {
    lines.push(`Fields: ${fields.map(code).join(" ")}.`);
    if (spec.long === "show-statistics") lines.push(`With \`-i\`: ${allFields(RULE_ITEM_FIELDS).map(code).join(" ")}.`);
    lines.push("");
  }
  const routes = spec.routes.map((route) => {
    const body =
      typeof route.body === "object" && route.body !== null ? ` with ${code(JSON.stringify(route.body))}` : "";
    return code(`${route.method} ${route.path}`) + body;
  });
  if (routes.length > 0) lines.push(`HTTP: ${routes.join(", ")}.`, "");
  return lines;
}

function exampleLines({ title, lines, output }: Example): string[] {
  return [`### ${title}`, "", "```", ...lines.map((line) => `# ilbadm ${line}`), output.trimEnd(), "```", ""];
}

const INTRODUCTION = `<!-- Written by scripts/commands-doc.ts from src/command/spec.ts. Do not edit. -->
# Commands

\`ilbadm SUBCOMMAND [options] [operands]\`. Subcommands have a long and a short name and match in any case, as do keys and the names of objects. Options are single letters and may be clustered; the first operand ends them. An argument of the form \`key=value[,key=value...]\` is one word, or goes on in the next word after a comma. Exit status is 0, or 1 with a line on standard error that begins with \`ilbadm: \`; 2 when a dry run (\`-n\`) found differences.

Listings print a table; \`-o FIELD,...\` chooses the columns and \`-p\` with it prints them for programs: no header, fields joined with \`:\`, with \`\\\` before \`:\` and \`\\\` in a value (but not when there is one field only). The same commands, without \`ilbadm\`, are the lines of the files that \`import-config\` reads and \`export-config\` writes. In JSON the keys are the property names.
`;

const LEADING_OPTIONS = [
  "- `--socket PATH`, `--url URL`, `--token-file FILE`: which daemon.",
  "- `--json`: the same as behind a show subcommand.",
  "- `--pretty`: tables aligned to their contents, with colours on a terminal.",
  "- `--watch[=SECONDS]`: a show command again and again, every 2 seconds.",
];

/** The whole document. */
export function referenceText(): string {
  return [
    INTRODUCTION,
    "## Examples",
    "",
    ...EXAMPLES.flatMap(exampleLines),
    "## Subcommands",
    "",
    ...Object.values(SUBCOMMANDS).flatMap(section),
    "## Without the daemon",
    "",
    ...Object.values(FRAME_WORDS).map(
      ({ word, synopsis, summary }) => `- ${code(`ilbadm ${word} ${synopsis}`)}: ${summary}.`,
    ),
    "",
    "## Options before the subcommand",
    "",
    ...LEADING_OPTIONS,
  ]
    .join("\n")
    .replace(/\n+$/, "\n");
}
