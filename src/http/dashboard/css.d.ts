/** Style sheets as src/http/dashboard.ts imports them: their text. */
declare module "*.css" {
  const text: string;
  export default text;
}
