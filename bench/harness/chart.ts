/**
 * One chart per group as an SVG drawing: a bar per row for the median ratio on a logarithmic scale, a whisker for its
 * 95 % interval, ticks for the two goals, a line at 1. Readable on a light and on a dark page. Pure.
 */
import { groupOf } from "../goals.ts";
import type { BenchResult } from "../row.ts";
import { digits } from "./report.ts";

const WIDTH = 860;
const NAME_WIDTH = 190;
const PEER_WIDTH = 230;
const PLOT = { from: NAME_WIDTH + 10, to: WIDTH - PEER_WIDTH - 10 };
const ROW_HEIGHT = 30;
const TOP = 58;
const BOTTOM = 44;

/** Charts and the groups of rows in them. */
const CHARTS: Readonly<Record<string, { readonly title: string; readonly groups: readonly string[] }>> = {
  engine: { title: "Packet engine", groups: ["engine", "memory"] },
  throughput: { title: "TCP throughput and UDP packet rate", groups: ["tcp", "udp"] },
  connections: { title: "Connections and requests per second", groups: ["cps", "rps"] },
  latency: { title: "Round trip, start and management", groups: ["rtt", "start", "http"] },
  health: { title: "Health checks", groups: ["health"] },
};

const STYLE = `
  .page { fill: #ffffff; }
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-size: 16px; font-weight: 600; }
  .quiet { fill: #59636e; font-size: 12px; }
  .better { fill: #1a7f5a; } .worse { fill: #c4622d; }
  .grid { stroke: #d1d9e0; } .one { stroke: #1f2328; stroke-width: 1.5; }
  .whisker { stroke: #1f2328; stroke-width: 1.5; } .goal { stroke: #8250df; stroke-width: 2.5; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; }
    text { fill: #e6edf3; } .quiet { fill: #9198a1; }
    .better { fill: #3fb68b; } .worse { fill: #e08a55; }
    .grid { stroke: #3d444d; } .one, .whisker { stroke: #e6edf3; } .goal { stroke: #b78cff; }
  }`;

const escaped = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** 1, 2 and 5 times the powers of ten in a range. */
function gridValues(low: number, high: number): number[] {
  const from = Math.floor(Math.log10(low));
  const to = Math.ceil(Math.log10(high));
  return Array.from({ length: to - from + 1 }, (_, index) => 10 ** (from + index))
    .flatMap((power) => [power, 2 * power, 5 * power])
    .filter((value) => value >= low * 0.999 && value <= high * 1.001);
}

/** Goals as ratios: of a limit that is the limit that `ratio` refers to, over the goal. */
function goalRatios(result: BenchResult): number[] {
  const goals = [result.first, result.second].flatMap((verdict) => (verdict === null ? [] : [verdict.goal]));
  return result.goalKind === "limit" ? goals.map((goal) => result.peer / goal) : goals;
}

/** Coordinates with one decimal place. */
const at = (value: number): string => value.toFixed(1);

function rowDrawing(result: BenchResult, index: number, x: (ratio: number) => number): string {
  const middle = TOP + index * ROW_HEIGHT + ROW_HEIGHT / 2;
  const [from, to] = [Math.min(x(1), x(result.ratio)), Math.max(x(1), x(result.ratio))];
  const line = (kind: string, x1: number, y1: number, x2: number, y2: number) =>
    `<line class="${kind}" x1="${at(x1)}" y1="${at(y1)}" x2="${at(x2)}" y2="${at(y2)}"/>`;
  const [low, high] = result.ratioInterval;
  const peer = `${digits(result.ours)} against ${digits(result.peer)} ${result.unit}`;
  return [
    `<text x="${NAME_WIDTH}" y="${middle + 4}" text-anchor="end">${escaped(result.id)}</text>`,
    `<rect class="${result.ratio >= 1 ? "better" : "worse"}" x="${at(from)}" y="${middle - 8}" width="${at(Math.max(1.5, to - from))}" height="16"/>`,
    line("whisker", x(low), middle, x(high), middle),
    line("whisker", x(low), middle - 4, x(low), middle + 4),
    line("whisker", x(high), middle - 4, x(high), middle + 4),
    ...goalRatios(result).map((goal) => line("goal", x(goal), middle - 11, x(goal), middle + 11)),
    `<text x="${WIDTH - PEER_WIDTH}" y="${middle - 2}"><tspan font-weight="600">${digits(result.ratio)}</tspan> × ${escaped(result.peerName)}</text>`,
    `<text class="quiet" x="${WIDTH - PEER_WIDTH}" y="${middle + 12}">${escaped(peer)}</text>`,
  ].join("\n  ");
}

/** An SVG document. @param caption machine and date, one line */
export function drawChart(title: string, caption: string, results: readonly BenchResult[]): string {
  const height = TOP + results.length * ROW_HEIGHT + BOTTOM;
  const all = results.flatMap((result) => [result.ratio, ...result.ratioInterval, ...goalRatios(result), 1]);
  const low = Math.min(...all.filter((value) => value > 0)) / 1.15;
  const high = Math.max(...all.filter(Number.isFinite)) * 1.15;
  const scale = (PLOT.to - PLOT.from) / Math.log(high / low);
  const x = (ratio: number) => PLOT.from + Math.log(Math.min(high, Math.max(low, ratio)) / low) * scale;
  const bottom = TOP + results.length * ROW_HEIGHT + 6;
  const grid = gridValues(low, high).map(
    (value) =>
      `<line class="${value === 1 ? "one" : "grid"}" x1="${at(x(value))}" y1="${TOP - 6}" x2="${at(x(value))}" y2="${bottom}"/>
  <text class="quiet" x="${at(x(value))}" y="${bottom + 14}" text-anchor="middle">${value >= 1 ? value : Number(value.toPrecision(1))}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escaped(title)}">
  <style>${STYLE}
  </style>
  <rect class="page" width="${WIDTH}" height="${height}"/>
  <text class="title" x="12" y="22">${escaped(title)}: how many times better than the peer</text>
  <text class="quiet" x="12" y="40">right of 1 is better; whisker: 95 % interval of the median; purple: the two goals; scale logarithmic</text>
  ${grid.join("\n  ")}
  ${results.map((result, index) => rowDrawing(result, index, x)).join("\n  ")}
  <text class="quiet" x="12" y="${height - 8}">${escaped(caption)}</text>
</svg>
`;
}

/** The charts that these results give, by file name. @param caption machine and date, one line */
export function charts(results: readonly BenchResult[], caption: string): Map<string, string> {
  const drawn = new Map<string, string>();
  for (const [name, { title, groups }] of Object.entries(CHARTS)) {
    const rows = results.filter(({ id }) => groups.includes(groupOf(id)));
    if (rows.length > 0) drawn.set(`${name}.svg`, drawChart(title, caption, rows));
  }
  return drawn;
}
