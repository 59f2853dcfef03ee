/** The dashboard's files, embedded in the build. They hold no data, so they need no right; the data does. */
import css from "./dashboard/dashboard.css" with { type: "text" };
import script from "./dashboard/dashboard.js" with { type: "text" };
import page from "./dashboard/index.html" with { type: "text" };

interface StaticFile {
  readonly type: string;
  readonly text: string;
}

/** By path. Types of text imports are the runtime's guess by file name, hence the conversions. */
export const DASHBOARD_FILES: Readonly<Record<string, StaticFile>> = {
  "/": { type: "text/html; charset=utf-8", text: page as unknown as string },
  "/dashboard.css": { type: "text/css; charset=utf-8", text: css as unknown as string },
  "/dashboard.js": { type: "text/javascript; charset=utf-8", text: script as unknown as string },
};

/** Nothing from elsewhere, no inline code. */
const SECURITY_HEADERS = {
  "content-security-policy":
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
  "cache-control": "no-cache",
};

/** @param path one of DASHBOARD_FILES */
export function dashboardResponse(path: string): Response {
  const file = DASHBOARD_FILES[path]!;
  return new Response(file.text, { headers: { ...SECURITY_HEADERS, "content-type": file.type } });
}
