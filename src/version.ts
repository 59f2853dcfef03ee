/** The version that both programs print; package.json is its one source. */
import manifest from "../package.json" with { type: "json" };

export const VERSION: string = manifest.version;
