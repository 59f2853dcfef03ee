/** Where the kernel's share of the service reports to: one line each, about things that an administrator can act on. */
export interface KernelLog {
  info(message: string): void;
  warn(message: string): void;
}
