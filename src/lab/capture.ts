/**
 * The command that captures frames on a port into a pcap file. tcpdump where it works; it gives up its rights before it
 * captures, which a user namespace with one mapped user does not allow, so there a few lines of Python do the same.
 */
import { readFileSync } from "node:fs";

/** Frames of IPv4 and IPv6 only, like the filter `ip or ip6`. Says "listening on" when it has begun, ends with SIGINT. */
const PYTHON = `
import signal, socket, struct, sys, time
port, snap = sys.argv[1], int(sys.argv[2])
tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
tap.bind((port, 0))
out = sys.stdout.buffer
out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snap, 1))
out.flush()
signal.signal(signal.SIGINT, lambda *_: (out.flush(), sys.exit(0)))
sys.stderr.write("listening on " + port + "\\n")
sys.stderr.flush()
while True:
    frame = tap.recv(1 << 18)
    if frame[12:14] in (b"\\x08\\x00", b"\\x86\\xdd"):
        now = time.time()
        kept = frame[:snap]
        out.write(struct.pack("<IIII", int(now), int(now % 1 * 1e6), len(kept), len(frame)) + kept)
        out.flush()
`;

/** Only one user is mapped: this is a user namespace of somebody without rights. */
function isUserNamespace(): boolean {
  const [, , count = "0"] = readFileSync("/proc/self/uid_map", "utf8").trim().split(/\s+/);
  return Number(count) === 1;
}

/**
 * Captures IPv4 and IPv6 frames in both directions until SIGINT; standard error says "listening on" when it has begun.
 * @param snapLength bytes kept of each frame.
 */
export function captureCommand(port: string, file: string, snapLength: number): string[] {
  const tcpdump = ["tcpdump", "-n", "-i", port, "-s", String(snapLength), "-U", "--immediate-mode", "-B", "16384"];
  const argv = isUserNamespace()
    ? ["python3", "-c", PYTHON, port, String(snapLength)]
    : [...tcpdump, "-w", "-", "ip or ip6"];
  // The shell opens the file, for a tcpdump that has given up its rights.
  return ["sh", "-c", `exec "$@" > ${file}`, "capture", ...argv];
}
