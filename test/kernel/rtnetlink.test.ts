/** rtnetlink messages as bytes, the expected ones written from the structures of linux/rtnetlink.h. */
import { describe, expect, test } from "bun:test";
import { Attributes, MessageWriter, readMessages } from "../../src/kernel/netlink-codec.ts";
import {
  lookUpRoute,
  readEvent,
  readLink,
  readNeighbour,
  readRoute,
  useNeighbour,
} from "../../src/kernel/rtnetlink.ts";
import { ip } from "../support/addresses.ts";
import { fromHex, toHex } from "../support/packet-builder.ts";

describe("netlink codec", () => {
  test("a nest inside a nest has the lengths of what is in it, and reads back", () => {
    const bytes = new MessageWriter(16, 5)
      .fixed(new Uint8Array(16))
      .nest(18, (info) => info.text(1, "veth").nest(2, (data) => data.u32(7, 0x01020304)))
      .text(3, "a")
      .finish();
    expect(toHex(bytes)).toBe(
      `44000000 1000 0500 00000000 00000000 ${"00".repeat(16)} 1c001280 09000100 7665746800000000 0c000280 08000700 04030201 06000300 61000000`.replaceAll(
        " ",
        "",
      ),
    );
    const [message] = [...readMessages(bytes)];
    const attributes = new Attributes(message!.body.subarray(16));
    expect(attributes.nested(18)?.text(1)).toBe("veth");
    expect(attributes.nested(18)?.nested(2)?.u32(7)).toBe(0x01020304);
    expect(attributes.text(3)).toBe("a");
  });

  test("messages and attributes that are cut short are left out, whatever the cut", () => {
    const whole = new MessageWriter(28, 1)
      .fixed(new Uint8Array(12))
      .attribute(1, Uint8Array.of(192, 0, 2, 1))
      .finish();
    for (let length = 0; length < whole.length; length++)
      expect([...readMessages(whole.subarray(0, length))]).toEqual([]);
    const body = [...readMessages(whole)][0]!.body;
    for (let length = 0; length <= body.length; length++) {
      for (const read of [readLink, readNeighbour, readRoute])
        expect(() => read(body.subarray(0, length))).not.toThrow();
    }
  });

  test("an attribute with a length below its header or past the end ends the list", () => {
    expect(new Attributes(fromHex("0300 0100 00000000")).bytes(1)).toBeNull();
    expect(new Attributes(fromHex("ffff 0100 00000000")).bytes(1)).toBeNull();
  });
});

describe("rtnetlink", () => {
  test("a route look-up asks for one address", () => {
    expect(toHex(lookUpRoute(ip("192.0.2.7"), false))).toBe(
      "24000000 1a00 0100 00000000 00000000 02 20 00 00 00 00 00 00 00000000 08000100 c0000207".replaceAll(" ", ""),
    );
    expect(toHex(lookUpRoute(ip("192.0.2.7"), true)).slice(48, 56)).toBe("00200000");
  });

  test("a neighbour in use is a new one with the flag for use", () => {
    expect(toHex(useNeighbour(3, ip("192.0.2.7")))).toBe(
      "24000000 1c00 0504 00000000 00000000 02 00 0000 03000000 0000 01 00 08000100 c0000207".replaceAll(" ", ""),
    );
  });

  test("a multipath route gives all living paths, a gateway of the other family included", () => {
    const body = fromHex(
      // rtmsg: IPv4, /24, unicast; multipath: dead, gateway 192.0.2.9 by 2, via fe80::1 by 3
      "02 18 00 00 fe 03 00 01 00000000" +
        "3c000900" +
        "08 00 01 00 05000000" +
        "10 00 00 00 02000000 08000500 c0000209" +
        "20 00 00 00 03000000 16001200 0a00 fe800000000000000000000000000001 0000",
    );
    expect(readRoute(body)?.paths).toEqual([
      { index: 2, gateway: ip("192.0.2.9") },
      { index: 3, gateway: ip("fe80::1") },
    ]);
  });

  test("messages of bridge ports and of other kinds are no events", () => {
    const bridge = new Uint8Array(16);
    bridge[0] = 7;
    expect(readEvent({ type: 16, body: bridge })).toBeNull();
    expect(readEvent({ type: 17, body: bridge })).toBeNull();
    expect(readEvent({ type: 36, body: new Uint8Array(20) })).toBeNull();
    expect(readEvent({ type: 24, body: new Uint8Array(12) })).toEqual({ kind: "route" });
  });
});
