/** Starts client.ts as a program of its own. */
import { runClient } from "./client.ts";

await runClient(process.argv.slice(2));
