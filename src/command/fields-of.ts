/** The fields that `-o` of each listing knows, in their order. Of show-statistics, those without -i. */
import type { SubcommandName } from "./command.ts";
import {
  AUDIT_FIELDS,
  allFields,
  FLOW_FIELDS,
  GROUP_FIELDS,
  HEALTH_FIELDS,
  HISTORY_FIELDS,
  HOST_FIELDS,
  REACH_FIELDS,
  RESULT_FIELDS,
  RULE_FIELDS,
  SERVER_FIELDS,
  SERVICE_FIELDS,
  STATISTICS_FIELDS,
} from "./fields.ts";

export const FIELDS_OF: Partial<Readonly<Record<SubcommandName, readonly string[]>>> = Object.freeze({
  "show-rule": allFields(RULE_FIELDS),
  "show-servergroup": allFields(GROUP_FIELDS),
  "show-server": allFields(SERVER_FIELDS),
  "show-healthcheck": allFields(HEALTH_FIELDS),
  "show-hc-result": allFields(RESULT_FIELDS),
  "show-statistics": allFields(STATISTICS_FIELDS),
  "show-audit": allFields(AUDIT_FIELDS),
  "show-services": allFields(SERVICE_FIELDS),
  "show-flows": allFields(FLOW_FIELDS),
  "show-host": allFields(HOST_FIELDS),
  "test-connection": allFields(REACH_FIELDS),
  history: allFields(HISTORY_FIELDS),
});
