/**
 * Live statistics: reads `v1/statistics/stream`, keeps two minutes of rates, draws numbers and lines. Plain DOM, no
 * library, nothing from elsewhere; text goes in as textContent only.
 */

const KEEP = 120;
const KEEP_EVENTS = 20;
/** How often the flow policy is asked for, milliseconds. */
const POLICY_MS = 5000;
const histories = new Map();
let previous = null;
/** The id of the last health event: what comes after a break begins behind it. */
let lastEvent = null;

const element = (id) => document.getElementById(id);
const scales = [
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
];

function short(value) {
  const scale = scales.find(([limit]) => value >= limit);
  if (!scale) return String(Math.round(value));
  const scaled = value / scale[0];
  return `${scaled.toFixed(scaled < 10 ? 2 : scaled < 100 ? 1 : 0)} ${scale[1]}`;
}

/** Difference of two counters per second; a counter that began anew counts from zero. */
function rate(now, before, seconds) {
  if (before === undefined) return 0;
  const change = BigInt(now) - BigInt(before);
  return change < 0n || seconds <= 0 ? 0 : Number(change) / seconds;
}

function remember(key, value) {
  const history = histories.get(key) ?? [];
  history.push(value);
  if (history.length > KEEP) history.shift();
  histories.set(key, history);
  return history;
}

function draw(svg, history) {
  const top = Math.max(...history, 1);
  const step = 100 / (KEEP - 1);
  const start = 100 - (history.length - 1) * step;
  const points = history.map((value, i) => `${(start + i * step).toFixed(2)},${(29 - (value / top) * 28).toFixed(2)}`);
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  let path = svg.firstElementChild;
  if (!path) {
    path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    svg.append(path);
  }
  path.setAttribute("d", `M${points.join("L")}`);
}

function row(body, key, kind, cells, history) {
  let line = [...body.rows].find((candidate) => candidate.dataset.key === key);
  if (!line) {
    line = document.createElement("tr");
    line.dataset.key = key;
    for (const [, className] of cells) {
      const cell = document.createElement("td");
      cell.className = className;
      line.append(cell);
    }
    if (history) {
      const cell = document.createElement("td");
      cell.className = "plot-cell";
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("class", "plot");
      cell.append(svg);
      line.append(cell);
    }
  }
  line.className = kind;
  cells.forEach(([text], i) => {
    if (line.cells[i].textContent !== text) line.cells[i].textContent = text;
  });
  if (history) draw(line.querySelector("svg"), history);
  return line;
}

function show(statistics) {
  const before = previous;
  previous = statistics;
  const seconds = before ? (Date.parse(statistics.time) - Date.parse(before.time)) / 1000 : 0;
  const flows = new Map(statistics.pairs.map((pair) => [`${pair.rule} ${pair.server}`, pair.flows]));
  const oldRules = new Map((before?.rules ?? []).map((rule) => [rule.name, rule]));
  const lines = [];
  let allBits = 0;
  const body = element("rules").tBodies[0];
  for (const rule of statistics.rules) {
    const oldServers = new Map((oldRules.get(rule.name)?.servers ?? []).map((server) => [server.id, server]));
    const servers = rule.servers.map((server) => {
      const old = oldServers.get(server.id);
      return {
        ...server,
        flows: flows.get(`${rule.name} ${server.id}`) ?? 0,
        pps: rate(server.pkt_p, old?.pkt_p, seconds),
        bps: 8 * rate(server.bytes_p, old?.bytes_p, seconds),
      };
    });
    const sum = (pick) => servers.reduce((total, server) => total + pick(server), 0);
    const bits = sum((server) => server.bps);
    allBits += bits;
    const total = servers.reduce((all, server) => all + BigInt(server.pkt_p), 0n);
    const cells = (name, pps, bps, flows, packets) => [
      [name, ""],
      [short(pps), "number"],
      [short(bps), "number"],
      [String(flows), "number optional"],
      [packets.toString(), "number optional"],
    ];
    const ruleKey = `rule ${rule.name}`;
    const own = cells(
      rule.name,
      sum((server) => server.pps),
      bits,
      sum((server) => server.flows),
      total,
    );
    lines.push(row(body, ruleKey, "rule", own, remember(ruleKey, bits)));
    for (const server of servers) {
      const key = `${ruleKey} ${server.id}`;
      const values = cells(server.id, server.pps, server.bps, server.flows, server.pkt_p);
      lines.push(row(body, key, "server", values, remember(key, server.bps)));
    }
  }
  body.replaceChildren(...lines);
  element("no-rules").hidden = statistics.rules.length > 0;
  showReasons(statistics, before, seconds);
  tile("packets", rate(statistics.packets_in, before?.packets_in, seconds));
  tile("bits", allBits);
  tile("flows", statistics.flows);
}

