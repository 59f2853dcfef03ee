/** How services are called in listings: one word each, so that columns stay columns. */
import type { Service } from "./schema.ts";

/** The name of a service, or its first token where the name has blanks. */
export const serviceLabel = ({ name, tokens }: Service): string => (/\s/.test(name) ? (tokens[0] ?? name) : name);
