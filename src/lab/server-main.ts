/** Starts server.ts as a program of its own. */
import { runServer } from "./server.ts";

await runServer(process.argv.slice(2));