function showReasons(statistics, before, seconds) {
  const old = new Map((before?.reasons ?? []).map((entry) => [entry.reason, entry.packets]));
  const body = element("reasons").tBodies[0];
  let drops = 0;
  const lines = statistics.reasons.map((entry) => {
    const perSecond = before ? rate(entry.packets, old.get(entry.reason) ?? "0", seconds) : 0;
    if (entry.verdict.toLowerCase() === "drop") drops += perSecond;
    const cells = [
      [entry.verdict, ""],
      [entry.meaning || entry.reason, ""],
      [short(perSecond), "number"],
      [entry.packets, "number"],
    ];
    return row(body, entry.reason, entry.verdict.toLowerCase(), cells, null);
  });
  body.replaceChildren(...lines);
  tile("drops", drops);
}

/** The newest change of somebody's health on top. */
function showHealth(event) {
  const change = event.kind === "status" ? `${event.from} → ${event.to}` : event.kind;
  const isBad = event.kind === "panic" || event.to === "dead" || event.to === "unreach";
  const cells = [
    [new Date(event.time).toLocaleTimeString(), ""],
    [event.rule, ""],
    [event.server ?? "all servers", ""],
    [change, ""],
    [event.reason ?? "", "optional"],
  ];
  const body = element("health").tBodies[0];
  body.prepend(row(body, `${event.time} ${event.text}`, isBad ? "failing" : "", cells, null));
  while (body.rows.length > KEEP_EVENTS) body.lastElementChild.remove();
  element("no-health").hidden = true;
}

/** A few names, and how many more. */
const some = (names) =>
  names.length <= 3 ? names.join(", ") : `${names.slice(0, 2).join(", ")} and ${names.length - 2} more`;
const PROTOCOLS = { 1: "icmp", 6: "tcp", 17: "udp", 58: "icmp" };

/** The flow policy: what may pass and how often it did, and what was refused. Hidden where no host is bound. */
function showPolicy(policy) {
  element("policy").hidden = policy.hosts === 0;
  element("policy-mode").textContent = policy.mode;
  const refusals = policy.counters.refusals.map(({ refusal, packets }) => `${packets} ${refusal}`);
  element("policy-refusals").textContent = refusals.join(", ");
  const counts = new Map(policy.counters.flows.map(({ flow, packets }) => [flow, packets]));
  const permitted = element("permitted").tBodies[0];
  permitted.replaceChildren(
    ...policy.flows.map((one) => {
      const cells = [
        [some(one.source), ""],
        [some(one.destination), ""],
        [`${one.port}/${one.protocol}`, "number"],
        [counts.get(one.flow) ?? "0", "number"],
        [one.flow, "optional"],
      ];
      const key = `${one.flow} ${one.source[0]} ${one.destination[0]} ${one.port} ${one.protocol}`;
      return row(permitted, key, "", cells, null);
    }),
  );
  const refused = element("refused").tBodies[0];
  refused.replaceChildren(
    ...policy.refused.map((one) => {
      const port = one.refusal === "reply-is-syn" ? `from ${one.sourcePort}` : (one.destinationPort ?? "–");
      const cells = [
        [one.source, ""],
        [one.destination, ""],
        [`${port}/${PROTOCOLS[one.protocol] ?? one.protocol}`, "number"],
        [one.packets, "number"],
        [one.refusal, "optional"],
      ];
      return row(
        refused,
        `${one.source} ${one.destination} ${port} ${one.protocol} ${one.refusal}`,
        "refused",
        cells,
        null,
      );
    }),
  );
  element("no-refused").hidden = policy.refused.length > 0;
}

/** Asks for the flow policy; what goes wrong, the stream tells too. */
async function askPolicy() {
  const token = sessionStorage.getItem("token");
  const headers = { accept: "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch("v1/netbackup/policy", { headers, cache: "no-store" });
  if (answer.ok) showPolicy(await answer.json());
}

function tile(id, value) {
  element(id).textContent = short(value);
  draw(element(`${id}-plot`), remember(`tile ${id}`, value));
}

function say(text, bad) {
  element("status").textContent = text;
  element("status").className = bad ? "bad" : "";
}

/** One event of the stream: statistics, or of type health; of others that may come nothing is known here. */
function take(event) {
  const fields = new Map(event.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
  const type = fields.get("event") ?? "message";
  if (type === "health") {
    lastEvent = fields.get("id");
    showHealth(JSON.parse(fields.get("data")));
  }
  if (type !== "message" || !fields.has("data")) return;
  show(JSON.parse(fields.get("data")));
  say("live", false);
}

/** Follows the stream until it breaks. Not EventSource: that cannot send a token. */
async function follow() {
  const token = sessionStorage.getItem("token");
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  if (lastEvent) headers["last-event-id"] = lastEvent;
  const answer = await fetch("v1/statistics/stream", { headers, cache: "no-store" });
  element("login").hidden = answer.status !== 401;
  if (!answer.ok) throw new Error(answer.status === 401 ? "a token is needed" : `HTTP status ${answer.status}`);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) throw new Error("the connection ended");
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) take(event);
  }
}

element("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", new FormData(event.target).get("token"));
});

setInterval(() => void askPolicy().catch(() => undefined), POLICY_MS);
void askPolicy().catch(() => undefined);

for (;;) {
  await follow().catch((error) => say(error.message, true));
  previous = null;
  await new Promise((resolve) => setTimeout(resolve, 1000));
}
