/** Writes docs/commands.md from the grammar. Run it after changing src/command/spec.ts; a test notices when it is stale. */
import { join } from "node:path";
import { referenceText } from "../src/command/reference.ts";

await Bun.write(join(import.meta.dir, "..", "docs", "commands.md"), referenceText());
