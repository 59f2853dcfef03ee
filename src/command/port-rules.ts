/**
 * How the ports of a rule and of its servers go together: shifting (range to range of the same size), collapsing (range
 * to one port), and where a health check may probe.
 */
import { sameAddress } from "../model/address.ts";
import type { PortRange, Rule } from "../model/config.ts";
import { portCount } from "../model/lookup.ts";
import { ok, type Result } from "../model/result.ts";
import { failed } from "./errors.ts";

/** What the checks need of a rule that exists or is to be created. */
type PortRule = Pick<Rule, "type" | "ports" | "healthCheckPort">;

/** `ALL` probes every port of a range, so the range must stay small. */
const MAX_PROBED_PORTS = 1024;

const isRange = (ports: PortRange): boolean => ports.min !== ports.max;
const samePorts = (a: PortRange, b: PortRange): boolean => a.min === b.min && a.max === b.max;

/** `mapping`: the rule's type cannot carry this difference. `shape`: one port against a range, or ranges of other sizes. */
type Fit = "fits" | "mapping" | "shape";

function fit(rule: PortRule, server: PortRange | null): Fit {
  if (server === null || samePorts(rule.ports, server)) return "fits";
  const ruleIsRange = isRange(rule.ports);
  const serverIsRange = isRange(server);
  if (rule.type === "DSR") return ruleIsRange === serverIsRange ? "mapping" : "shape";
  if (!serverIsRange) return "fits"; // P -> Q, or collapsing
  return ruleIsRange && portCount(rule.ports) === portCount(server) ? "fits" : "shape";
}

type ProbeFit = "fits" | "outside" | "too-many";

function fitProbe(rule: PortRule, server: PortRange | null): ProbeFit {
  const ports = server ?? rule.ports;
  const probed = rule.healthCheckPort;
  if (probed === "ALL") return portCount(ports) > MAX_PROBED_PORTS ? "too-many" : "fits";
  if (typeof probed !== "number") return "fits";
  return probed >= ports.min && probed <= ports.max ? "fits" : "outside";
}

/** For create-rule: every refusal of one server's ports is E-BADSG, too many probed ports E-EINVAL. */
export function checkRulePorts(rule: PortRule, server: PortRange | null): Result<void> {
  const probe = fitProbe(rule, server);
  if (fit(rule, server) !== "fits" || probe === "outside") return failed("E-BADSG");
  return probe === "too-many" ? failed("E-EINVAL") : ok(undefined);
}

/** For add-server: E-BADPORT where a port would have to be translated or is not probed, E-INVALSRVR for another shape. */
export function checkAddedServerPorts(rule: PortRule, server: PortRange | null): Result<void> {
  const ports = fit(rule, server);
  if (ports !== "fits") return failed(ports === "mapping" ? "E-BADPORT" : "E-INVALSRVR");
  const probe = fitProbe(rule, server);
  if (probe === "outside") return failed("E-BADPORT");
  return probe === "too-many" ? failed("E-EINVAL") : ok(undefined);
}

/** Two rules that would match the same packet: one VIP, one protocol, intersecting ports. */
export function overlaps(
  a: Pick<Rule, "vip" | "protocol" | "ports">,
  b: Pick<Rule, "vip" | "protocol" | "ports">,
): boolean {
  return (
    a.ports.min <= b.ports.max && b.ports.min <= a.ports.max && a.protocol === b.protocol && sameAddress(a.vip, b.vip)
  );
}
