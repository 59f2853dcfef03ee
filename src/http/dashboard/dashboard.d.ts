/** dashboard.js as src/http/dashboard.ts imports it: its text. */
declare const text: string;
export default text;
