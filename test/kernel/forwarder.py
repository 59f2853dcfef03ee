"""A router's two ends as TUN devices: packets written to one are routed to the other, or dropped on the way.

Reads lines "NUMBER HEX" (the whole packet), then "end HEX" with a packet that always passes; writes the numbers of
the packets that came out, separated by blanks, as one line. NUMBER stands in the packet: IPv4 identification, IPv6 flow label.
"""
import fcntl
import os
import select
import struct
import sys

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 1, 0x1000


def tun(name):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def number(packet):
    if packet[0] >> 4 == 4:
        return struct.unpack_from("!H", packet, 4)[0]
    return struct.unpack_from("!I", packet, 0)[0] & 0xFFFFF


def take(fd, found):
    while True:
        try:
            found.append(number(os.read(fd, 65536)))
        except BlockingIOError:
            return


# One processor, so that packets come out in the order in which they went in.
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
incoming, outgoing = tun("in0"), tun("out0")
print("ready", flush=True)
found = []
for line in sys.stdin:
    key, text = line.split()
    packet = bytes.fromhex(text)
    os.write(incoming, packet)
    take(outgoing, found)
    if key == "end":
        last = number(packet)
        while last not in found:
            if not select.select([outgoing], [], [], 10)[0]:
                print("lost", flush=True)
                sys.exit(1)
            take(outgoing, found)
        print(" ".join(str(n) for n in found if n != last), flush=True)
        found = []
