/** The built engine as src/engine/module.ts imports it: the path of the file inside the executable. */
declare module "*.wasm" {
  const path: string;
  export default path;
}
