/** ilbadm explain on a running box: real routes and neighbours, live entries. */
import { expect, test } from "bun:test";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import { startBalancing, TEST_TIMEOUT_MS, targetOf, VIP_PORT, vipOf, withLab } from "../support/e2e.ts";

test.skipIf(!hasNamespaces || !hasTun).each(["packet", "tun"] as const)(
  "over the %s device explain tells the server of the next connection, its neighbour, and an entry that is there",
  async (io) => {
    await withLab({}, async (lab) => {
      const daemon = await startBalancing(lab, "HALF-NAT", "tcp", { io });
      await lab.client({ kind: "requests", ...targetOf(lab), count: 6, concurrency: 1 });
      const explain = (client: string, port: string): Promise<string> =>
        lab.configure("explain", "-i", `src=${client},dst=${vipOf(lab)},sport=${port},dport=${VIP_PORT}`);
      const fresh = await explain("203.0.113.250", "4");
      expect(fresh).toContain("           FLOW: new\n");
      expect(fresh).toContain("VERDICT: forward, flow-new: ");
      const egress = /EGRESS: (.*)/.exec(fresh)![1]!;
      const mac = "[0-9a-f]{2}(:[0-9a-f]{2}){5}";
      if (io === "tun") expect(egress).toMatch(/^ilb\d+, MTU \d+$/);
      else expect(egress).toMatch(new RegExp(`^[a-z0-9-]+, ${mac} > ${mac}, MTU 1500$`));
      expect(await explain("203.0.113.250", "4")).toBe(fresh);

      const [, client = "", port = ""] = /TCP: ([\d.]+)\.(\d+) > /.exec(await lab.configure("show-nat"))!;
      expect(await explain(client, port)).toContain("          ENTRY: ");
      expect(await daemon.stop("SIGTERM")).toBe(0);
    });
  },
  TEST_TIMEOUT_MS,
);
