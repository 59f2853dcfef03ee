/**
 * Writes docs/commands.md and the manual page man/ilbadm.8 from the grammar. Run it after changing src/command/spec.ts;
 * a test notices when they are stale.
 */
import { join } from "node:path";
import { version } from "../package.json";
import { manualPage } from "../src/command/manual.ts";
import { referenceText } from "../src/command/reference.ts";

const ROOT = join(import.meta.dir, "..");
await Bun.write(join(ROOT, "docs", "commands.md"), referenceText());
await Bun.write(join(ROOT, "man", "ilbadm.8"), manualPage(version));
