/** ilbd: chooses the program by its first word. Each is loaded only when it is asked for. */
import { parseRunOptions, RUN_USAGE } from "./daemon-options.ts";
import { VERSION } from "./version.ts";
import { WorkerTeam } from "./worker/workers.ts";

const USAGE = `Usage: ilbd run [OPTION...]     the load balancer
       ilbd demo [OPTION...]    a laboratory with real servers and real requests
       ilbd replay OPTION...    the same engine over a capture file
       ilbd token VERB ...      bearer tokens of --token-file; 'ilbd token --help' says more
       ilbd --help | --version

${RUN_USAGE}`;

async function main(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv;
  switch (command) {
    case "run": {
      if (rest.includes("--help")) return print(RUN_USAGE);
      const options = parseRunOptions(rest);
      if (!options.ok) return complain(options.failure.text);
      // They warm up while the rest is loaded and put together.
      const team = options.value.io === "none" ? null : WorkerTeam.spawn(options.value.workers);
      const { runDaemon } = await import("./daemon.ts");
      return runDaemon(options.value, team);
    }
    case "demo": {
      const { runDemo } = await import("./demo/main.ts");
      return runDemo(rest);
    }
    case "replay": {
      const { runReplay } = await import("./replay/main.ts");
      return runReplay(rest);
    }
    case "token": {
      const { runToken, TOKEN_USAGE } = await import("./http/token-command.ts");
      if (rest.includes("--help")) return print(TOKEN_USAGE);
      const done = runToken(rest);
      return done.ok ? print(done.value) : complain(done.failure.text);
    }
    case "--help":
    case "-h":
    case "help":
      return print(USAGE);
    case "--version":
    case "-V":
      return print(`ilbd ${VERSION}\n`);
    case undefined:
      return complain("a command is needed: run, demo, replay or token; 'ilbd --help' says more");
    default:
      return complain(
        `unknown ${command.startsWith("-") ? "option" : "command"} ${command}; 'ilbd --help' lists what there is`,
      );
  }
}

function print(text: string): 0 {
  process.stdout.write(text);
  return 0;
}

function complain(line: string): 1 {
  process.stderr.write(`ilbd: ${line}\n`);
  return 1;
}

process.exit(await main(process.argv.slice(2)));
