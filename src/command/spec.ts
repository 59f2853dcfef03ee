/**
 * The one grammar: a row per subcommand with names, options, keys, operands, help, HTTP routes and the right it needs.
 * Parser, printers, usage, JSON and OpenAPI read these rows; a keyword is spelled here and nowhere else.
 */
import type { Right, SubcommandName } from "./command.ts";

/** One HTTP method and path of a subcommand. `{name}` parts are operands or keys. */
export interface Route {
  readonly subcommand: SubcommandName;
  readonly method: "GET" | "POST" | "PATCH" | "PUT" | "DELETE";
  readonly path: string;
  readonly right: Right;
  readonly summary: string;
}
